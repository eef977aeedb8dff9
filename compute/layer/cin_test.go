package layer

import (
	"fmt"
	"testing"
)

func TestCINMatchesReference(t *testing.T) {
	for _, c := range []struct {
		n, fields, dim int
		units          []int
	}{{1, 1, 1, []int{1}}, {4, 3, 2, []int{4}}, {3, 4, 5, []int{3, 2, 4}}} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			s := &CIN{Fields: c.fields, Dim: c.dim, Units: c.units}
			checkStack(t, s, c.n, c.fields*c.dim, s.Width(), func(p [][]float64, x []float64) []float64 {
				var y []float64
				for i := range c.n {
					y = append(y, cinReference(p, x[i*c.fields*c.dim:(i+1)*c.fields*c.dim], c.fields, c.dim, c.units)...)
				}
				return y
			})
		})
	}
}

// cinReference is the network of one sample.
func cinReference(p [][]float64, x []float64, fields, dim int, units []int) []float64 {
	var y []float64
	h, maps := x, fields
	for k, u := range units {
		next := make([]float64, u*dim)
		for o := range u {
			sum := 0.0
			for d := range dim {
				v := p[2*k+1][o]
				for i := range fields {
					for j := range maps {
						v += p[2*k][(o*fields+i)*maps+j] * x[i*dim+d] * h[j*dim+d]
					}
				}
				next[o*dim+d] = v
				sum += v
			}
			y = append(y, sum)
		}
		h, maps = next, u
	}
	return y
}

// TestCINBlocksDoNotChangeTheResult runs a batch of many blocks against its
// samples alone.
func TestCINBlocksDoNotChangeTheResult(t *testing.T) {
	const n, fields, dim = 40, 9, 10
	s, alone := &CIN{Fields: fields, Dim: dim, Units: []int{130, 3}}, &CIN{Fields: fields, Dim: dim, Units: []int{130, 3}}
	p, dp := tensors(s.Params("cin"))
	if _, rows := (&CIN{Fields: fields, Dim: dim, Units: s.Units, n: n}).block(1, 0); rows >= n*dim {
		t.Fatalf("one block of %d rows", rows)
	}
	x := values(1, n*fields*dim)
	whole := s.Forward(p, x, n)
	for i := range n {
		one := alone.Forward(p, x[i*fields*dim:(i+1)*fields*dim], 1)
		equalBits(t, fmt.Sprint("sample ", i), one, whole[i*s.Width():(i+1)*s.Width()])
	}
	dy, dx := values(2, n*s.Width()), make([]float32, len(x))
	s.Backward(p, dp, dx, dy)
	for i := range n {
		dOne := make([]float32, fields*dim)
		_, scratch := tensors(s.Params("cin"))
		alone.Forward(p, x[i*fields*dim:(i+1)*fields*dim], 1)
		alone.Backward(p, scratch, dOne, dy[i*s.Width():(i+1)*s.Width()])
		equalBits(t, fmt.Sprint("gradient of sample ", i), dOne, dx[i*fields*dim:(i+1)*fields*dim])
	}
}
