package model

import (
	"github.com/fathom-train/fathom/compute/kernel"
	"github.com/fathom-train/fathom/compute/layer"
)

var afmDefinition = definition{
	name: "afm", embedding: true, options: attentionDim | dropout | dropout2, defaults: afmDefaults, build: newAFM,
}

// afm is the attentional factorization machine (Xiao et al. 2017) as FuxiCTR
// defines it: logistic regression, and the elementwise products of all pairs of
// embeddings, pooled by attention and weighed by one vector.
type afm struct {
	dim          int
	linear       layer.Sum
	pool         layer.AttentionPool
	pooled       []float32 // [n, dim], the layer's
	dPooled      []float32
	n            int
	logits, part []float32
	zero         [1]float32 // the bias that the last vector does not have
	dZero        [1]float32
	head         layer.Linear
}

func afmDefaults(s *Spec) {
	if s.AttentionDim == 0 {
		s.AttentionDim = 10
	}
}

func newAFM(s Spec, fields int) Model {
	return &afm{
		dim:    s.EmbeddingDim,
		linear: layer.Sum{Width: fields},
		pool: layer.AttentionPool{
			Fields: fields, Dim: s.EmbeddingDim, Width: s.AttentionDim, WeightRate: s.Dropout, PoolRate: s.Dropout2,
		},
		head: layer.Linear{In: s.EmbeddingDim, Out: 1},
	}
}

func (m *afm) Columns() []Column { return []Column{{Linear, 1}, {Embedding, m.dim}} }

func (m *afm) Params() []Param {
	return append(m.pool.Params("attention"),
		Param{Name: "fc.weight", Shape: []int{1, m.dim}, Init: layer.Xavier(m.dim, 1)},
		Param{Name: "bias", Shape: []int{1}})
}

func (m *afm) Forward(p [][]float32, x Input) []float32 {
	m.n = x.N
	m.logits, m.part = resize(m.logits, x.N), resize(m.part, x.N)
	m.linear.Forward(m.logits, x.Columns[0], p[4])
	m.pooled = m.pool.Forward(p, x.Columns[1], x.N, x.Train, x.Stream)
	m.head.Forward(m.part, m.pooled, p[3], m.zero[:], x.N)
	kernel.Add(m.logits, m.part)
	return m.logits
}

func (m *afm) Backward(p [][]float32, dLogits []float32, dp [][]float32, dx [][]float32) {
	m.dPooled = resize(m.dPooled, len(m.pooled))
	m.linear.Backward(dx[0], dp[4], dLogits)
	m.head.Backward(m.dPooled, dp[3], m.dZero[:], dLogits, p[3])
	m.pool.Backward(p, dp, dx[1], m.dPooled)
}
