package model

import "github.com/fathom-train/fathom/compute/layer"

var dlrmDefinition = definition{
	name: "dlrm", embedding: true, network: true, options: interaction, defaults: dlrmDefaults, build: newDLRM,
}

// dlrm is the recommendation model of Naumov et al. (2019) as FuxiCTR defines
// it for data without dense features: a network over the dot products of all
// pairs of embeddings alone, or over the embeddings. A numeric field has an
// embedding too, scaled by its value.
type dlrm struct {
	dim      int
	products layer.PairProducts
	deep     network
	cat      bool
	share    float32 // of the last Forward's input
	logits   []float32
	pairs    []float32 // [n, pairs]
	dPairs   []float32
}

func dlrmDefaults(s *Spec) {
	if s.Interaction == "" {
		s.Interaction = Dot
	}
}

func newDLRM(s Spec, fields int) Model {
	m := &dlrm{dim: s.EmbeddingDim, products: layer.PairProducts{Fields: fields, Dim: s.EmbeddingDim}}
	in := m.products.Pairs()
	// A single field has no pairs to multiply.
	if m.cat = s.Interaction == Cat || in == 0; m.cat {
		in = fields * s.EmbeddingDim
	}
	m.deep = s.newNetwork(in)
	return m
}

func (m *dlrm) useBF16() { m.deep.UseBF16() }

func (m *dlrm) Columns() []Column { return []Column{{Embedding, m.dim}} }

func (m *dlrm) Params() []Param { return m.deep.Params("mlp") }

func (m *dlrm) Forward(p [][]float32, x Input) []float32 {
	m.share, m.logits = x.Share, resize(m.logits, x.N)
	in := x.Columns[0]
	if !m.cat {
		m.pairs = resize(m.pairs, x.N*m.products.Pairs())
		m.products.Forward(m.pairs, m.products.Pairs(), in, x.N)
		in = m.pairs
	}
	m.deep.Forward(p, m.logits, in, x.N, x.Train, x.Stream)
	return m.logits
}

func (m *dlrm) Backward(p [][]float32, dLogits []float32, dp [][]float32, dx [][]float32) {
	if m.cat {
		m.deep.Backward(p, dp, dx[0], dLogits, m.share)
		return
	}
	m.dPairs = resize(m.dPairs, len(m.pairs))
	m.deep.Backward(p, dp, m.dPairs, dLogits, m.share)
	clear(dx[0])
	m.products.Backward(dx[0], m.dPairs, m.products.Pairs())
}
