package model

import (
	"github.com/fathom-train/fathom/compute/kernel"
	"github.com/fathom-train/fathom/compute/layer"
)

var deepFMDefinition = definition{name: "deepfm", embedding: true, network: true, build: newDeepFM}

// deepFM is DeepFM (Guo et al. 2017) as FuxiCTR defines it: the first-order
// weights without a bias, the pairs of a factorization machine, and a network
// over the same embeddings.
type deepFM struct {
	dim    int
	linear layer.Sum
	pairs  layer.FM
	deep   network
	share  float32 // of the last Forward's input
	logits []float32
	part   []float32 // [n], the logit of one part
}

func newDeepFM(s Spec, fields int) Model {
	return &deepFM{
		dim:    s.EmbeddingDim,
		linear: layer.Sum{Width: fields},
		pairs:  layer.FM{Fields: fields, Dim: s.EmbeddingDim},
		deep:   s.newNetwork(fields * s.EmbeddingDim),
	}
}

func (m *deepFM) Columns() []Column { return []Column{{Linear, 1}, {Embedding, m.dim}} }

func (m *deepFM) Params() []Param { return m.deep.Params("mlp") }

func (m *deepFM) Forward(p [][]float32, x Input) []float32 {
	m.share = x.Share
	m.logits, m.part = resize(m.logits, x.N), resize(m.part, x.N)
	m.linear.Forward(m.logits, x.Columns[0], nil)
	m.pairs.Forward(m.part, x.Columns[1])
	kernel.Add(m.logits, m.part)
	m.deep.Forward(p, m.part, x.Columns[1], x.N, x.Train, x.Stream)
	kernel.Add(m.logits, m.part)
	return m.logits
}

func (m *deepFM) Backward(p [][]float32, dLogits []float32, dp [][]float32, dx [][]float32) {
	m.linear.Backward(dx[0], nil, dLogits)
	m.deep.Backward(p, dp, dx[1], dLogits, m.share)
	m.pairs.Backward(dx[1], dLogits, true) // to what the network left
}
