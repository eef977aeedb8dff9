package layer

import (
	"fmt"

	"github.com/fathom-train/fathom/compute/gemm"
	"github.com/fathom-train/fathom/compute/kernel"
	"github.com/fathom-train/fathom/compute/random"
)

// CrossMix is the cross network of DCN V2 whose matrices are mixtures of
// low-rank experts (Wang et al. 2021, section 3.4):
//
//	x_{l+1} = x_0 * (sum over e of g_e U_e tanh(C_e tanh(V_e^T x_l)) + b_l) + x_l
//	g = softmax(G x_l)
//
// U and V are [Experts, Width, Rank], C is [Experts, Rank, Rank] and b is
// [Width], of every layer; the gate G [Experts, Width] is that of all layers.
type CrossMix struct {
	Width, Layers, Rank, Experts int

	n                  int
	x                  [][]float32 // [n, Width] per layer, its input; the last one is the output
	layers             []mixCache
	dGate              []float32 // [n, Experts]
	dLow, dHidden, dUp []float32 // [n, Experts*Rank] twice, [n, Width]
}

// mixCache is what one layer keeps for its backward pass.
type mixCache struct {
	gate []float32 // [n, Experts]
	low  []float32 // [n, Experts*Rank], tanh(V^T x)
	mid  []float32 // [n, Experts*Rank], tanh(C low)
	up   []float32 // [n, Experts*Rank], gate * mid
	sum  []float32 // [n, Width], sum over experts of U up, plus b
}

// Params lists U, V, C and the bias of every layer, and the gate.
func (c *CrossMix) Params(prefix string) []Param {
	var params []Param
	e, w, r := c.Experts, c.Width, c.Rank
	// The fans of a tensor of three dimensions, as PyTorch counts them.
	tall, square := Xavier(w*r, e*r), Xavier(r*r, e*r)
	for l := range c.Layers {
		name := fmt.Sprintf("%s.%d.", prefix, l)
		params = append(params,
			Param{Name: name + "u", Shape: []int{e, w, r}, Init: tall},
			Param{Name: name + "v", Shape: []int{e, w, r}, Init: tall},
			Param{Name: name + "c", Shape: []int{e, r, r}, Init: square},
			Param{Name: name + "bias", Shape: []int{w}, Init: random.Init{}})
	}
	return append(params, Param{Name: prefix + ".gate", Shape: []int{e, w}, Init: Xavier(w, 1)})
}

// Forward returns the last layer's output [n, Width], valid until the next
// Forward, of x [n, Width].
func (c *CrossMix) Forward(p [][]float32, x []float32, n int) []float32 {
	check("input of the cross network", len(x), n*c.Width)
	if c.x == nil {
		c.x, c.layers = make([][]float32, c.Layers+1), make([]mixCache, c.Layers)
	}
	c.n, c.x[0] = n, x
	for l := range c.Layers {
		c.x[l+1] = grow(c.x[l+1], n*c.Width)
		if n > 0 {
			c.forward(&c.layers[l], p[4*l:], p[4*c.Layers], c.x[l+1], c.x[l])
		}
	}
	return c.x[c.Layers]
}

// forward computes out [n, Width] of one layer from in [n, Width].
func (c *CrossMix) forward(k *mixCache, p [][]float32, gate, out, in []float32) {
	n, w, r, all := c.n, c.Width, c.Rank, c.Experts*c.Rank
	k.gate, k.low, k.mid = grow(k.gate, n*c.Experts), grow(k.low, n*all), grow(k.mid, n*all)
	k.up, k.sum = grow(k.up, n*all), grow(k.sum, n*w)
	gemm.Gemm(false, true, n, c.Experts, w, in, w, gate, w, k.gate, c.Experts, false)
	softmaxRows(k.gate, c.Experts)
	for e := range c.Experts {
		gemm.Gemm(false, false, n, r, w, in, w, p[1][e*w*r:], r, k.low[e*r:], all, false)
	}
	tanhSlice(k.low, k.low)
	for e := range c.Experts {
		gemm.Gemm(false, true, n, r, r, k.low[e*r:], all, p[2][e*r*r:], r, k.mid[e*r:], all, false)
	}
	tanhSlice(k.mid, k.mid)
	c.weigh(k.up, k.mid, k.gate)
	for e := range c.Experts {
		gemm.Gemm(false, true, n, w, r, k.up[e*r:], all, p[0][e*w*r:], r, k.sum, w, e > 0)
	}
	kernel.AddBias(k.sum, n, w, p[3])
	kernel.Mul(out, c.x[0], k.sum)
	kernel.Add(out, in)
}

// weigh computes y = x [n, Experts, Rank] times the gate [n, Experts]; y and x
// may be the same.
func (c *CrossMix) weigh(y, x, gate []float32) {
	for i, g := range gate {
		for j := i * c.Rank; j < (i+1)*c.Rank; j++ {
			y[j] = g * x[j]
		}
	}
}

// Backward overwrites dp and dx [n, Width], given dy [n, Width], which it uses
// as scratch.
func (c *CrossMix) Backward(p, dp [][]float32, dx, dy []float32) {
	check("gradient of the cross network", len(dy), c.n*c.Width)
	check("input gradient of the cross network", len(dx), c.n*c.Width)
	if c.n == 0 {
		for _, d := range dp[:4*c.Layers+1] {
			clear(d)
		}
		return
	}
	clear(dx)
	for l := c.Layers - 1; l >= 0; l-- {
		c.backward(l, p, dp, dx, dy)
	}
	kernel.Add(dx, dy)
}

// backward takes dy in place from the output of layer l to its input and adds
// the part of x_0 to dx.
func (c *CrossMix) backward(l int, p, dp [][]float32, dx, dy []float32) {
	k, in := &c.layers[l], c.x[l]
	gate, dGate := p[4*c.Layers], dp[4*c.Layers]
	p, dp = p[4*l:], dp[4*l:]
	n, w, r, all := c.n, c.Width, c.Rank, c.Experts*c.Rank
	c.dUp, c.dHidden, c.dLow = grow(c.dUp, n*w), grow(c.dHidden, n*all), grow(c.dLow, n*all)
	c.dGate = grow(c.dGate, n*c.Experts)
	kernel.Mul(c.dUp, dy, k.sum)
	kernel.Add(dx, c.dUp)
	kernel.Mul(c.dUp, dy, c.x[0]) // the gradient of sum
	clear(dp[3])
	kernel.SumRows(dp[3], c.dUp)
	for e := range c.Experts {
		gemm.Gemm(true, false, w, r, n, c.dUp, w, k.up[e*r:], all, dp[0][e*w*r:], r, false)
		gemm.Gemm(false, false, n, r, w, c.dUp, w, p[0][e*w*r:], r, c.dHidden[e*r:], all, false)
	}
	for i := range c.dGate { // of gate and of mid, from that of up
		c.dGate[i] = kernel.Dot(c.dHidden[i*r:(i+1)*r], k.mid[i*r:(i+1)*r])
	}
	c.weigh(c.dHidden, c.dHidden, k.gate)
	tanhGrad(c.dHidden, k.mid)
	for e := range c.Experts {
		gemm.Gemm(true, false, r, r, n, c.dHidden[e*r:], all, k.low[e*r:], all, dp[2][e*r*r:], r, false)
		gemm.Gemm(false, false, n, r, r, c.dHidden[e*r:], all, p[2][e*r*r:], r, c.dLow[e*r:], all, false)
	}
	tanhGrad(c.dLow, k.low)
	softmaxRowsGrad(c.dGate, k.gate, c.Experts)
	gemm.Gemm(true, false, c.Experts, w, n, c.dGate, c.Experts, in, w, dGate, w, l < c.Layers-1)
	gemm.Gemm(false, false, n, w, c.Experts, c.dGate, c.Experts, gate, w, dy, w, true)
	for e := range c.Experts {
		gemm.Gemm(true, false, w, r, n, in, w, c.dLow[e*r:], all, dp[1][e*w*r:], r, false)
		gemm.Gemm(false, true, n, w, r, c.dLow[e*r:], all, p[1][e*w*r:], r, dy, w, true)
	}
}
