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
// The residual is the input, projected if In and Out differ. With Peri (Peri-LN,
// Kim et al. 2025) one norm is in front of the projections and one behind the
// mixture, and none on the residual:
//
//	y = ReLU(norm(softmax(q k^T / scale) v) + residual), with q, k, v of norm(x)
type SelfAttention struct {
	Fields, In, Out int
	// Heads divides Out.
	Heads int
	// Residual adds the residual, Scale divides by the root of Out/Heads instead
	// of 1, Norm applies LayerNorm.
	Residual, Scale, Norm bool
	// Peri is another place of the norms; it needs Norm.
	Peri bool
	// Rate is the dropout of the attention weights.
	Rate float32

	n       int
	train   bool
	goesOn  bool
	x       []float32 // [n*Fields, In], the caller's
	q, k, v []float32 // [n*Fields, Out]
	weight  []float32 // [n, Heads, Fields, Fields], the softmax
	y       []float32 // [n*Fields, Out]
	norm    LayerNorm

	// With Peri: the norm in front, its output and the gradient of that, and the
	// gradient of the mixture.
	before          LayerNorm
	normed, dNormed []float32 // [n*Fields, In]
	dMixed          []float32 // [n*Fields, Out]

	dropout Dropout
	scratch []attentionScratch // of every goroutine
}

// attentionScratch is what lives for one piece of the samples.
type attentionScratch struct {
	masked     []float32 // the weights after dropout
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
		params = append(params, (&LayerNorm{Width: a.Out}).params(prefix+".norm")...)
	}
	if a.Peri {
		params = append(params, (&LayerNorm{Width: a.In}).params(prefix+".before")...)
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
	a.dropout = Dropout{Rate: a.Rate, stream: random.Stream(stream, random.Dropout, 0, 0, 0)}
	if a.Norm {
		a.norm.Width = a.Out
		a.norm.reset(rows)
	}
	if a.Peri {
		a.before.Width, a.normed = a.In, grow(a.normed, len(x))
		a.before.reset(rows)
	}
	a.inPieces(p, nil, nil, nil)
	return a.y
}

// forward computes samples lo to hi.
func (a *SelfAttention) forward(p [][]float32, lo, hi int, s *attentionScratch) {
	n, rows := hi-lo, (hi-lo)*a.Fields
	x, y := a.rows(a.x, a.In, lo, hi), a.rows(a.y, a.Out, lo, hi)
	in, first, at := x, lo*a.Fields, a.atNorm()
	if a.Peri {
		in = a.rows(a.normed, a.In, lo, hi)
		a.before.forward(first, in, x, p[at+2], p[at+3])
	}
	q, k, v := a.rows(a.q, a.Out, lo, hi), a.rows(a.k, a.Out, lo, hi), a.rows(a.v, a.Out, lo, hi)
	weight := a.rows(a.weight, a.Heads*a.Fields, lo, hi)
	for i, to := range [...][]float32{q, k, v} {
		gemm.Gemm(false, true, rows, a.Out, a.In, in, a.In, p[i], a.In, to, a.Out, false)
	}
	a.scores(n, weight, q, k)
	if a.Scale {
		kernel.Scale(a.scale(), weight)
	}
	softmaxRows(weight, a.Fields)
	a.mix(n, y, a.drop(s, weight, lo), v, false)
	if a.Peri {
		a.norm.forward(first, y, y, p[at], p[at+1])
	}
	switch {
	case a.projects():
		gemm.Gemm(false, true, rows, a.Out, a.In, x, a.In, p[3], a.In, y, a.Out, true)
	case a.Residual && (a.Peri || !a.Norm):
		kernel.AddReLU(y, x)
		return
	case a.Residual:
		kernel.Add(y, x)
	}
	if a.Norm && !a.Peri {
		a.norm.forward(first, y, y, p[at], p[at+1])
	}
	kernel.ReLU(y, y)
}

// rows is the part of x [n*Fields, width] that belongs to samples lo to hi.
func (a *SelfAttention) rows(x []float32, width, lo, hi int) []float32 {
	return x[lo*a.Fields*width : hi*a.Fields*width]
}

// drop returns the weights of the samples from lo on after dropout.
func (a *SelfAttention) drop(s *attentionScratch, weight []float32, lo int) []float32 {
	if !a.drops() {
		return weight
	}
	s.masked = grow(s.masked, len(weight))
	a.dropout.apply(s.masked, weight, lo*a.Fields*a.Heads*a.Fields)
	return s.masked
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
func (a *SelfAttention) scores(n int, dst, x, y []float32) {
	gemm.Batched(n, a.Heads, a.Fields, a.Fields, a.Out/a.Heads, a.heads(x, false), a.heads(y, true), a.squares(dst, false))
}

// mix computes for every sample and head the rows of x weighted by the
// [Fields, Fields] weights, or by their transpose.
func (a *SelfAttention) mix(n int, dst, weights, x []float32, transposed bool) {
	gemm.Batched(n, a.Heads, a.Fields, a.Out/a.Heads, a.Fields, a.squares(weights, transposed), a.heads(x, false), a.heads(dst, false))
}

// Continue says that the samples of the next Backward follow those of the last
// one: it goes on with the sums in dp.
func (a *SelfAttention) Continue() { a.goesOn = true }

// Backward overwrites dp and dx [n*Fields, In], given dy [n*Fields, Out], which
// it uses as scratch.
func (a *SelfAttention) Backward(p, dp [][]float32, dx, dy []float32) {
	rows := a.n * a.Fields
	check("gradient of the attention layer", len(dy), rows*a.Out)
	check("input gradient of the attention layer", len(dx), rows*a.In)
	if !a.goesOn {
		for _, d := range dp[:a.tensors()] {
			clear(d)
		}
	}
	a.goesOn = false
	// Gamma and beta are sums over all samples, in order: several goroutines would
	// only wait for each other.
	at := a.atNorm()
	if a.Norm {
		kernel.ReLUGrad(dy, dy, a.y)
	}
	switch {
	case a.Peri:
		a.dMixed, a.dNormed = grow(a.dMixed, len(dy)), grow(a.dNormed, len(dx))
		clear(a.dNormed)
		a.norm.add(a.dMixed, dp[at], dp[at+1], dy, p[at])
	case a.Norm:
		a.norm.add(dy, dp[at], dp[at+1], dy, p[at])
	}
	a.inPieces(p, dp, dx, dy)
	if a.Peri {
		a.before.add(a.dNormed, dp[at+2], dp[at+3], a.dNormed, p[at+2])
		kernel.Add(dx, a.dNormed)
	}
}

// backward computes the gradients of samples lo to hi. Those of the tensors go
// on where the piece before ended: ended says that it has.
func (a *SelfAttention) backward(p, dp [][]float32, dx, dy []float32, lo, hi int, s *attentionScratch, ended <-chan struct{}) {
	dx, dy = a.rows(dx, a.In, lo, hi), a.rows(dy, a.Out, lo, hi)
	rows, x := (hi-lo)*a.Fields, a.rows(a.x, a.In, lo, hi)
	if !a.Norm {
		kernel.ReLUGrad(dy, dy, a.rows(a.y, a.Out, lo, hi))
	}
	switch {
	case a.projects():
		gemm.Gemm(false, false, rows, a.In, a.Out, dy, a.Out, p[3], a.In, dx, a.In, false)
	case a.Residual:
		copy(dx, dy)
	default:
		clear(dx)
	}
	mixed, in := dy, x // of the attention: the gradient of its output, its input
	if a.Peri {
		mixed, in, dx = a.rows(a.dMixed, a.Out, lo, hi), a.rows(a.normed, a.In, lo, hi), a.rows(a.dNormed, a.In, lo, hi)
	}
	a.backwardWeights(mixed, lo, hi, s)
	gradients := [...][]float32{s.dq, s.dk, s.dv}
	for i, d := range gradients {
		gemm.Gemm(false, false, rows, a.In, a.Out, d, a.Out, p[i], a.In, dx, a.In, true)
	}
	if ended != nil {
		<-ended
	}
	for i, d := range gradients {
		gemm.Gemm(true, false, a.Out, a.In, rows, d, a.Out, in, a.In, dp[i], a.In, true)
	}
	if a.projects() {
		gemm.Gemm(true, false, a.Out, a.In, rows, dy, a.Out, x, a.In, dp[3], a.In, true)
	}
}

// tensors is the number of tensors.
func (a *SelfAttention) tensors() int {
	n := a.atNorm()
	if a.Norm {
		n += 2
	}
	if a.Peri {
		n += 2
	}
	return n
}

// backwardWeights computes dq, dk and dv of samples lo to hi from the gradient
// of their mixture.
func (a *SelfAttention) backwardWeights(dy []float32, lo, hi int, s *attentionScratch) {
	n, size := hi-lo, len(dy)
	s.dq, s.dk, s.dv = grow(s.dq, size), grow(s.dk, size), grow(s.dv, size)
	q, k, v := a.rows(a.q, a.Out, lo, hi), a.rows(a.k, a.Out, lo, hi), a.rows(a.v, a.Out, lo, hi)
	weight := a.rows(a.weight, a.Heads*a.Fields, lo, hi)
	a.mix(n, s.dv, a.drop(s, weight, lo), dy, true)
	s.dWeight = grow(s.dWeight, len(weight))
	a.scores(n, s.dWeight, dy, v)
	if a.drops() {
		a.dropout.apply(s.dWeight, s.dWeight, lo*a.Fields*a.Heads*a.Fields)
	}
	softmaxRowsGrad(s.dWeight, weight, a.Fields)
	if a.Scale {
		kernel.Scale(a.scale(), s.dWeight)
	}
	a.mix(n, s.dq, s.dWeight, k, false)
	a.mix(n, s.dk, s.dWeight, q, true)
}
