package model

import (
	"github.com/fathom-train/fathom/compute/kernel"
	"github.com/fathom-train/fathom/compute/layer"
)

var wideDeepDefinition = definition{name: "wide_deep", embedding: true, network: true, build: newWideDeep}

// wideDeep is Wide & Deep (Cheng et al. 2016) as FuxiCTR defines it: the
// first-order weights without a bias, and a network over the embeddings.
type wideDeep struct {
	dim    int
	linear layer.Sum
	deep   network
	share  float32 // of the last Forward's input
	logits []float32
	part   []float32 // [n], the network's logit
}

func newWideDeep(s Spec, fields int) Model {
	return &wideDeep{
		dim:    s.EmbeddingDim,
		linear: layer.Sum{Width: fields},
		deep:   s.newNetwork(fields * s.EmbeddingDim),
	}
}

func (m *wideDeep) Columns() []Column { return []Column{{Linear, 1}, {Embedding, m.dim}} }

func (m *wideDeep) Params() []Param { return m.deep.Params("mlp") }

func (m *wideDeep) Forward(p [][]float32, x Input) []float32 {
	m.share = x.Share
	m.logits, m.part = resize(m.logits, x.N), resize(m.part, x.N)
	m.linear.Forward(m.logits, x.Columns[0], nil)
	m.deep.Forward(p, m.part, x.Columns[1], x.N, x.Train, x.Stream)
	kernel.Add(m.logits, m.part)
	return m.logits
}

func (m *wideDeep) Backward(p [][]float32, dLogits []float32, dp [][]float32, dx [][]float32) {
	m.linear.Backward(dx[0], nil, dLogits)
	m.deep.Backward(p, dp, dx[1], dLogits, m.share)
}
