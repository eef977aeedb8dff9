package model

import (
	"github.com/fathom-train/fathom/compute/kernel"
	"github.com/fathom-train/fathom/compute/layer"
)

var fmDefinition = definition{name: "fm", embedding: true, build: newFM}

// factorization is the factorization machine of Rendle (2010): logistic
// regression plus the dot products of all pairs of embeddings.
type factorization struct {
	dim    int
	linear layer.Sum
	pairs  layer.FM
	logits []float32
	second []float32 // [n], the pairs' part of the logit
}

func newFM(s Spec, fields int) Model {
	return &factorization{
		dim:    s.EmbeddingDim,
		linear: layer.Sum{Width: fields},
		pairs:  layer.FM{Fields: fields, Dim: s.EmbeddingDim},
	}
}

func (m *factorization) Columns() []Column {
	return []Column{{Linear, 1}, {Embedding, m.dim}}
}

func (m *factorization) Params() []Param { return []Param{{Name: "bias", Shape: []int{1}}} }

func (m *factorization) Forward(p [][]float32, x Input) []float32 {
	m.logits, m.second = resize(m.logits, x.N), resize(m.second, x.N)
	m.linear.Forward(m.logits, x.Columns[0], p[0])
	m.pairs.Forward(m.second, x.Columns[1])
	kernel.Add(m.logits, m.second)
	return m.logits
}

func (m *factorization) Backward(_ [][]float32, dLogits []float32, dp [][]float32, dx [][]float32) {
	m.linear.Backward(dx[0], dp[0], dLogits)
	m.pairs.Backward(dx[1], dLogits, false)
}

// Continue implements Separate.
func (m *factorization) Continue() { m.linear.Continue() }

// PieceSamples implements Separate.
func (m *factorization) PieceSamples() int { return fewSamples }
