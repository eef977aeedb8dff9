package model

import (
	"github.com/fathom-train/fathom/compute/kernel"
	"github.com/fathom-train/fathom/compute/layer"
)

var dcnDefinition = definition{
	name: "dcn", embedding: true, network: true, options: crossLayers | crossStructure,
	defaults: crossDefaults, faults: dcnFaults, build: newDCN,
}

// newDCN builds Deep & Cross (Wang et al. 2017): cross layers of one vector each
// beside a network.
func newDCN(s Spec, fields int) Model {
	return newCross(s, fields, &layer.CrossNet{Width: fields * s.EmbeddingDim, Layers: s.CrossLayers})
}

func crossDefaults(s *Spec) {
	if s.CrossLayers == 0 {
		s.CrossLayers = 3
	}
	if s.CrossStructure == "" {
		s.CrossStructure = Parallel
	}
	if s.LowRank > 0 && s.Experts == 0 {
		s.Experts = 4
	}
}

func dcnFaults(s Spec, fields int) []string {
	if s.CrossStructure == Stacked {
		return []string{`cross_structure: model dcn has its network beside the cross layers; "stacked" is of dcnv2`}
	}
	return crossFaults(s, fields)
}

func crossFaults(s Spec, _ int) []string {
	if s.CrossStructure != CrossNetOnly && len(s.Hidden) == 0 {
		return []string{`hidden: a network of no layers; cross_structure "crossnet_only" is the model without one`}
	}
	return nil
}

// crossLayersOf is a stack of cross layers (see compute/layer).
type crossLayersOf interface {
	Params(prefix string) []Param
	Forward(p [][]float32, x []float32, n int) []float32
	Backward(p, dp [][]float32, dx, dy []float32)
}

// cross is a model of cross layers and a network: side by side under one linear
// layer, one on the other, or the cross layers alone.
type cross struct {
	dim, width int // width = fields*dim
	cross      crossLayersOf
	tower      tower        // parallel
	deep       network      // stacked
	head       layer.Joined // parallel and crossnet_only

	params         []Param
	atDeep, atHead int // where the tensors of the network and of the head begin
	n              int
	share          float32 // of the last Forward's input
	logits         []float32
	joined         [][]float32 // inputs of the head: of the cross layers and, if any, of the tower
	dJoined        [][]float32 // their gradients
	dCross         []float32   // [n, width]
	dTower         []float32   // [n, width of the tower]
	dEmbedding     []float32   // [n, width], by way of the network
}

func newCross(s Spec, fields int, layers crossLayersOf) *cross {
	m := &cross{dim: s.EmbeddingDim, width: fields * s.EmbeddingDim, cross: layers}
	var all layout
	all.add(layers.Params("cross")...)
	m.atDeep = len(all)
	m.head = layer.Joined{Widths: []int{m.width}}
	switch s.CrossStructure {
	case Stacked:
		m.deep = s.newNetwork(m.width)
		all.add(m.deep.Params("mlp")...)
	case Parallel:
		m.tower = s.newTower(m.width, s.Hidden, s.Dropout, s.BatchNorm)
		all.add(m.tower.Params("mlp")...)
		m.head.Widths = append(m.head.Widths, m.tower.Width())
	}
	if m.deep == nil {
		m.atHead = all.add(layer.LinearParams("fc", m.head.In(), 1)...)
	}
	m.params = all
	return m
}

func (m *cross) Columns() []Column { return []Column{{Embedding, m.dim}} }

func (m *cross) Params() []Param { return m.params }

func (m *cross) Forward(p [][]float32, x Input) []float32 {
	m.n, m.share, m.logits = x.N, x.Share, resize(m.logits, x.N)
	e := x.Columns[0]
	crossed := m.cross.Forward(p, e, x.N)
	if m.deep != nil {
		m.deep.Forward(p[m.atDeep:], m.logits, crossed, x.N, x.Train, x.Stream)
		return m.logits
	}
	m.joined = append(m.joined[:0], crossed)
	if m.tower != nil {
		m.joined = append(m.joined, m.tower.Forward(p[m.atDeep:], e, x.N, x.Train, x.Stream))
	}
	m.head.Forward(m.logits, m.joined, p[m.atHead], p[m.atHead+1])
	return m.logits
}

func (m *cross) Backward(p [][]float32, dLogits []float32, dp [][]float32, dx [][]float32) {
	m.dCross = resize(m.dCross, m.n*m.width)
	if m.deep != nil {
		m.deep.Backward(p[m.atDeep:], dp[m.atDeep:], m.dCross, dLogits, m.share)
	} else {
		m.dJoined = append(m.dJoined[:0], m.dCross)
		if m.tower != nil {
			m.dTower = resize(m.dTower, m.n*m.head.Widths[1])
			m.dJoined = append(m.dJoined, m.dTower)
		}
		m.head.Backward(m.dJoined, dp[m.atHead], dp[m.atHead+1], dLogits, p[m.atHead])
	}
	m.cross.Backward(p, dp, dx[0], m.dCross)
	if m.tower != nil {
		m.dEmbedding = resize(m.dEmbedding, m.n*m.width)
		m.tower.Backward(p[m.atDeep:], dp[m.atDeep:], m.dEmbedding, m.dTower, m.share)
		kernel.Add(dx[0], m.dEmbedding)
	}
}
