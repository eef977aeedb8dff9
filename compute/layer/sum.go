package layer

import "github.com/fathom-train/fathom/compute/kernel"

// Sum is the first-order part of the models: per sample the sum of its fields'
// weights, and a bias where the model has one.
type Sum struct {
	// Width is the number of values per sample.
	Width int

	goesOn bool // Continue was called
}

// Continue says that the samples of the next Backward follow those of the last
// one: it goes on with the sum in db.
func (s *Sum) Continue() { s.goesOn = true }

// Forward computes y [n] = sum over x [n, Width], plus b [1] unless b is nil.
func (s *Sum) Forward(y, x, b []float32) {
	n := len(y)
	check("input of the sum", len(x), n*s.Width)
	for i := range y {
		y[i] = kernel.Sum(x[i*s.Width : (i+1)*s.Width])
	}
	if b != nil {
		for i := range y {
			y[i] += b[0]
		}
	}
}

// Backward overwrites dx [n, Width], and db [1] unless db is nil, given dy [n].
func (s *Sum) Backward(dx, db, dy []float32) {
	check("input gradient of the sum", len(dx), len(dy)*s.Width)
	for i, g := range dy {
		row := dx[i*s.Width : (i+1)*s.Width]
		for j := range row {
			row[j] = g
		}
	}
	if db != nil {
		var sum float32
		if s.goesOn {
			sum = db[0]
		}
		for _, g := range dy {
			sum += g
		}
		db[0] = sum
	}
	s.goesOn = false
}
