package layer

import (
	"github.com/fathom-train/fathom/compute/kernel"
	"github.com/fathom-train/fathom/compute/random"
)

// LayerNorm normalises every row of its input [n, Width] by its own mean and
// (biased) variance, scales it by gamma [Width] and shifts it by beta [Width].
type LayerNorm struct {
	Width int

	xhat    []float32 // [n, Width], the normalised input
	inverse []float32 // [n], 1/sqrt(variance+epsilon)
}

// params lists gamma and beta.
func (l *LayerNorm) params(name string) []Param {
	return []Param{
		{Name: name + ".weight", Shape: []int{l.Width}, Init: random.Init{Kind: "constant", Scale: 1}},
		{Name: name + ".bias", Shape: []int{l.Width}},
	}
}

// Forward computes y [n, Width] from x [n, Width]; they may be the same.
func (l *LayerNorm) Forward(y, x, gamma, beta []float32, n int) {
	check("output of the normalisation", len(y), n*l.Width)
	check("input of the normalisation", len(x), n*l.Width)
	check("gamma", len(gamma), l.Width)
	l.reset(n)
	l.forward(0, y, x, gamma, beta)
}

// reset makes room for a batch of n rows.
func (l *LayerNorm) reset(n int) {
	l.xhat, l.inverse = grow(l.xhat, n*l.Width), grow(l.inverse, n)
}

// forward computes some rows of a batch; the first one has the given number.
func (l *LayerNorm) forward(first int, y, x, gamma, beta []float32) {
	xhat, inverse := l.xhat[first*l.Width:][:len(x)], l.inverse[first:][:len(x)/l.Width]
	kernel.LayerNormRows(y, xhat, inverse, x, gamma, beta, epsilon)
}

// Backward overwrites dx [n, Width], dgamma and dbeta [Width], given dy
// [n, Width]; dx and dy may be the same.
func (l *LayerNorm) Backward(dx, dgamma, dbeta, dy, gamma []float32) {
	check("gradient of the normalisation", len(dy), len(l.xhat))
	check("input gradient of the normalisation", len(dx), len(l.xhat))
	check("gamma", len(gamma), l.Width)
	clear(dgamma)
	clear(dbeta)
	l.add(dx, dgamma, dbeta, dy, gamma)
}

// add is Backward, but adds to dgamma and dbeta.
func (l *LayerNorm) add(dx, dgamma, dbeta, dy, gamma []float32) {
	kernel.LayerNormRowsGrad(dx, dgamma, dbeta, dy, l.xhat, l.inverse, gamma)
}
