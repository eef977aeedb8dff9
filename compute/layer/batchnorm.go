package layer

import (
	"math"

	"github.com/fathom-train/fathom/compute/kernel"
)

// epsilon is added to every variance, as in PyTorch's default.
const epsilon = 1e-5

// BatchNorm normalises every column of its input [n, Width] and then scales it
// by gamma [Width] and shifts it by beta [Width]. In training it uses the mean
// and the (biased) variance of the lane's own samples; in evaluation it uses
// the running ones, so that a sample's result does not depend on its batch.
//
// A lane of one sample has variance zero: its normalised values and the
// gradient to its input are zero.
type BatchNorm struct {
	Width int

	n        int
	xhat     []float32 // [n, Width], the normalised input
	mean     []float32 // [Width], of the lane
	variance []float32 // [Width], of the lane, biased
	inverse  []float32 // [Width], 1/sqrt(variance+epsilon)
	row      []float32 // [Width], scratch, as are the next three
	scale    []float32 // gamma/sqrt(variance+epsilon)
	shift    []float32 // -mean(dy)
	slope    []float32 // -mean(dy*xhat)
}

// Forward computes y [n, Width] from x [n, Width] with the lane's statistics.
// y and x may be the same.
func (b *BatchNorm) Forward(y, x, gamma, beta []float32, n int) {
	b.prepare(y, x, gamma, beta, n)
	b.n = n
	b.xhat = grow(b.xhat, n*b.Width)
	clear(b.mean)
	clear(b.variance)
	// The two passes cost one more read of x than sum and sum of squares would,
	// and do not cancel when the mean is large against the deviation.
	kernel.SumRows(b.mean, x)
	if n > 0 {
		divide(b.mean, float32(n))
	}
	for at := 0; at < n*b.Width; at += b.Width {
		centred := b.xhat[at : at+b.Width]
		copy(centred, x[at:at+b.Width])
		kernel.Axpy(-1, b.mean, centred)
		kernel.Mul(b.row, centred, centred)
		kernel.Add(b.variance, b.row)
	}
	if n > 0 {
		divide(b.variance, float32(n))
	}
	b.invert(b.variance)
	for at := 0; at < n*b.Width; at += b.Width {
		normal, out := b.xhat[at:at+b.Width], y[at:at+b.Width]
		kernel.Mul(normal, normal, b.inverse)
		kernel.Mul(out, normal, gamma)
		kernel.Add(out, beta)
	}
}

// Infer computes y [n, Width] from x [n, Width] with the running statistics.
// y and x may be the same.
func (b *BatchNorm) Infer(y, x, gamma, beta, runningMean, runningVar []float32, n int) {
	b.prepare(y, x, gamma, beta, n)
	check("running mean", len(runningMean), b.Width)
	check("running variance", len(runningVar), b.Width)
	b.n = -1 // no Backward
	b.invert(runningVar)
	for at := 0; at < n*b.Width; at += b.Width {
		out := y[at : at+b.Width]
		copy(b.row, x[at:at+b.Width])
		kernel.Axpy(-1, runningMean, b.row)
		kernel.Mul(b.row, b.row, b.inverse)
		kernel.Mul(out, b.row, gamma)
		kernel.Add(out, beta)
	}
}

// Backward overwrites dx [n, Width], dgamma and dbeta [Width], given dy
// [n, Width]; dx and dy may be the same.
//
//	dx = gamma/sqrt(variance+epsilon) * (dy - mean(dy) - xhat*mean(dy*xhat))
func (b *BatchNorm) Backward(dx, dgamma, dbeta, dy, gamma []float32) {
	check("gradient of the normalisation", len(dy), b.n*b.Width)
	check("input gradient of the normalisation", len(dx), b.n*b.Width)
	check("gamma gradient", len(dgamma), b.Width)
	check("beta gradient", len(dbeta), b.Width)
	clear(dgamma)
	clear(dbeta)
	kernel.SumRows(dbeta, dy)
	for at := 0; at < len(dy); at += b.Width {
		kernel.Mul(b.row, dy[at:at+b.Width], b.xhat[at:at+b.Width])
		kernel.Add(dgamma, b.row)
	}
	if b.n == 0 {
		return
	}
	kernel.Mul(b.scale, gamma, b.inverse)
	for j := range b.shift {
		b.shift[j] = -dbeta[j] / float32(b.n)
		b.slope[j] = -dgamma[j] / float32(b.n)
	}
	for at := 0; at < len(dy); at += b.Width {
		kernel.Mul(b.row, b.xhat[at:at+b.Width], b.slope)
		kernel.Add(b.row, b.shift)
		kernel.Add(b.row, dy[at:at+b.Width])
		kernel.Mul(dx[at:at+b.Width], b.row, b.scale)
	}
}

// Running overwrites mean and variance [Width] with share times the lane's mean
// and unbiased variance, what the running statistics follow.
func (b *BatchNorm) Running(mean, variance []float32, share float32) {
	check("running mean gradient", len(mean), b.Width)
	check("running variance gradient", len(variance), b.Width)
	unbiased := float32(1)
	if b.n > 1 {
		unbiased = float32(b.n) / float32(b.n-1)
	}
	for j := range mean {
		mean[j] = b.mean[j] * share
		variance[j] = float32(b.variance[j]*unbiased) * share
	}
}

// prepare checks the shapes of a forward pass and makes the scratch rows.
func (b *BatchNorm) prepare(y, x, gamma, beta []float32, n int) {
	check("output of the normalisation", len(y), n*b.Width)
	check("input of the normalisation", len(x), n*b.Width)
	check("gamma", len(gamma), b.Width)
	check("beta", len(beta), b.Width)
	if b.row != nil {
		return
	}
	for _, row := range []*[]float32{&b.mean, &b.variance, &b.inverse, &b.row, &b.scale, &b.shift, &b.slope} {
		*row = make([]float32, b.Width)
	}
}

// invert sets b.inverse to 1/sqrt(variance+epsilon). The division and the
// square root are exact operations, unlike the estimate of rsqrt.
func (b *BatchNorm) invert(variance []float32) {
	for j, v := range variance {
		b.inverse[j] = 1 / float32(math.Sqrt(float64(v+epsilon)))
	}
}

// divide divides every element of x by n.
func divide(x []float32, n float32) {
	for j := range x {
		x[j] /= n
	}
}
