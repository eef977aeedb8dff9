package model

import (
	"github.com/fathom-train/fathom/compute/layer"
	"github.com/fathom-train/fathom/compute/random"
)

// SelectorPrefix begins the names of a Selector's tensors.
const SelectorPrefix = "selector."

// selectorOpen is the logit that the gates begin with: nearly all are open.
const selectorOpen = 2

// Selector is the network that decides for every sample which dimensions of its
// embeddings the model sees: one hidden layer, and for every field and dimension the
// logit of a gate (iHAS, Zheng et al. 2023; the shape is our own). Its methods may not
// run concurrently.
type Selector struct {
	in, hidden, out int
	mlp             *layer.MLP
}

// NewSelector makes the network from in numbers per sample to the logits of out gates.
func NewSelector(in, hidden, out int) *Selector {
	return &Selector{in: in, hidden: hidden, out: out, mlp: layer.NewMLPTo(in, []int{hidden}, out, 0, false)}
}

// Params lists the tensors in the order Forward and Backward take them.
func (s *Selector) Params() []Param {
	p := append(layer.LinearParams(SelectorPrefix+"hidden", s.in, s.hidden), layer.LinearParams(SelectorPrefix+"gates", s.hidden, s.out)...)
	p[3].Init = random.Init{Kind: random.Constant, Scale: selectorOpen}
	return p
}

// Forward computes the logits [n, out] from x [n, in]; train must be set for Backward
// to follow.
func (s *Selector) Forward(p [][]float32, logits, x []float32, n int, train bool) {
	s.mlp.Forward(p, logits, x, n, train, 0)
}

// Backward overwrites the gradients dp, given those of the logits.
func (s *Selector) Backward(p, dp [][]float32, dLogits []float32) {
	s.mlp.Backward(p, dp, nil, dLogits, 1)
}
