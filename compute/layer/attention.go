package layer

import (
	"math"

	"github.com/fathom-train/fathom/compute/gemm"
	"github.com/fathom-train/fathom/compute/kernel"
	"github.com/fathom-train/fathom/compute/random"
)

// SelfAttention is one interacting layer of AutoInt (Song et al. 2019) in the
// form of FuxiCTR: every field's vector attends to those of all fields. The
// vectors are projected to queries, keys and values without bias or
// activation; every head has Out/Heads of their columns:
//
//	y = ReLU(norm(softmax(q k^T / scale) v + residual))
//
// The residual is the input, projected if In and Out differ.
type SelfAttention struct {
	Fields, In, Out int
	// Heads divides Out.
	Heads int
	// Residual adds the residual, Scale divides by the root of Out/Heads instead
	// of 1, Norm applies LayerNorm.
	Residual, Scale, Norm bool
	// Rate is the dropout of the attention weights.
	Rate float32

	n          int
	train      bool
	x          []float32 // [n*Fields, In], the caller's
	q, k, v    []float32 // [n*Fields, Out]
	weight     []float32 // [n, Heads, Fields, Fields], the softmax
	masked     []float32 // the same after dropout
	dropped    []float32 // masked, or weight where nothing drops
	y          []float32 // [n*Fields, Out]
	norm       LayerNorm
	dropout    Dropout
	dq, dk, dv []float32
	dWeight    []float32
}

// Params lists the tensors of queries, keys and values, of the residual if it
// is projected, and gamma and beta.
func (a *SelfAttention) Params(prefix string) []Param {
	names := []string{"query", "key", "value"}
	if a.projects() {
		names = append(names, "residual")
	}
	var params []Param
	for _, name := range names {
		params = append(params, Param{Name: prefix + "." + name, Shape: []int{a.Out, a.In}, Init: Xavier(a.In, a.Out)})
	}
	if a.Norm {
		params = append(params,
			Param{Name: prefix + ".norm.weight", Shape: []int{a.Out}, Init: random.Init{Kind: "constant", Scale: 1}},
			Param{Name: prefix + ".norm.bias", Shape: []int{a.Out}})
	}
	return params
}

// projects tells whether the residual has a tensor.
func (a *SelfAttention) projects() bool { return a.Residual && a.In != a.Out }

// atNorm is the position of gamma.
func (a *SelfAttention) atNorm() int {
	if a.projects() {
		return 4
	}
	return 3
}

// Forward returns y [n*Fields, Out], valid until the next Forward, of x
// [n*Fields, In].
func (a *SelfAttention) Forward(p [][]float32, x []float32, n int, train bool, stream uint64) []float32 {
	rows := n * a.Fields
	check("input of the attention layer", len(x), rows*a.In)
	a.n, a.x, a.train = n, x, train
	a.q, a.k, a.v = grow(a.q, rows*a.Out), grow(a.k, rows*a.Out), grow(a.v, rows*a.Out)
	a.weight, a.y = grow(a.weight, rows*a.Heads*a.Fields), grow(a.y, rows*a.Out)
	if n == 0 {
		return a.y
	}
	for i, y := range [...][]float32{a.q, a.k, a.v} {
		gemm.Gemm(false, true, rows, a.Out, a.In, x, a.In, p[i], a.In, y, a.Out, false)
	}
	a.scores(a.weight, a.q, a.k)
	if a.Scale {
		kernel.Scale(a.scale(), a.weight)
	}
	softmaxRows(a.weight, a.Fields)
	a.dropped = a.weight
	if a.drops() {
		a.dropout.Rate = a.Rate
		a.masked = grow(a.masked, len(a.weight))
		a.dropped = a.masked
		a.dropout.Forward(a.dropped, a.weight, random.Stream(stream, random.Dropout, 0, 0, 0))
	}
	a.mix(a.y, a.dropped, a.v, false)
	switch {
	case a.projects():
		gemm.Gemm(false, true, rows, a.Out, a.In, x, a.In, p[3], a.In, a.y, a.Out, true)
	case a.Residual:
		kernel.Add(a.y, x)
	}
	if a.Norm {
		a.norm.Width = a.Out
		a.norm.Forward(a.y, a.y, p[a.atNorm()], p[a.atNorm()+1], rows)
	}
	kernel.ReLU(a.y, a.y)
	return a.y
}

func (a *SelfAttention) drops() bool { return a.train && a.Rate > 0 }

func (a *SelfAttention) scale() float32 {
	return 1 / float32(math.Sqrt(float64(a.Out/a.Heads)))
}

// heads is x [n*Fields, Out] as a matrix [Fields, Out/Heads] per sample and head.
func (a *SelfAttention) heads(x []float32, transposed bool) gemm.Operand {
	return gemm.Operand{Data: x, Trans: transposed, Stride: a.Out, Strides: gemm.Strides{Outer: a.Fields * a.Out, Inner: a.Out / a.Heads}}
}

// squares is x as a matrix [Fields, Fields] per sample and head.
func (a *SelfAttention) squares(x []float32, transposed bool) gemm.Operand {
	size := a.Fields * a.Fields
	return gemm.Operand{Data: x, Trans: transposed, Stride: a.Fields, Strides: gemm.Strides{Outer: a.Heads * size, Inner: size}}
}

// scores computes for every sample and head the [Fields, Fields] products of
// the rows of x with those of y.
func (a *SelfAttention) scores(dst, x, y []float32) {
	gemm.Batched(a.n, a.Heads, a.Fields, a.Fields, a.Out/a.Heads, a.heads(x, false), a.heads(y, true), a.squares(dst, false))
}

// mix computes for every sample and head the rows of x weighted by the
// [Fields, Fields] weights, or by their transpose.
func (a *SelfAttention) mix(dst, weights, x []float32, transposed bool) {
	gemm.Batched(a.n, a.Heads, a.Fields, a.Out/a.Heads, a.Fields, a.squares(weights, transposed), a.heads(x, false), a.heads(dst, false))
}

// Backward overwrites dp and dx [n*Fields, In], given dy [n*Fields, Out], which
// it uses as scratch.
func (a *SelfAttention) Backward(p, dp [][]float32, dx, dy []float32) {
	rows := a.n * a.Fields
	check("gradient of the attention layer", len(dy), rows*a.Out)
	check("input gradient of the attention layer", len(dx), rows*a.In)
	if a.n == 0 {
		for _, d := range dp[:a.tensors()] {
			clear(d)
		}
		return
	}
	kernel.ReLUGrad(dy, dy, a.y)
	if a.Norm {
		at := a.atNorm()
		a.norm.Backward(dy, dp[at], dp[at+1], dy, p[at])
	}
	switch {
	case a.projects():
		a.project(dp[3], dx, dy, p[3], false)
	case a.Residual:
		copy(dx, dy)
	default:
		clear(dx)
	}
	a.backwardWeights(dy)
	for i, d := range [...][]float32{a.dq, a.dk, a.dv} {
		a.project(dp[i], dx, d, p[i], true)
	}
}

// tensors is the number of tensors.
func (a *SelfAttention) tensors() int {
	if a.Norm {
		return a.atNorm() + 2
	}
	return a.atNorm()
}

// project overwrites dw [Out, In] and overwrites dx, or adds to it, given the
// gradient dy [n*Fields, Out] of the projection x w^T.
func (a *SelfAttention) project(dw, dx, dy, w []float32, add bool) {
	rows := a.n * a.Fields
	gemm.Gemm(true, false, a.Out, a.In, rows, dy, a.Out, a.x, a.In, dw, a.In, false)
	gemm.Gemm(false, false, rows, a.In, a.Out, dy, a.Out, w, a.In, dx, a.In, add)
}

// backwardWeights computes dq, dk and dv from the gradient of the mixture.
func (a *SelfAttention) backwardWeights(dy []float32) {
	size := len(a.q)
	a.dq, a.dk, a.dv = grow(a.dq, size), grow(a.dk, size), grow(a.dv, size)
	a.mix(a.dv, a.dropped, dy, true)
	a.dWeight = grow(a.dWeight, len(a.weight))
	a.scores(a.dWeight, dy, a.v)
	if a.drops() {
		a.dropout.Backward(a.dWeight, a.dWeight)
	}
	softmaxRowsGrad(a.dWeight, a.weight, a.Fields)
	if a.Scale {
		kernel.Scale(a.scale(), a.dWeight)
	}
	a.mix(a.dq, a.dWeight, a.k, false)
	a.mix(a.dk, a.dWeight, a.q, true)
}
