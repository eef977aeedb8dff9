package layer

import (
	"github.com/fathom-train/fathom/compute/gemm"
	"github.com/fathom-train/fathom/compute/kernel"
)

// Fusion is the interaction aggregation of FinalMLP (Mao et al. 2023): a
// bilinear form of two vectors, of which every head takes its part,
//
//	out = u . x + b + v . y + c + sum over heads of x_h^T W_h y_h
type Fusion struct {
	// X and Y are the widths of the vectors; Heads divides both.
	X, Y, Heads int

	n        int
	u, v     Linear
	x, y     []float32 // the caller's
	product  []float32 // [n, Y], W_h^T x_h of all heads side by side
	part     []float32 // [n]
	dProduct []float32
}

// Params lists u, b, v, c and W [Heads, X/Heads, Y/Heads].
func (f *Fusion) Params(prefix string) []Param {
	size := f.X * f.Y / f.Heads
	params := append(LinearParams(prefix+".x", f.X, 1), LinearParams(prefix+".y", f.Y, 1)...)
	return append(params, Param{Name: prefix + ".xy", Shape: []int{f.Heads, f.X / f.Heads, f.Y / f.Heads}, Init: Xavier(1, size)})
}

// Forward computes out [n] from x [n, X] and y [n, Y].
func (f *Fusion) Forward(p [][]float32, out, x, y []float32) {
	n := len(out)
	f.n, f.x, f.y = n, x, y
	f.u.In, f.u.Out, f.v.In, f.v.Out = f.X, 1, f.Y, 1
	f.product, f.part = grow(f.product, n*f.Y), grow(f.part, n)
	f.u.Forward(out, x, p[0], p[1], n)
	f.v.Forward(f.part, y, p[2], p[3], n)
	if n == 0 {
		return
	}
	kernel.Add(out, f.part)
	a, b := f.X/f.Heads, f.Y/f.Heads
	for h := range f.Heads {
		gemm.Gemm(false, false, n, b, a, x[h*a:], f.X, p[4][h*a*b:], b, f.product[h*b:], f.Y, false)
	}
	for i := range out {
		out[i] += kernel.Dot(f.product[i*f.Y:(i+1)*f.Y], y[i*f.Y:(i+1)*f.Y])
	}
}

// Backward overwrites dp, dx [n, X] and dy [n, Y], given dOut [n].
func (f *Fusion) Backward(p, dp [][]float32, dx, dy, dOut []float32) {
	n := f.n
	check("gradient of the fusion", len(dOut), n)
	f.u.Backward(dx, dp[0], dp[1], dOut, p[0])
	f.v.Backward(dy, dp[2], dp[3], dOut, p[2])
	if n == 0 {
		clear(dp[4])
		return
	}
	f.dProduct = grow(f.dProduct, n*f.Y)
	copy(f.dProduct, f.y)
	for i, g := range dOut {
		kernel.Axpy(g, f.product[i*f.Y:(i+1)*f.Y], dy[i*f.Y:(i+1)*f.Y])
		kernel.Scale(g, f.dProduct[i*f.Y:(i+1)*f.Y])
	}
	a, b := f.X/f.Heads, f.Y/f.Heads
	for h := range f.Heads {
		gemm.Gemm(true, false, a, b, n, f.x[h*a:], f.X, f.dProduct[h*b:], f.Y, dp[4][h*a*b:], b, false)
		gemm.Gemm(false, true, n, a, b, f.dProduct[h*b:], f.Y, p[4][h*a*b:], b, dx[h*a:], f.X, true)
	}
}
