package model

import "github.com/fathom-train/fathom/compute/layer"

var fnnDefinition = definition{name: "fnn", embedding: true, network: true, build: newFNN}

// fnn is the factorization-machine supported network (Zhang et al. 2016) as
// FuxiCTR defines it: a network whose input is the bias of a factorization
// machine and, per field, its first-order weight and its embedding. The
// machine is not trained first: everything is trained together.
type fnn struct {
	fields, dim int
	deep        network
	n           int
	share       float32 // of the last Forward's input
	logits      []float32
	input       []float32 // [n, 1+fields*(1+dim)]
	dInput      []float32
}

func newFNN(s Spec, fields int) Model {
	return &fnn{
		fields: fields, dim: s.EmbeddingDim,
		deep: s.newNetwork(1 + fields*(1+s.EmbeddingDim)),
	}
}

func (m *fnn) Columns() []Column { return []Column{{Linear, 1}, {Embedding, m.dim}} }

func (m *fnn) Params() []Param {
	return append([]Param{{Name: "bias", Shape: []int{1}}}, m.deep.Params("mlp")...)
}

func (m *fnn) Forward(p [][]float32, x Input) []float32 {
	m.n, m.share, m.logits = x.N, x.Share, resize(m.logits, x.N)
	width, field := 1+m.fields*(1+m.dim), 1+m.dim
	m.input = resize(m.input, x.N*width)
	for i := range x.N {
		row := m.input[i*width : (i+1)*width]
		row[0] = p[0][0]
		layer.CopyRows(row[1:], field, x.Columns[0][i*m.fields:], 1, 1, m.fields)
		layer.CopyRows(row[2:], field, x.Columns[1][i*m.fields*m.dim:], m.dim, m.dim, m.fields)
	}
	m.deep.Forward(p[1:], m.logits, m.input, x.N, x.Train, x.Stream)
	return m.logits
}

func (m *fnn) Backward(p [][]float32, dLogits []float32, dp [][]float32, dx [][]float32) {
	m.dInput = resize(m.dInput, len(m.input))
	m.deep.Backward(p[1:], dp[1:], m.dInput, dLogits, m.share)
	width, field := 1+m.fields*(1+m.dim), 1+m.dim
	var bias float32
	for i := range m.n {
		row := m.dInput[i*width : (i+1)*width]
		bias += row[0]
		layer.CopyRows(dx[0][i*m.fields:], 1, row[1:], field, 1, m.fields)
		layer.CopyRows(dx[1][i*m.fields*m.dim:], m.dim, row[2:], field, m.dim, m.fields)
	}
	dp[0][0] = bias
}
