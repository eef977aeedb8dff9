package layer

import (
	"fmt"

	"github.com/fathom-train/fathom/compute/gemm"
	"github.com/fathom-train/fathom/compute/kernel"
)

// The cross layers raise the degree of the interactions by one each. All of
// them keep the input x0 [n, Width] and every layer's own input.

// CrossNet is the cross network of DCN (Wang et al. 2017), of one vector w
// [Width] and one bias b [Width] per layer:
//
//	x_{l+1} = x_0 * (x_l . w_l) + b_l + x_l
type CrossNet struct {
	Width, Layers int

	n    int
	x    [][]float32 // [n, Width] per layer, its input; the last one is the output
	dot  [][]float32 // [n] per layer
	dDot []float32   // [n]
}

// Params lists the weight and the bias of every layer.
func (c *CrossNet) Params(prefix string) []Param {
	var params []Param
	for l := range c.Layers {
		name := fmt.Sprintf("%s.%d.", prefix, l)
		params = append(params,
			Param{Name: name + "weight", Shape: []int{1, c.Width}, Init: Xavier(c.Width, 1)},
			Param{Name: name + "bias", Shape: []int{c.Width}})
	}
	return params
}

// Forward returns the last layer's output [n, Width], valid until the next
// Forward, of x [n, Width].
func (c *CrossNet) Forward(p [][]float32, x []float32, n int) []float32 {
	check("input of the cross network", len(x), n*c.Width)
	if c.x == nil {
		c.x, c.dot = make([][]float32, c.Layers+1), make([][]float32, c.Layers)
	}
	c.n, c.x[0] = n, x
	for l := range c.Layers {
		w, b, in := p[2*l], p[2*l+1], c.x[l]
		c.dot[l], c.x[l+1] = grow(c.dot[l], n), grow(c.x[l+1], n*c.Width)
		out := c.x[l+1]
		if n == 0 {
			continue
		}
		gemm.Gemm(false, true, n, 1, c.Width, in, c.Width, w, c.Width, c.dot[l], 1, false)
		copy(out, in)
		for i, s := range c.dot[l] {
			at := i * c.Width
			kernel.Axpy(s, x[at:at+c.Width], out[at:at+c.Width])
		}
		kernel.AddBias(out, n, c.Width, b)
	}
	return c.x[c.Layers]
}

// Backward overwrites dp and dx [n, Width], given dy [n, Width], which it uses
// as scratch.
func (c *CrossNet) Backward(p, dp [][]float32, dx, dy []float32) {
	check("gradient of the cross network", len(dy), c.n*c.Width)
	check("input gradient of the cross network", len(dx), c.n*c.Width)
	c.dDot = grow(c.dDot, c.n)
	clear(dx)
	for l := c.Layers - 1; l >= 0; l-- {
		w, dw, db := p[2*l], dp[2*l], dp[2*l+1]
		clear(db)
		kernel.SumRows(db, dy)
		for i := range c.n {
			at := i * c.Width
			g, x0 := dy[at:at+c.Width], c.x[0][at:at+c.Width]
			s := kernel.Dot(g, x0)
			kernel.Axpy(c.dot[l][i], g, dx[at:at+c.Width])
			kernel.Axpy(s, w, g) // from here on the gradient of the layer's input
			c.dDot[i] = s
		}
		if c.n == 0 {
			clear(dw)
			continue
		}
		gemm.Gemm(true, false, 1, c.Width, c.n, c.dDot, 1, c.x[l], c.Width, dw, c.Width, false)
	}
	kernel.Add(dx, dy)
}

// CrossNetV2 is the cross network of DCN V2 (Wang et al. 2021), of one matrix
// W [Width, Width] and one bias b [Width] per layer:
//
//	x_{l+1} = x_0 * (W_l x_l + b_l) + x_l
type CrossNetV2 struct {
	Width, Layers int
	// BF16 is that of Linear.
	BF16 bool

	n       int
	linear  []Linear
	x       [][]float32 // [n, Width] per layer, its input; the last one is the output
	z       [][]float32 // [n, Width] per layer, the output of its Linear
	dz, dIn []float32   // [n, Width], scratch
}

// Params lists the weight and the bias of every layer.
func (c *CrossNetV2) Params(prefix string) []Param {
	var params []Param
	for l := range c.Layers {
		name := fmt.Sprintf("%s.%d.", prefix, l)
		params = append(params,
			Param{Name: name + "weight", Shape: []int{c.Width, c.Width}, Init: Xavier(c.Width, c.Width)},
			Param{Name: name + "bias", Shape: []int{c.Width}})
	}
	return params
}

// crossPiece is how many elements CrossNetV2 takes through its elementary
// operations at a time: they stay in the nearest cache.
const crossPiece = 1 << 10

// Forward returns the last layer's output [n, Width], valid until the next
// Forward, of x [n, Width].
func (c *CrossNetV2) Forward(p [][]float32, x []float32, n int) []float32 {
	check("input of the cross network", len(x), n*c.Width)
	if c.x == nil {
		c.x, c.z = make([][]float32, c.Layers+1), make([][]float32, c.Layers)
		c.linear = make([]Linear, c.Layers)
		for l := range c.linear {
			c.linear[l] = Linear{In: c.Width, Out: c.Width, BF16: c.BF16}
		}
	}
	c.n, c.x[0] = n, x
	for l := range c.linear {
		c.z[l], c.x[l+1] = grow(c.z[l], n*c.Width), grow(c.x[l+1], n*c.Width)
		c.linear[l].Forward(c.z[l], c.x[l], p[2*l], p[2*l+1], n)
		for lo := 0; lo < len(x); lo += crossPiece {
			hi := min(lo+crossPiece, len(x))
			kernel.Mul(c.x[l+1][lo:hi], x[lo:hi], c.z[l][lo:hi])
			kernel.Add(c.x[l+1][lo:hi], c.x[l][lo:hi])
		}
	}
	return c.x[c.Layers]
}

// Backward overwrites dp and dx [n, Width], given dy [n, Width], which it uses
// as scratch.
func (c *CrossNetV2) Backward(p, dp [][]float32, dx, dy []float32) {
	check("gradient of the cross network", len(dy), c.n*c.Width)
	check("input gradient of the cross network", len(dx), c.n*c.Width)
	c.dz, c.dIn = grow(c.dz, len(dy)), grow(c.dIn, len(dy))
	for l := c.Layers - 1; l >= 0; l-- {
		last := l == c.Layers-1
		for lo := 0; lo < len(dy); lo += crossPiece {
			hi := min(lo+crossPiece, len(dy))
			dz, g, dx0 := c.dz[lo:hi], dy[lo:hi], dx[lo:hi]
			if last {
				kernel.Mul(dx0, g, c.z[l][lo:hi])
			} else {
				kernel.Add(g, c.dIn[lo:hi]) // what came through the layer above
				kernel.Mul(dz, g, c.z[l][lo:hi])
				kernel.Add(dx0, dz)
			}
			kernel.Mul(dz, g, c.x[0][lo:hi])
		}
		c.linear[l].Backward(c.dIn, dp[2*l], dp[2*l+1], c.dz, p[2*l])
	}
	for lo := 0; lo < len(dy); lo += crossPiece {
		hi := min(lo+crossPiece, len(dy))
		kernel.Add(dy[lo:hi], c.dIn[lo:hi])
		kernel.Add(dx[lo:hi], dy[lo:hi])
	}
}
