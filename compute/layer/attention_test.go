package layer

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/fathom-train/fathom/compute/gemm"
	"github.com/fathom-train/fathom/compute/random"
)

// attention adapts a SelfAttention in training to stack.
type attention struct{ *SelfAttention }

const attentionStream = 77

func (a attention) Forward(p [][]float32, x []float32, n int) []float32 {
	return a.SelfAttention.Forward(p, x, n, true, attentionStream)
}

func TestSelfAttentionMatchesReference(t *testing.T) {
	for _, a := range []SelfAttention{
		{Fields: 1, In: 1, Out: 1, Heads: 1},
		{Fields: 4, In: 3, Out: 6, Heads: 2, Residual: true},
		{Fields: 3, In: 4, Out: 4, Heads: 4, Residual: true, Scale: true},
		{Fields: 5, In: 3, Out: 4, Heads: 2, Residual: true, Scale: true, Norm: true},
		{Fields: 4, In: 6, Out: 6, Heads: 2, Scale: true, Norm: true, Rate: 0.3},
		{Fields: 3, In: 20, Out: 34, Heads: 2, Rate: 0.1},
		{Fields: 5, In: 3, Out: 4, Heads: 2, Residual: true, Scale: true, Norm: true, Peri: true},
		{Fields: 3, In: 4, Out: 4, Heads: 2, Residual: true, Norm: true, Peri: true, Rate: 0.3},
		{Fields: 3, In: 4, Out: 6, Heads: 1, Norm: true, Peri: true},
	} {
		t.Run(fmt.Sprintf("%+v", []any{a.Fields, a.In, a.Out, a.Heads, a.Residual, a.Scale, a.Norm, a.Peri, a.Rate}), func(t *testing.T) {
			const n = 3
			mask := make([]float32, n*a.Heads*a.Fields*a.Fields)
			for i := range mask {
				mask[i] = 1
			}
			if a.Rate > 0 {
				d := Dropout{Rate: a.Rate}
				d.Forward(mask, mask, random.Stream(attentionStream, random.Dropout, 0, 0, 0))
			}
			checkStack(t, attention{&a}, n, a.Fields*a.In, a.Fields*a.Out, func(p [][]float64, x []float64) []float64 {
				var y []float64
				for i := range n {
					y = append(y, a.reference(p, x[i*a.Fields*a.In:(i+1)*a.Fields*a.In], mask[i*a.Heads*a.Fields*a.Fields:])...)
				}
				return y
			})
		})
	}
}

// reference is the layer of one sample.
func (a *SelfAttention) reference(p [][]float64, x []float64, mask []float32) []float64 {
	project := func(x, w []float64) []float64 {
		return linearReference(x, w, make([]float64, a.Out), a.Fields, a.In, a.Out)
	}
	in, at := x, a.atNorm()
	if a.Peri {
		in = layerNormReference(x, p[at+2], p[at+3])
	}
	q, k, v := project(in, p[0]), project(in, p[1]), project(in, p[2])
	residual := make([]float64, a.Fields*a.Out)
	switch {
	case a.Residual && a.In == a.Out:
		copy(residual, x)
	case a.Residual:
		residual = project(x, p[3])
	}
	y := make([]float64, a.Fields*a.Out)
	width := a.Out / a.Heads
	for h := range a.Heads {
		for f := range a.Fields {
			weights, total := make([]float64, a.Fields), 0.0
			for g := range weights {
				s := 0.0
				for d := h * width; d < (h+1)*width; d++ {
					s += q[f*a.Out+d] * k[g*a.Out+d]
				}
				if a.Scale {
					s /= math.Sqrt(float64(width))
				}
				weights[g] = math.Exp(s)
				total += weights[g]
			}
			for g, w := range weights {
				for d := h * width; d < (h+1)*width; d++ {
					y[f*a.Out+d] += w / total * float64(mask[(h*a.Fields+f)*a.Fields+g]) * v[g*a.Out+d]
				}
			}
		}
	}
	if a.Peri {
		y = layerNormReference(y, p[at], p[at+1])
	}
	for i, v := range residual {
		y[i] += v
	}
	if a.Norm && !a.Peri {
		y = layerNormReference(y, p[at], p[at+1])
	}
	for i, v := range y {
		y[i] = max(v, 0)
	}
	return y
}

func layerNormReference(x, gamma, beta []float64) []float64 {
	width := len(gamma)
	y := make([]float64, len(x))
	for at := 0; at < len(x); at += width {
		mean, variance := 0.0, 0.0
		for _, v := range x[at : at+width] {
			mean += v / float64(width)
		}
		for _, v := range x[at : at+width] {
			variance += (v - mean) * (v - mean) / float64(width)
		}
		for j, v := range x[at : at+width] {
			y[at+j] = (v-mean)/math.Sqrt(variance+1e-5)*gamma[j] + beta[j]
		}
	}
	return y
}

func TestLayerNormMatchesReference(t *testing.T) {
	for _, shape := range [][2]int{{1, 2}, {6, 5}, {4, 130}} {
		n, width := shape[0], shape[1]
		l := LayerNorm{Width: width}
		x, gamma, beta, dy := values(1, n*width), values(2, width), values(3, width), values(4, n*width)
		x64, gamma64, beta64 := wide(x), wide(gamma), wide(beta)
		y, dgamma, dbeta := slices.Clone(x), values(9, width), values(9, width)
		l.Forward(y, y, gamma, beta, n)
		near(t, "y", y, layerNormReference(x64, gamma64, beta64))
		g := slices.Clone(dy)
		l.Backward(g, dgamma, dbeta, g, gamma)
		loss := func() float64 { return dot(dy, layerNormReference(x64, gamma64, beta64)) }
		near(t, "dgamma", dgamma, numeric(loss, gamma64))
		near(t, "dbeta", dbeta, numeric(loss, beta64))
		near(t, "dx", g, numeric(loss, x64))
	}
}

func TestSoftmaxBearsLargeScores(t *testing.T) {
	x := []float32{1e30, -1e30, 1e30, 3, 3, 3}
	softmaxRows(x, 3)
	equalBits(t, "softmax", x, []float32{0.5, 0, 0.5, 1.0 / 3, 1.0 / 3, 1.0 / 3})
}

// One goroutine and several must give the same bits, whatever pieces the
// samples are cut into.
func TestSelfAttentionIsTheSameOnAnyNumberOfGoroutines(t *testing.T) {
	defer gemm.SetThreads(1)
	for _, a := range []SelfAttention{
		{Fields: 7, In: 64, Out: 64, Heads: 2, Residual: true, Rate: 0.2},
		{Fields: 39, In: 16, Out: 64, Heads: 2, Residual: true, Scale: true, Norm: true},
		{Fields: 7, In: 16, Out: 64, Heads: 2, Residual: true, Norm: true, Peri: true},
	} {
		n := 3*a.PieceSize() + 1
		var p [][]float32
		for i, param := range a.Params("a") {
			p = append(p, values(uint64(i), param.Size()))
		}
		x, dy := values(100, n*a.Fields*a.In), values(101, n*a.Fields*a.Out)
		run := func(threads, n int) (y, dx []float32, dp [][]float32) {
			gemm.SetThreads(threads)
			b := SelfAttention{Fields: a.Fields, In: a.In, Out: a.Out, Heads: a.Heads, Residual: a.Residual, Scale: a.Scale, Norm: a.Norm, Peri: a.Peri, Rate: a.Rate}
			for _, w := range p {
				dp = append(dp, make([]float32, len(w)))
			}
			y = slices.Clone(b.Forward(p, x[:n*a.Fields*a.In], n, true, attentionStream))
			dx = make([]float32, n*a.Fields*a.In)
			b.Backward(p, dp, dx, slices.Clone(dy[:n*a.Fields*a.Out]))
			return y, dx, dp
		}
		y, dx, dp := run(1, n)
		y3, dx3, dp3 := run(3, n)
		equalBits(t, "y", y3, y)
		equalBits(t, "dx", dx3, dx)
		for i := range dp {
			equalBits(t, fmt.Sprint("gradient ", i), dp3[i], dp[i])
		}
		// A sample alone is what it is among others.
		y1, dx1, _ := run(1, 1)
		equalBits(t, "y of one sample", y[:len(y1)], y1)
		equalBits(t, "dx of one sample", dx[:len(dx1)], dx1)
	}
}
