package layer

import (
	"fmt"

	"github.com/fathom-train/fathom/compute/gemm"
	"github.com/fathom-train/fathom/compute/kernel"
)

// CIN is the compressed interaction network of xDeepFM (Lian et al. 2018)
// without activations, as FuxiCTR has it. Layer k has Units[k] feature maps,
// each a vector like an embedding:
//
//	h_k[u, d] = sum over i, j of W_k[u, i*U_{k-1}+j] x[i, d] h_{k-1}[j, d] + b_k[u]
//
// with h_0 = x. The output is the sum over d of all maps of all layers.
type CIN struct {
	// Fields and Dim are the shape of one sample's embeddings.
	Fields, Dim int
	Units       []int

	n         int
	h         [][]float32 // h[k] is [n, Dim, maps of layer k]; h[0] is x with fields innermost
	dh        [][]float32 // their gradients
	dx        []float32   // [n, Dim, Fields], by way of the factor x of every layer
	outer, dz []float32   // [rows of a block, Fields*U_{k-1}]
	y         []float32   // [n, Width]
}

// cinBlock bounds the elements of the outer products held at a time. Blocks are
// of whole samples and only bound memory: sums run on from block to block.
const cinBlock = 1 << 18

// Width is the number of outputs of one sample.
func (c *CIN) Width() int {
	width := 0
	for _, u := range c.Units {
		width += u
	}
	return width
}

// maps returns the feature maps of h[k].
func (c *CIN) maps(k int) int {
	if k == 0 {
		return c.Fields
	}
	return c.Units[k-1]
}

// Params lists the weight and the bias of every layer.
func (c *CIN) Params(prefix string) []Param {
	var params []Param
	for k, units := range c.Units {
		name, in := fmt.Sprintf("%s.%d.", prefix, k), c.Fields*c.maps(k)
		params = append(params,
			Param{Name: name + "weight", Shape: []int{units, in}, Init: Xavier(in, units)},
			Param{Name: name + "bias", Shape: []int{units}})
	}
	return params
}

// Forward returns the sums [n, Width], valid until the next Forward, of the
// embeddings x [n, Fields*Dim].
func (c *CIN) Forward(p [][]float32, x []float32, n int) []float32 {
	check("input of the interaction network", len(x), n*c.Fields*c.Dim)
	if c.h == nil {
		c.h, c.dh = make([][]float32, len(c.Units)+1), make([][]float32, len(c.Units)+1)
	}
	c.n = n
	for k := range c.h {
		c.h[k] = grow(c.h[k], n*c.Dim*c.maps(k))
	}
	c.y = grow(c.y, n*c.Width())
	swapInner(c.h[0], x, n, c.Fields, c.Dim)
	at := 0
	for k, units := range c.Units {
		w, b, in := p[2*k], p[2*k+1], c.Fields*c.maps(k)
		for lo, rows := c.block(k, 0); rows > 0; lo, rows = c.block(k, lo+rows) {
			out := c.h[k+1][lo*units : (lo+rows)*units]
			gemm.Gemm(false, true, rows, units, in, c.products(k, lo, rows), in, w, in, out, units, false)
			kernel.AddBias(out, rows, units, b)
		}
		c.pool(k+1, at)
		at += units
	}
	return c.y
}

// block returns the number of rows (n, d) of the block of layer k that begins
// at row lo, which is lo again; none at the end.
func (c *CIN) block(k, lo int) (from, rows int) {
	samples := max(1, cinBlock/(c.Dim*c.Fields*c.maps(k)))
	return lo, min(samples*c.Dim, c.n*c.Dim-lo)
}

// products returns the outer products of x and h[k], [rows, Fields*maps].
func (c *CIN) products(k, lo, rows int) []float32 {
	maps := c.maps(k)
	c.outer = grow(c.outer, rows*c.Fields*maps)
	at := 0
	for r := lo; r < lo+rows; r++ {
		h := c.h[k][r*maps : (r+1)*maps]
		for _, v := range c.h[0][r*c.Fields : (r+1)*c.Fields] {
			dst := c.outer[at : at+maps]
			copy(dst, h)
			kernel.Scale(v, dst)
			at += maps
		}
	}
	return c.outer
}

// pool writes the sums over d of h[k] to the outputs from at on.
func (c *CIN) pool(k, at int) {
	maps, width := c.maps(k), c.Width()
	for i := range c.n {
		sum := c.y[i*width+at : i*width+at+maps]
		clear(sum)
		kernel.SumRows(sum, c.h[k][i*c.Dim*maps:(i+1)*c.Dim*maps])
	}
}

// Backward overwrites dp and dx [n, Fields*Dim], given dy [n, Width].
func (c *CIN) Backward(p, dp [][]float32, dx, dy []float32) {
	width := c.Width()
	check("gradient of the interaction network", len(dy), c.n*width)
	check("input gradient of the interaction network", len(dx), c.n*c.Fields*c.Dim)
	for _, d := range dp[:2*len(c.Units)] {
		clear(d)
	}
	c.dx = grow(c.dx, len(c.h[0]))
	clear(c.dx)
	for k := range c.dh {
		c.dh[k] = grow(c.dh[k], len(c.h[k]))
		clear(c.dh[k])
	}
	at := width
	for k := len(c.Units) - 1; k >= 0; k-- {
		units := c.Units[k]
		at -= units
		g := c.dh[k+1]
		for r := range c.n * c.Dim { // every d of a sample got the same from the sum
			from := r/c.Dim*width + at
			kernel.Add(g[r*units:(r+1)*units], dy[from:from+units])
		}
		kernel.SumRows(dp[2*k+1], g)
		for lo, rows := c.block(k, 0); rows > 0; lo, rows = c.block(k, lo+rows) {
			c.backwardBlock(k, lo, rows, p[2*k], dp[2*k], g[lo*units:(lo+rows)*units])
		}
	}
	kernel.Add(c.dx, c.dh[0])
	swapInner(dx, c.dx, c.n, c.Dim, c.Fields)
}

// backwardBlock adds the block's part to dw, to c.dx and to c.dh[k], given the
// gradient g [rows, units] of h[k+1].
func (c *CIN) backwardBlock(k, lo, rows int, w, dw, g []float32) {
	maps, units := c.maps(k), c.Units[k]
	in := c.Fields * maps
	c.dz = grow(c.dz, rows*in)
	gemm.Gemm(true, false, units, in, rows, g, units, c.products(k, lo, rows), in, dw, in, true)
	gemm.Gemm(false, false, rows, in, units, g, units, w, in, c.dz, in, false)
	at := 0
	for r := lo; r < lo+rows; r++ {
		h, dh := c.h[k][r*maps:(r+1)*maps], c.dh[k][r*maps:(r+1)*maps]
		for f := r * c.Fields; f < (r+1)*c.Fields; f++ {
			dz := c.dz[at : at+maps]
			c.dx[f] += kernel.Dot(dz, h)
			kernel.Axpy(c.h[0][f], dz, dh)
			at += maps
		}
	}
}

// swapInner copies x [n, rows, cols] to y [n, cols, rows].
func swapInner(y, x []float32, n, rows, cols int) {
	for i := range n {
		from, to := x[i*rows*cols:(i+1)*rows*cols], y[i*rows*cols:(i+1)*rows*cols]
		for r := range rows {
			for c, v := range from[r*cols : (r+1)*cols] {
				to[c*rows+r] = v
			}
		}
	}
}
