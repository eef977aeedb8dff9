package layer

import (
	"math"

	"github.com/fathom-train/fathom/compute/kernel"
)

// LayerNorm normalises every row of its input [n, Width] by its own mean and
// (biased) variance, scales it by gamma [Width] and shifts it by beta [Width].
type LayerNorm struct {
	Width int

	n       int
	xhat    []float32 // [n, Width], the normalised input
	inverse []float32 // [n], 1/sqrt(variance+epsilon)
	slope   []float32 // [Width], scratch
}

// Forward computes y [n, Width] from x [n, Width]; they may be the same.
func (l *LayerNorm) Forward(y, x, gamma, beta []float32, n int) {
	check("output of the normalisation", len(y), n*l.Width)
	check("input of the normalisation", len(x), n*l.Width)
	l.n, l.xhat, l.inverse = n, grow(l.xhat, n*l.Width), grow(l.inverse, n)
	size := float32(l.Width)
	for i := range n {
		at := i * l.Width
		row, out := l.xhat[at:at+l.Width], y[at:at+l.Width]
		mean := kernel.Sum(x[at:at+l.Width]) / size
		for j, v := range x[at : at+l.Width] {
			row[j] = v - mean
		}
		variance := kernel.SumSquares(row) / size
		l.inverse[i] = 1 / float32(math.Sqrt(float64(variance+epsilon)))
		kernel.Scale(l.inverse[i], row)
		kernel.Mul(out, row, gamma)
		kernel.Add(out, beta)
	}
}

// Backward overwrites dx [n, Width], dgamma and dbeta [Width], given dy
// [n, Width]; dx and dy may be the same. With g = gamma*dy:
//
//	dx = (g - mean(g) - xhat*mean(g*xhat)) / sqrt(variance+epsilon)
func (l *LayerNorm) Backward(dx, dgamma, dbeta, dy, gamma []float32) {
	check("gradient of the normalisation", len(dy), l.n*l.Width)
	check("input gradient of the normalisation", len(dx), l.n*l.Width)
	l.slope = grow(l.slope, l.Width)
	clear(dgamma)
	clear(dbeta)
	kernel.SumRows(dbeta, dy)
	size := float32(l.Width)
	for i := range l.n {
		at := i * l.Width
		row, out := l.xhat[at:at+l.Width], dx[at:at+l.Width]
		kernel.Mul(l.slope, dy[at:at+l.Width], row)
		kernel.Add(dgamma, l.slope)
		kernel.Mul(out, dy[at:at+l.Width], gamma)
		mean, slope := kernel.Sum(out)/size, kernel.Dot(out, row)/size
		for j, v := range row {
			out[j] = (out[j] - mean - float32(v*slope)) * l.inverse[i]
		}
	}
}
