package model

import "github.com/fathom-train/fathom/compute/layer"

var ipnnDefinition = definition{name: "ipnn", embedding: true, network: true, build: newIPNN}

// ipnn is the product-based network of Qu et al. (2016) with inner products: a
// network over the embeddings and the dot products of all pairs of them.
type ipnn struct {
	dim      int
	products layer.PairProducts
	deep     network
	n        int
	share    float32 // of the last Forward's input
	logits   []float32
	input    []float32 // [n, fields*dim + pairs]
	dInput   []float32
}

func newIPNN(s Spec, fields int) Model {
	m := &ipnn{dim: s.EmbeddingDim, products: layer.PairProducts{Fields: fields, Dim: s.EmbeddingDim}}
	m.deep = s.newNetwork(fields*s.EmbeddingDim + m.products.Pairs())
	return m
}

func (m *ipnn) Columns() []Column { return []Column{{Embedding, m.dim}} }

func (m *ipnn) Params() []Param { return m.deep.Params("mlp") }

// widths returns the embeddings' part of the network's input, and all of it.
func (m *ipnn) widths() (embeddings, all int) {
	embeddings = m.products.Fields * m.dim
	return embeddings, embeddings + m.products.Pairs()
}

func (m *ipnn) Forward(p [][]float32, x Input) []float32 {
	e, all := m.widths()
	m.n, m.share = x.N, x.Share
	m.logits, m.input = resize(m.logits, x.N), resize(m.input, x.N*all)
	layer.CopyRows(m.input, all, x.Columns[0], e, e, x.N)
	if x.N > 0 {
		m.products.Forward(m.input[e:], all, x.Columns[0], x.N)
	}
	m.deep.Forward(p, m.logits, m.input, x.N, x.Train, x.Stream)
	return m.logits
}

func (m *ipnn) Backward(p [][]float32, dLogits []float32, dp [][]float32, dx [][]float32) {
	e, all := m.widths()
	m.dInput = resize(m.dInput, len(m.input))
	m.deep.Backward(p, dp, m.dInput, dLogits, m.share)
	layer.CopyRows(dx[0], e, m.dInput, all, e, m.n)
	if m.n > 0 {
		m.products.Backward(dx[0], m.dInput[e:], all)
	}
}
