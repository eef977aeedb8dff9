package model

import "github.com/fathom-train/fathom/compute/layer"

var lrDefinition = definition{name: "lr", build: newLR}

// lr is logistic regression: the sum of the weights of a sample's keys, and a bias.
type lr struct {
	linear layer.Sum
	logits []float32
}

func newLR(_ Spec, fields int) Model {
	return &lr{linear: layer.Sum{Width: fields}}
}

func (m *lr) Columns() []Column { return []Column{{Linear, 1}} }

func (m *lr) Params() []Param { return []Param{{Name: "bias", Shape: []int{1}}} }

func (m *lr) Forward(p [][]float32, x Input) []float32 {
	m.logits = resize(m.logits, x.N)
	m.linear.Forward(m.logits, x.Columns[0], p[0])
	return m.logits
}

func (m *lr) Backward(_ [][]float32, dLogits []float32, dp [][]float32, dx [][]float32) {
	m.linear.Backward(dx[0], dp[0], dLogits)
}

// Continue implements Separate.
func (m *lr) Continue() { m.linear.Continue() }

// PieceSamples implements Separate.
func (m *lr) PieceSamples() int { return fewSamples }
