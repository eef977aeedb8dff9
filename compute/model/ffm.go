package model

import (
	"fmt"

	"github.com/fathom-train/fathom/compute/kernel"
	"github.com/fathom-train/fathom/compute/layer"
)

var ffmDefinition = definition{name: "ffm", embedding: true, faults: ffmFaults, build: newFFM}

// ffm is the field-aware factorization machine (Juan et al. 2016): logistic
// regression and, for every pair of fields, the dot product of the vectors that
// the two keys have for each other's field.
type ffm struct {
	width        int // of a key's vectors
	linear       layer.Sum
	pairs        layer.FieldAware
	logits, part []float32
}

func ffmFaults(s Spec, fields int) []string {
	if fields > 1 && s.EmbeddingDim > ColumnWidthMax/(fields-1) {
		return []string{fmt.Sprintf("embedding_dim: %d for each of %d other fields is more than the %d that a key can have",
			s.EmbeddingDim, fields-1, ColumnWidthMax)}
	}
	return pairFaults(s, fields)
}

func newFFM(s Spec, fields int) Model {
	return &ffm{
		width:  (fields - 1) * s.EmbeddingDim,
		linear: layer.Sum{Width: fields},
		pairs:  layer.FieldAware{Fields: fields, Dim: s.EmbeddingDim},
	}
}

func (m *ffm) Columns() []Column { return []Column{{Linear, 1}, {Embedding, m.width}} }

func (m *ffm) Params() []Param { return []Param{{Name: "bias", Shape: []int{1}}} }

func (m *ffm) Forward(p [][]float32, x Input) []float32 {
	m.logits, m.part = resize(m.logits, x.N), resize(m.part, x.N)
	m.linear.Forward(m.logits, x.Columns[0], p[0])
	m.pairs.Forward(m.part, x.Columns[1])
	kernel.Add(m.logits, m.part)
	return m.logits
}

func (m *ffm) Backward(_ [][]float32, dLogits []float32, dp [][]float32, dx [][]float32) {
	m.linear.Backward(dx[0], dp[0], dLogits)
	m.pairs.Backward(dx[1], dLogits)
}
