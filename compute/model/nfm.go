package model

import (
	"github.com/fathom-train/fathom/compute/kernel"
	"github.com/fathom-train/fathom/compute/layer"
)

var nfmDefinition = definition{name: "nfm", embedding: true, network: true, build: newNFM}

// nfm is the neural factorization machine (He and Chua 2017) as FuxiCTR defines
// it: the first-order weights without a bias, and a network over the sum of the
// elementwise products of all pairs of embeddings.
type nfm struct {
	dim          int
	linear       layer.Sum
	pairs        layer.BiInteraction
	deep         network
	share        float32 // of the last Forward's input
	logits, part []float32
	products     []float32 // [n, dim]
	dProducts    []float32
}

func newNFM(s Spec, fields int) Model {
	return &nfm{
		dim:    s.EmbeddingDim,
		linear: layer.Sum{Width: fields},
		pairs:  layer.BiInteraction{Fields: fields, Dim: s.EmbeddingDim},
		deep:   s.newNetwork(s.EmbeddingDim),
	}
}

func (m *nfm) useBF16() { m.deep.UseBF16() }

func (m *nfm) Columns() []Column { return []Column{{Linear, 1}, {Embedding, m.dim}} }

func (m *nfm) Params() []Param { return m.deep.Params("mlp") }

func (m *nfm) Forward(p [][]float32, x Input) []float32 {
	m.share = x.Share
	m.logits, m.part = resize(m.logits, x.N), resize(m.part, x.N)
	m.products = resize(m.products, x.N*m.dim)
	m.linear.Forward(m.logits, x.Columns[0], nil)
	m.pairs.Forward(m.products, x.Columns[1], x.N)
	m.deep.Forward(p, m.part, m.products, x.N, x.Train, x.Stream)
	kernel.Add(m.logits, m.part)
	return m.logits
}

func (m *nfm) Backward(p [][]float32, dLogits []float32, dp [][]float32, dx [][]float32) {
	m.dProducts = resize(m.dProducts, len(m.products))
	m.linear.Backward(dx[0], nil, dLogits)
	m.deep.Backward(p, dp, m.dProducts, dLogits, m.share)
	m.pairs.Backward(dx[1], m.dProducts)
}
