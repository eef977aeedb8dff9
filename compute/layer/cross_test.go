package layer

import (
	"fmt"
	"math"
	"slices"
	"testing"
)

// stack is a stack of layers with tensors, as the cross networks are.
type stack interface {
	Params(prefix string) []Param
	Forward(p [][]float32, x []float32, n int) []float32
	Backward(p, dp [][]float32, dx, dy []float32)
}

// checkStack compares a stack with its definition, reference, and the gradients
// with the definition's central differences.
func checkStack(t *testing.T, s stack, n, in, out int, reference func(p [][]float64, x []float64) []float64) {
	t.Helper()
	params := s.Params("s")
	var p, dp [][]float32
	var p64 [][]float64
	for i, q := range params {
		v := values(uint64(10+i), q.Size())
		for j := range v {
			v[j] *= 0.5
		}
		p, dp, p64 = append(p, v), append(dp, values(9, q.Size())), append(p64, wide(v))
	}
	x, dy, dx := values(1, n*in), values(2, n*out), values(9, n*in)
	x64 := wide(x)
	near(t, "y", s.Forward(p, x, n), reference(p64, x64))
	s.Backward(p, dp, dx, slices.Clone(dy))
	loss := func() float64 { return dot(dy, reference(p64, x64)) }
	near(t, "dx", dx, numeric(loss, x64))
	for i, q := range params {
		near(t, q.Name, dp[i], numeric(loss, p64[i]))
	}
	again := slices.Clone(dx)
	s.Forward(p, x, n)
	s.Backward(p, dp, dx, slices.Clone(dy))
	equalBits(t, "dx of a second pass", dx, again)

	s.Forward(p, nil, 0)
	s.Backward(p, dp, nil, nil)
	for i, q := range params {
		equalBits(t, q.Name+" of no samples", dp[i], make([]float32, q.Size()))
	}
}

// crossReference applies layers x + x0*(w_l(x)) to every sample.
func crossReference(x []float64, n, width, layers int, inner func(l int, x []float64) []float64) []float64 {
	var y []float64
	for i := range n {
		x0 := x[i*width : (i+1)*width]
		xl := slices.Clone(x0)
		for l := range layers {
			z := inner(l, xl)
			for j := range xl {
				xl[j] += x0[j] * z[j]
			}
		}
		y = append(y, xl...)
	}
	return y
}

func TestCrossNetMatchesReference(t *testing.T) {
	for _, shape := range [][3]int{{1, 1, 1}, {5, 7, 3}, {9, 20, 2}} {
		n, width, layers := shape[0], shape[1], shape[2]
		checkStack(t, &CrossNet{Width: width, Layers: layers}, n, width, width, func(p [][]float64, x []float64) []float64 {
			var y []float64
			for i := range n {
				x0 := x[i*width : (i+1)*width]
				xl := slices.Clone(x0)
				for l := range layers {
					s := 0.0
					for j, v := range xl {
						s += v * p[2*l][j]
					}
					for j := range xl {
						xl[j] += x0[j]*s + p[2*l+1][j]
					}
				}
				y = append(y, xl...)
			}
			return y
		})
	}
}

func TestCrossNetV2MatchesReference(t *testing.T) {
	for _, shape := range [][3]int{{1, 1, 1}, {5, 7, 3}, {9, 18, 2}} {
		n, width, layers := shape[0], shape[1], shape[2]
		checkStack(t, &CrossNetV2{Width: width, Layers: layers}, n, width, width, func(p [][]float64, x []float64) []float64 {
			return crossReference(x, n, width, layers, func(l int, x []float64) []float64 {
				return linearReference(x, p[2*l], p[2*l+1], 1, width, width)
			})
		})
	}
}

func TestCrossMixMatchesReference(t *testing.T) {
	for _, shape := range [][5]int{{1, 1, 1, 1, 1}, {5, 6, 2, 3, 2}, {7, 17, 3, 2, 4}} {
		n, width, layers, rank, experts := shape[0], shape[1], shape[2], shape[3], shape[4]
		t.Run(fmt.Sprint(shape), func(t *testing.T) {
			s := &CrossMix{Width: width, Layers: layers, Rank: rank, Experts: experts}
			checkStack(t, s, n, width, width, func(p [][]float64, x []float64) []float64 {
				return crossReference(x, n, width, layers, func(l int, x []float64) []float64 {
					return mixReference(p[4*l:], p[4*layers], x, rank, experts)
				})
			})
		})
	}
}

// mixReference is the sum over experts of one layer, of one sample.
func mixReference(p [][]float64, gate, x []float64, rank, experts int) []float64 {
	width := len(x)
	var gates []float64
	total := 0.0
	for e := range experts {
		s := 0.0
		for j, v := range x {
			s += v * gate[e*width+j]
		}
		gates = append(gates, math.Exp(s))
		total += math.Exp(s)
	}
	y := make([]float64, width)
	for e := range experts {
		low, mid := make([]float64, rank), make([]float64, rank)
		for r := range rank {
			for j, v := range x {
				low[r] += v * p[1][(e*width+j)*rank+r]
			}
			low[r] = math.Tanh(low[r])
		}
		for r := range rank {
			for s := range rank {
				mid[r] += p[2][(e*rank+r)*rank+s] * low[s]
			}
			mid[r] = math.Tanh(mid[r])
		}
		for j := range y {
			u := p[3][j]
			for r := range rank {
				u += p[0][(e*width+j)*rank+r] * mid[r]
			}
			y[j] += gates[e] / total * u
		}
	}
	return y
}
