package model

import (
	"fmt"

	"github.com/fathom-train/fathom/compute/kernel"
	"github.com/fathom-train/fathom/compute/layer"
)

// fieldVector is the column of the vectors of linear_type FeLV.
const fieldVector = "vector"

var fwfmDefinition = definition{
	name: "fwfm", embedding: true, options: linearType, defaults: fwfmDefaults, faults: pairFaults, build: newFwFM,
}

// fwfm is the field-weighted factorization machine (Pan et al. 2018): the dot
// products of all pairs of embeddings, each weighed by its pair of fields, and
// a first-order part of one of three kinds.
type fwfm struct {
	fields, dim int
	kind        string
	linear      layer.Sum    // LW
	vector      layer.Linear // FiLV
	products    layer.PairProducts
	head        layer.Linear // of the products

	x               [][]float32 // the last Forward's columns
	n               int
	logits, part    []float32
	pairs, dPairs   []float32 // [n, pairs]
	zero, dZero     [1]float32
	embeddingColumn int // the weight per key is in front of it
}

func fwfmDefaults(s *Spec) {
	if s.LinearType == "" {
		s.LinearType = FieldVector
	}
}

// pairFaults refuses a single field, which has no pairs.
func pairFaults(s Spec, fields int) []string {
	if fields == 1 {
		return []string{fmt.Sprintf("name: model %s needs two fields or more", s.Name)}
	}
	return nil
}

func newFwFM(s Spec, fields int) Model {
	m := &fwfm{
		fields: fields, dim: s.EmbeddingDim, kind: s.LinearType,
		linear:   layer.Sum{Width: fields},
		vector:   layer.Linear{In: fields * s.EmbeddingDim, Out: 1},
		products: layer.PairProducts{Fields: fields, Dim: s.EmbeddingDim},
	}
	m.head = layer.Linear{In: m.products.Pairs(), Out: 1}
	if m.kind == LinearWeight {
		m.embeddingColumn = 1
	}
	return m
}

func (m *fwfm) Columns() []Column {
	switch m.kind {
	case LinearWeight:
		return []Column{{Linear, 1}, {Embedding, m.dim}}
	case KeyVector:
		return []Column{{Embedding, m.dim}, {fieldVector, m.dim}}
	}
	return []Column{{Embedding, m.dim}}
}

func (m *fwfm) Params() []Param {
	params := layer.LinearParams("pairs", m.head.In, 1)
	if m.kind == FieldVector {
		params = append(params, Param{Name: "linear.weight", Shape: []int{1, m.vector.In}, Init: layer.Xavier(m.vector.In, 1)})
	}
	return params
}

func (m *fwfm) Forward(p [][]float32, x Input) []float32 {
	m.n, m.x = x.N, x.Columns
	m.logits, m.part = resize(m.logits, x.N), resize(m.part, x.N)
	m.pairs = resize(m.pairs, x.N*m.head.In)
	e := x.Columns[m.embeddingColumn]
	m.products.Forward(m.pairs, m.head.In, e, x.N)
	m.head.Forward(m.logits, m.pairs, p[0], p[1], x.N)
	switch m.kind {
	case LinearWeight:
		m.linear.Forward(m.part, x.Columns[0], nil)
	case KeyVector:
		width := m.fields * m.dim
		for i := range m.part {
			m.part[i] = kernel.Dot(e[i*width:(i+1)*width], x.Columns[1][i*width:(i+1)*width])
		}
	default:
		m.vector.Forward(m.part, e, p[2], m.zero[:], x.N)
	}
	kernel.Add(m.logits, m.part)
	return m.logits
}

func (m *fwfm) Backward(p [][]float32, dLogits []float32, dp [][]float32, dx [][]float32) {
	m.dPairs = resize(m.dPairs, len(m.pairs))
	m.head.Backward(m.dPairs, dp[0], dp[1], dLogits, p[0])
	d := dx[m.embeddingColumn]
	switch m.kind {
	case LinearWeight:
		m.linear.Backward(dx[0], nil, dLogits)
		clear(d)
	case KeyVector:
		copy(d, m.x[1])
		copy(dx[1], m.x[0])
		width := m.fields * m.dim
		for i, g := range dLogits {
			kernel.Scale(g, d[i*width:(i+1)*width])
			kernel.Scale(g, dx[1][i*width:(i+1)*width])
		}
	default:
		m.vector.Backward(d, dp[2], m.dZero[:], dLogits, p[2])
	}
	m.products.Backward(d, m.dPairs, m.head.In)
}
