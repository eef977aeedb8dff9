package layer

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/fathom-train/fathom/compute/random"
)

// pooling adapts an AttentionPool in training to stack.
type pooling struct{ *AttentionPool }

func (a pooling) Forward(p [][]float32, x []float32, n int) []float32 {
	return a.AttentionPool.Forward(p, x, n, true, attentionStream)
}

func TestAttentionPoolMatchesReference(t *testing.T) {
	for _, a := range []AttentionPool{
		{Fields: 2, Dim: 1, Width: 1},
		{Fields: 4, Dim: 3, Width: 5},
		{Fields: 3, Dim: 17, Width: 2, WeightRate: 0.3, PoolRate: 0.2},
	} {
		t.Run(fmt.Sprint(a.Fields, a.Dim, a.Width), func(t *testing.T) {
			const n = 3
			masks := [2][]float32{make([]float32, n*a.Pairs()), make([]float32, n*a.Dim)}
			for i, rate := range []float32{a.WeightRate, a.PoolRate} {
				for j := range masks[i] {
					masks[i][j] = 1
				}
				if rate > 0 {
					d := Dropout{Rate: rate}
					d.Forward(masks[i], masks[i], random.Stream(attentionStream, random.Dropout, uint64(i), 0, 0))
				}
			}
			checkStack(t, pooling{&a}, n, a.Fields*a.Dim, a.Dim, func(p [][]float64, x []float64) []float64 {
				var y []float64
				for i := range n {
					y = append(y, a.reference(p, x[i*a.Fields*a.Dim:], masks[0][i*a.Pairs():], masks[1][i*a.Dim:])...)
				}
				return y
			})
		})
	}
}

// reference is the pooling of one sample.
func (l *AttentionPool) reference(p [][]float64, x []float64, weights, pool []float32) []float64 {
	var products [][]float64
	var scores []float64
	total := 0.0
	for i := range l.Fields {
		for j := i + 1; j < l.Fields; j++ {
			product := make([]float64, l.Dim)
			for d := range product {
				product[d] = x[i*l.Dim+d] * x[j*l.Dim+d]
			}
			score := 0.0
			for w, v := range linearReference(product, p[0], p[1], 1, l.Dim, l.Width) {
				score += max(v, 0) * p[2][w]
			}
			products, scores = append(products, product), append(scores, math.Exp(score))
			total += math.Exp(score)
		}
	}
	y := make([]float64, l.Dim)
	for k, product := range products {
		for d, v := range product {
			y[d] += scores[k] / total * float64(weights[k]) * v * float64(pool[d])
		}
	}
	return y
}

func TestAttentionPoolBlocksDoNotChangeTheResult(t *testing.T) {
	const n, fields, dim = 30, 20, 8
	a, alone := AttentionPool{Fields: fields, Dim: dim, Width: 100}, AttentionPool{Fields: fields, Dim: dim, Width: 100}
	p, dp := tensors(a.Params("a"))
	x, dy, dx := values(1, n*fields*dim), values(2, n*dim), make([]float32, n*fields*dim)
	whole := a.Forward(p, x, n, true, 1)
	if _, count := a.block(0); count >= n {
		t.Fatalf("one block of %d samples", count)
	}
	a.Backward(p, dp, dx, slices.Clone(dy))
	for i := range n {
		part, g, d := x[i*fields*dim:(i+1)*fields*dim], slices.Clone(dy[i*dim:(i+1)*dim]), make([]float32, fields*dim)
		equalBits(t, fmt.Sprint("sample ", i), alone.Forward(p, part, 1, true, 1), whole[i*dim:(i+1)*dim])
		_, scratch := tensors(a.Params("a"))
		alone.Backward(p, scratch, d, g)
		equalBits(t, fmt.Sprint("gradient of sample ", i), d, dx[i*fields*dim:(i+1)*fields*dim])
	}
}

func TestPairProductsMatchReference(t *testing.T) {
	for _, shape := range [][3]int{{1, 2, 1}, {3, 4, 5}, {2, 5, 20}} {
		n, fields, dim := shape[0], shape[1], shape[2]
		l := PairProducts{Fields: fields, Dim: dim}
		pairs := l.Pairs()
		stride := pairs + 2
		reference := func(x []float64) []float64 {
			y := make([]float64, n*pairs)
			for i := range n {
				at := i * pairs
				for a := range fields {
					for b := a + 1; b < fields; b++ {
						for d := range dim {
							y[at] += x[(i*fields+a)*dim+d] * x[(i*fields+b)*dim+d]
						}
						at++
					}
				}
			}
			return y
		}
		x, y, dy, dx := values(1, n*fields*dim), values(9, n*stride), values(2, n*stride), values(3, n*fields*dim)
		x64, there := wide(x), slices.Clone(dx)
		got, g := make([]float32, n*pairs), make([]float32, n*pairs)
		l.Forward(y, stride, x, n)
		CopyRows(got, pairs, y, stride, pairs, n)
		CopyRows(g, pairs, dy, stride, pairs, n)
		near(t, "y", got, reference(x64))
		l.Backward(dx, dy, stride)
		want := numeric(func() float64 { return dot(g, reference(x64)) }, x64)
		for i := range want {
			want[i] += float64(there[i])
		}
		near(t, "dx", dx, want)
		if rest := values(9, n*stride)[pairs]; y[pairs] != rest {
			t.Errorf("wrote between the rows: %v, was %v", y[pairs], rest)
		}
	}
}

func TestBiInteractionMatchesReference(t *testing.T) {
	for _, shape := range [][3]int{{1, 1, 1}, {3, 4, 5}, {2, 5, 20}} {
		n, fields, dim := shape[0], shape[1], shape[2]
		l := BiInteraction{Fields: fields, Dim: dim}
		reference := func(x []float64) []float64 {
			y := make([]float64, n*dim)
			for i := range y {
				for a := range fields {
					for b := range a {
						y[i] += x[(i/dim*fields+a)*dim+i%dim] * x[(i/dim*fields+b)*dim+i%dim]
					}
				}
			}
			return y
		}
		x, y, dy, dx := values(1, n*fields*dim), values(9, n*dim), values(2, n*dim), values(9, n*fields*dim)
		x64 := wide(x)
		l.Forward(y, x, n)
		near(t, "y", y, reference(x64))
		l.Backward(dx, dy)
		near(t, "dx", dx, numeric(func() float64 { return dot(dy, reference(x64)) }, x64))
	}
}

func TestFieldAwareMatchesReference(t *testing.T) {
	for _, shape := range [][3]int{{1, 2, 1}, {3, 4, 5}, {2, 3, 20}} {
		n, fields, dim := shape[0], shape[1], shape[2]
		l := FieldAware{Fields: fields, Dim: dim}
		width := fields * (fields - 1) * dim
		// vector returns that of field f for field g.
		vector := func(x []float64, f, g int) []float64 {
			if g > f {
				g--
			}
			return x[(f*(fields-1)+g)*dim:]
		}
		reference := func(x []float64) []float64 {
			y := make([]float64, n)
			for i := range y {
				for a := range fields {
					for b := range a {
						for d := range dim {
							y[i] += vector(x[i*width:], a, b)[d] * vector(x[i*width:], b, a)[d]
						}
					}
				}
			}
			return y
		}
		x, y, dy, dx := values(1, n*width), values(9, n), values(2, n), values(9, n*width)
		x64 := wide(x)
		l.Forward(y, x)
		near(t, "y", y, reference(x64))
		l.Backward(dx, dy)
		near(t, "dx", dx, numeric(func() float64 { return dot(dy, reference(x64)) }, x64))
	}
}
