package layer

import (
	"github.com/fathom-train/fathom/compute/gemm"
	"github.com/fathom-train/fathom/compute/kernel"
)

// Joined is a Linear with one output whose input is several matrices side by
// side. It has the bits of a Linear over their copies in one matrix, but leaves
// them where they are.
type Joined struct {
	// Widths are those of the inputs.
	Widths []int

	x [][]float32 // [n, Widths[i]], the caller's
}

// In is the width of all inputs together.
func (j *Joined) In() int {
	in := 0
	for _, w := range j.Widths {
		in += w
	}
	return in
}

// Forward computes y [n] from the inputs x, which it keeps for Backward.
func (j *Joined) Forward(y []float32, x [][]float32, w, b []float32) {
	n := len(y)
	check("inputs of the joined layer", len(x), len(j.Widths))
	check("weight of the joined layer", len(w), j.In())
	j.x = x
	for i, width := range j.Widths {
		check("input of the joined layer", len(x[i]), n*width)
		if n > 0 {
			// The sum over one input goes on with that over the next.
			gemm.Gemm(false, true, n, 1, width, x[i], width, w[:width], width, y, 1, i > 0)
		}
		w = w[width:]
	}
	kernel.AddBias(y, n, 1, b)
}

// Backward overwrites dw [In], db [1] and dx, given dy [n].
func (j *Joined) Backward(dx [][]float32, dw, db, dy, w []float32) {
	n := len(dy)
	check("input gradients of the joined layer", len(dx), len(j.Widths))
	for i, width := range j.Widths {
		check("input gradient of the joined layer", len(dx[i]), n*width)
		if n > 0 {
			gemm.Gemm(true, false, 1, width, n, dy, 1, j.x[i], width, dw[:width], width, false)
			gemm.Gemm(false, false, n, width, 1, dy, 1, w[:width], width, dx[i], width, false)
		} else {
			clear(dw[:width])
		}
		dw, w = dw[width:], w[width:]
	}
	clear(db)
	kernel.SumRows(db, dy)
}
