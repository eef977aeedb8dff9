package model

import (
	"github.com/fathom-train/fathom/compute/kernel"
	"github.com/fathom-train/fathom/compute/layer"
)

var xDeepFMDefinition = definition{
	name: "xdeepfm", embedding: true, network: true, options: cinUnits,
	defaults: xDeepFMDefaults, faults: xDeepFMFaults, build: newXDeepFM,
}

// xDeepFM is xDeepFM (Lian et al. 2018) as FuxiCTR defines it: the first-order
// weights without a bias, a compressed interaction network under a linear
// layer, and a network, all over the same embeddings.
type xDeepFM struct {
	dim    int
	linear layer.Sum
	cin    layer.CIN
	head   layer.Linear // of the interaction network
	deep   network

	params         []Param
	atHead, atDeep int // where the tensors of the head and of the network begin
	n              int
	share          float32 // of the last Forward's input
	logits, part   []float32
	dCIN           []float32 // [n, head.In]
	dEmbedding     []float32 // [n, fields*dim], by way of the interaction network
}

func xDeepFMDefaults(s *Spec) {
	if len(s.CINUnits) == 0 {
		s.CINUnits = []int{16, 16, 16}
	}
}

func xDeepFMFaults(s Spec, _ int) []string {
	if len(s.CINUnits) == 0 {
		return []string{"cin_units: an interaction network of no layers"}
	}
	return nil
}

func newXDeepFM(s Spec, fields int) Model {
	m := &xDeepFM{
		dim:    s.EmbeddingDim,
		linear: layer.Sum{Width: fields},
		cin:    layer.CIN{Fields: fields, Dim: s.EmbeddingDim, Units: s.CINUnits},
		deep:   s.newNetwork(fields * s.EmbeddingDim),
	}
	m.head = layer.Linear{In: m.cin.Width(), Out: 1}
	var all layout
	all.add(m.cin.Params("cin")...)
	m.atHead = all.add(layer.LinearParams("cin.fc", m.head.In, 1)...)
	m.atDeep = all.add(m.deep.Params("mlp")...)
	m.params = all
	return m
}

func (m *xDeepFM) useBF16() { m.deep.UseBF16() }

func (m *xDeepFM) Columns() []Column { return []Column{{Linear, 1}, {Embedding, m.dim}} }

func (m *xDeepFM) Params() []Param { return m.params }

func (m *xDeepFM) Forward(p [][]float32, x Input) []float32 {
	m.n, m.share = x.N, x.Share
	m.logits, m.part = resize(m.logits, x.N), resize(m.part, x.N)
	m.linear.Forward(m.logits, x.Columns[0], nil)
	m.head.Forward(m.part, m.cin.Forward(p, x.Columns[1], x.N), p[m.atHead], p[m.atHead+1], x.N)
	kernel.Add(m.logits, m.part)
	m.deep.Forward(p[m.atDeep:], m.part, x.Columns[1], x.N, x.Train, x.Stream)
	kernel.Add(m.logits, m.part)
	return m.logits
}

func (m *xDeepFM) Backward(p [][]float32, dLogits []float32, dp [][]float32, dx [][]float32) {
	m.dCIN, m.dEmbedding = resize(m.dCIN, m.n*m.head.In), resize(m.dEmbedding, len(dx[1]))
	m.linear.Backward(dx[0], nil, dLogits)
	m.head.Backward(m.dCIN, dp[m.atHead], dp[m.atHead+1], dLogits, p[m.atHead])
	m.cin.Backward(p, dp, m.dEmbedding, m.dCIN)
	m.deep.Backward(p[m.atDeep:], dp[m.atDeep:], dx[1], dLogits, m.share)
	kernel.Add(dx[1], m.dEmbedding)
}
