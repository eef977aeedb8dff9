package layer

import (
	"fmt"
	"math"
	"testing"
)

// fused adapts a Fusion to stack: its input is x and y side by side.
type fused struct {
	*Fusion
	x, y []float32
}

func (f *fused) Forward(p [][]float32, in []float32, n int) []float32 {
	all := f.X + f.Y
	f.x, f.y = make([]float32, n*f.X), make([]float32, n*f.Y)
	if n > 0 {
		CopyRows(f.x, f.X, in, all, f.X, n)
		CopyRows(f.y, f.Y, in[f.X:], all, f.Y, n)
	}
	out := make([]float32, n)
	f.Fusion.Forward(p, out, f.x, f.y)
	return out
}

func (f *fused) Backward(p, dp [][]float32, din, dout []float32) {
	n, all := len(dout), f.X+f.Y
	dx, dy := values(9, n*f.X), values(9, n*f.Y)
	f.Fusion.Backward(p, dp, dx, dy, dout)
	if n > 0 {
		CopyRows(din, all, dx, f.X, f.X, n)
		CopyRows(din[f.X:], all, dy, f.Y, f.Y, n)
	}
}

func TestFusionMatchesReference(t *testing.T) {
	for _, shape := range [][4]int{{1, 1, 1, 1}, {3, 6, 4, 2}, {4, 20, 35, 5}} {
		n, x, y, heads := shape[0], shape[1], shape[2], shape[3]
		checkStack(t, &fused{Fusion: &Fusion{X: x, Y: y, Heads: heads}}, n, x+y, 1, func(p [][]float64, in []float64) []float64 {
			var out []float64
			a, b := x/heads, y/heads
			for i := range n {
				xs, ys := in[i*(x+y):][:x], in[i*(x+y)+x:][:y]
				sum := linearReference(xs, p[0], p[1], 1, x, 1)[0] + linearReference(ys, p[2], p[3], 1, y, 1)[0]
				for h := range heads {
					for j := range a {
						for k := range b {
							sum += xs[h*a+j] * p[4][(h*a+j)*b+k] * ys[h*b+k]
						}
					}
				}
				out = append(out, sum)
			}
			return out
		})
	}
}

func TestGateMatchesReference(t *testing.T) {
	const context, width = 3, 5
	hidden := []int{4}
	for _, c := range []struct{ n, rows int }{{1, 1}, {6, 6}, {6, 1}} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			g := NewGate(context, hidden, width)
			p, dp := tensors(g.Params("g"))
			x, ctx, dy := values(1, c.n*width), values(2, c.rows*context), values(3, c.n*width)
			dx, dctx := values(9, c.n*width), values(9, c.rows*context)
			y := g.Forward(p, x, ctx, c.n, true)
			x64, ctx64, p64 := wide(x), wide(ctx), make([][]float64, len(p))
			for i := range p {
				p64[i] = wide(p[i])
			}
			forward := func() []float64 {
				h := linearReference(ctx64, p64[0], p64[1], c.rows, context, hidden[0])
				for i, v := range h {
					h[i] = max(v, 0)
				}
				z := linearReference(h, p64[2], p64[3], c.rows, hidden[0], width)
				out := make([]float64, c.n*width)
				for i := range out {
					out[i] = x64[i] * 2 / (1 + math.Exp(-z[i%(c.rows*width)]))
				}
				return out
			}
			near(t, "y", y, forward())
			g.Backward(p, dp, dx, dctx, dy)
			loss := func() float64 { return dot(dy, forward()) }
			near(t, "dx", dx, numeric(loss, x64))
			near(t, "dcontext", dctx, numeric(loss, ctx64))
			for i, q := range g.Params("g") {
				near(t, q.Name, dp[i], numeric(loss, p64[i]))
			}
		})
	}
}

func TestTowerIsAnMLPWithoutItsLastLayer(t *testing.T) {
	const n, in = 7, 5
	hidden := []int{6, 4}
	m, tower := NewMLP(in, hidden, 0.3, true), NewTower(in, hidden, 0.3, true)
	p, dp := tensors(m.Params("m"))
	_, dTower := tensors(tower.Params("m"))
	x, y, dy := values(1, n*in), make([]float32, n), values(2, n)
	m.Forward(p, y, x, n, true, 5)
	out := tower.Forward(p, x, n, true, 5)
	last := Linear{In: hidden[1], Out: 1}
	again, dOut := make([]float32, n), make([]float32, n*hidden[1])
	at := len(p) - 2
	last.Forward(again, out, p[at], p[at+1], n)
	equalBits(t, "y", again, y)

	dx, dxTower := values(9, n*in), values(9, n*in)
	m.Backward(p, dp, dx, dy, 0.5)
	last.Backward(dOut, make([]float32, len(p[at])), make([]float32, 1), dy, p[at])
	tower.Backward(p, dTower, dxTower, dOut, 0.5)
	equalBits(t, "dx", dxTower, dx)
	for i := range dTower {
		equalBits(t, fmt.Sprint("tensor ", i), dTower[i], dp[i])
	}
}
