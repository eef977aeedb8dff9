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
	x        []float32   // [n, Width], the caller's
	norm     kernel.Norm // of the last Forward or Infer
	mean     []float32   // [Width], of the lane
	variance []float32   // [Width], of the lane, biased
	inverse  []float32   // [Width], 1/sqrt(variance+epsilon)
	scale    []float32   // [Width], gamma/sqrt(variance+epsilon)
	shift    []float32   // [Width], -mean(dy)
	slope    []float32   // [Width], -mean(dy*xhat)
}

// Forward computes y [n, Width] from x [n, Width] with the lane's statistics.
// x must stay unchanged until Backward is done.
func (b *BatchNorm) Forward(y, x, gamma, beta []float32, n int) {
	check("output of the normalisation", len(y), n*b.Width)
	b.observe(x, gamma, beta, n)
	b.norm.Normalize(y, x, false)
}

// observe computes the lane's statistics, with which b.norm then normalises.
func (b *BatchNorm) observe(x, gamma, beta []float32, n int) {
	b.prepare(x, gamma, beta, n)
	b.n, b.x = n, x
	clear(b.mean)
	clear(b.variance)
	// The two passes cost one more read of x than sum and sum of squares would,
	// and do not cancel when the mean is large against the deviation.
	if n > 0 {
		kernel.SumRows(b.mean, x)
		divide(b.mean, float32(n))
		kernel.SumSquaresRows(b.variance, x, b.mean)
		divide(b.variance, float32(n))
	}
	b.invert(b.variance)
	b.norm = kernel.Norm{Mean: b.mean, Inverse: b.inverse, Gamma: gamma, Beta: beta}
}

// Infer computes y [n, Width] from x [n, Width] with the running statistics.
// y and x may be the same.
func (b *BatchNorm) Infer(y, x, gamma, beta, runningMean, runningVar []float32, n int) {
	check("output of the normalisation", len(y), n*b.Width)
	b.known(x, gamma, beta, runningMean, runningVar, n)
	b.norm.Normalize(y, x, false)
}

// known makes b.norm normalise with the running statistics.
func (b *BatchNorm) known(x, gamma, beta, runningMean, runningVar []float32, n int) {
	b.prepare(x, gamma, beta, n)
	check("running mean", len(runningMean), b.Width)
	check("running variance", len(runningVar), b.Width)
	b.n = -1 // no Backward
	b.invert(runningVar)
	b.norm = kernel.Norm{Mean: runningMean, Inverse: b.inverse, Gamma: gamma, Beta: beta}
}

// Backward overwrites dx [n, Width], dgamma and dbeta [Width], given dy
// [n, Width]; dx and dy may be the same.
//
//	dx = gamma/sqrt(variance+epsilon) * (dy - mean(dy) - xhat*mean(dy*xhat))
func (b *BatchNorm) Backward(dx, dgamma, dbeta, dy, gamma []float32) {
	check("gradient of the normalisation", len(dy), b.n*b.Width)
	check("input gradient of the normalisation", len(dx), b.n*b.Width)
	b.clearSums(dgamma, dbeta)
	b.norm.GradSums(dgamma, dbeta, dy, b.x)
	b.closeSums(dgamma, dbeta, gamma)
	b.inputGrad(dx, dy, 0)
}

// clearSums begins a backward pass: norm.GradSums follows, for all rows.
func (b *BatchNorm) clearSums(dgamma, dbeta []float32) {
	check("gamma gradient", len(dgamma), b.Width)
	check("beta gradient", len(dbeta), b.Width)
	clear(dgamma)
	clear(dbeta)
}

// closeSums turns the complete sums into what inputGrad needs.
func (b *BatchNorm) closeSums(dgamma, dbeta, gamma []float32) {
	kernel.Mul(b.scale, gamma, b.inverse)
	n := float32(max(1, b.n))
	for j := range b.shift {
		b.shift[j] = -dbeta[j] / n
		b.slope[j] = -dgamma[j] / n
	}
}

// inputGrad computes dx of the rows that begin with element first.
func (b *BatchNorm) inputGrad(dx, dy []float32, first int) {
	b.norm.InputGrad(dx, dy, b.x[first:first+len(dy)], b.slope, b.shift, b.scale)
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
func (b *BatchNorm) prepare(x, gamma, beta []float32, n int) {
	check("input of the normalisation", len(x), n*b.Width)
	check("gamma", len(gamma), b.Width)
	check("beta", len(beta), b.Width)
	if b.mean != nil {
		return
	}
	for _, row := range []*[]float32{&b.mean, &b.variance, &b.inverse, &b.scale, &b.shift, &b.slope} {
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
