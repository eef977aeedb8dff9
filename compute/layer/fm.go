package layer

import "github.com/fathom-train/fathom/compute/kernel"

// FM is the second-order term of a factorization machine, without weights:
// half of the sum over dimensions of (sum over fields of e)^2 - sum over fields
// of e^2, which is the sum of the dot products of all pairs of fields.
type FM struct {
	// Fields and Dim are the shape of one sample's embeddings.
	Fields, Dim int

	x    []float32 // [n, Fields*Dim], the caller's
	sum  []float32 // [n, Dim], the sum over fields
	wide []float32 // [Fields*Dim], the sum of one sample once for every field
}

// Forward computes y [n] from the embeddings x [n, Fields*Dim].
func (f *FM) Forward(y, x []float32) {
	n, width := len(y), f.Fields*f.Dim
	check("input of the factorization machine", len(x), n*width)
	f.x, f.sum = x, grow(f.sum, n*f.Dim)
	clear(f.sum)
	for i := range y {
		row, sum := x[i*width:(i+1)*width], f.sum[i*f.Dim:(i+1)*f.Dim]
		kernel.SumRows(sum, row)
		y[i] = 0.5 * (kernel.SumSquares(sum) - kernel.SumSquares(row))
	}
}

// Backward overwrites dx [n, Fields*Dim] with the gradient dy [n] * (sum - e),
// or adds it when other layers have left theirs there.
func (f *FM) Backward(dx, dy []float32, add bool) {
	check("gradient of the factorization machine", len(dy)*f.Dim, len(f.sum))
	check("input gradient of the factorization machine", len(dx), len(f.x))
	width := f.Fields * f.Dim
	f.wide = grow(f.wide, width)
	for i, g := range dy {
		// Twice as much with every copy.
		for at := copy(f.wide, f.sum[i*f.Dim:(i+1)*f.Dim]); at < width; at *= 2 {
			copy(f.wide[at:], f.wide[:at])
		}
		at := i * width
		kernel.PairsGrad(dx[at:at+width], f.x[at:at+width], f.wide, g, add)
	}
}
