package model

import (
	"fmt"
	"slices"

	"github.com/fathom-train/fathom/compute/kernel"
	"github.com/fathom-train/fathom/compute/layer"
)

// contextColumn is the column of the embeddings that steer gates.
const contextColumn = "context"

var finalMLPDefinition = definition{
	name: "finalmlp", embedding: true, network: true, options: heads | hidden2 | dropout2 | gates,
	defaults: finalMLPDefaults, faults: finalMLPFaults, build: newFinalMLP,
}

// finalMLP is FinalMLP (Mao et al. 2023) as FuxiCTR defines it: two networks
// over the embeddings, each behind a gate of its own if asked for, whose outputs
// are fused by a bilinear form. A gate is steered by embeddings of their own of
// some fields, or by a vector that is the same for all samples.
type finalMLP struct {
	fields, dim int
	streams     [2]stream
	fusion      layer.Fusion
	steered     bool // some gate has context fields, and the table a column for them

	params     []Param
	atFusion   int
	n          int
	share      float32 // of the last Forward's input
	logits     []float32
	dEmbedding []float32
}

// stream is one of the networks with its gate.
type stream struct {
	deep       tower
	gate       *layer.Gate // nil without gates
	fields     []int       // that steer the gate; none: the tensor in front of the gate's does
	atGate     int
	atDeep     int
	context    []float32 // [n, len(fields)*dim]
	dContext   []float32
	dDeep, dIn []float32 // [n, width], [n, fields*dim]
}

func finalMLPDefaults(s *Spec) {
	if s.Heads == 0 {
		s.Heads = 1
	}
	if len(s.Hidden2) == 0 {
		s.Hidden2 = s.defaultHidden()
	}
}

func finalMLPFaults(s Spec, fields int) []string {
	var faults []string
	for _, h := range []struct {
		name   string
		hidden []int
	}{{"hidden", s.Hidden}, {"hidden2", s.Hidden2}} {
		if len(h.hidden) == 0 {
			faults = append(faults, h.name+": a network of no layers")
		} else if last := h.hidden[len(h.hidden)-1]; !s.residual() && s.Heads > 0 && last%s.Heads != 0 {
			faults = append(faults, fmt.Sprintf("heads: %d do not divide the last width of %s, %d", s.Heads, h.name, last))
		}
	}
	if s.residual() && s.Heads > 0 && s.TowerWidth%s.Heads != 0 {
		faults = append(faults, fmt.Sprintf("heads: %d do not divide the tower_width of %d", s.Heads, s.TowerWidth))
	}
	var seen []int
	for g, context := range [][]int{s.Context1, s.Context2} {
		name := fmt.Sprintf("context%d", g+1)
		if len(context) > 0 && len(s.GateHidden) == 0 {
			faults = append(faults, name+": there are no gates; set gate_hidden")
		}
		for i, f := range context {
			switch {
			case f < 0 || fields > 0 && f >= fields:
				faults = append(faults, fmt.Sprintf("%s[%d]: no field has the number %d", name, i, f))
			case slices.Contains(seen, f):
				faults = append(faults, fmt.Sprintf("%s[%d]: field %d steers a gate already", name, i, f))
			}
			seen = append(seen, f)
		}
	}
	return faults
}

func newFinalMLP(s Spec, fields int) Model {
	m := &finalMLP{fields: fields, dim: s.EmbeddingDim}
	width := fields * s.EmbeddingDim
	m.streams = [2]stream{
		{deep: s.newTower(width, s.Hidden, s.Dropout, s.BatchNorm), fields: s.Context1},
		{deep: s.newTower(width, s.Hidden2, s.Dropout2, s.BatchNorm2), fields: s.Context2},
	}
	m.steered = len(s.Context1)+len(s.Context2) > 0
	var all layout
	for i := range m.streams {
		k := &m.streams[i]
		if len(s.GateHidden) > 0 {
			name := fmt.Sprintf("gate%d", i+1)
			k.atGate = len(all)
			if len(k.fields) == 0 {
				k.atGate = 1 + all.add(Param{Name: name + ".context", Shape: []int{m.dim}})
			}
			k.gate = layer.NewGate(m.dim*max(1, len(k.fields)), s.GateHidden, width)
			all.add(k.gate.Params(name)...)
		}
		k.atDeep = all.add(k.deep.Params(fmt.Sprintf("mlp%d", i+1))...)
	}
	m.fusion = layer.Fusion{X: m.streams[0].deep.Width(), Y: m.streams[1].deep.Width(), Heads: s.Heads}
	m.atFusion = all.add(m.fusion.Params("fusion")...)
	m.params = all
	return m
}

func (m *finalMLP) Columns() []Column {
	if m.steered {
		return []Column{{Embedding, m.dim}, {contextColumn, m.dim}}
	}
	return []Column{{Embedding, m.dim}}
}

func (m *finalMLP) Params() []Param { return m.params }

func (m *finalMLP) Forward(p [][]float32, x Input) []float32 {
	m.n, m.share, m.logits = x.N, x.Share, resize(m.logits, x.N)
	var out [2][]float32
	for i := range m.streams {
		k, in := &m.streams[i], x.Columns[0]
		if k.gate != nil {
			in = k.gate.Forward(p[k.atGate:], in, m.contextOf(k, p, x), x.N, x.Train)
		}
		draws := x.Stream
		if i > 0 {
			draws = substream(x.Stream, uint64(i))
		}
		out[i] = k.deep.Forward(p[k.atDeep:], in, x.N, x.Train, draws)
	}
	m.fusion.Forward(p[m.atFusion:], m.logits, out[0], out[1])
	return m.logits
}

// contextOf returns what steers the gate of a stream.
func (m *finalMLP) contextOf(k *stream, p [][]float32, x Input) []float32 {
	if len(k.fields) == 0 {
		return p[k.atGate-1]
	}
	all, width := m.fields*m.dim, len(k.fields)*m.dim
	k.context = resize(k.context, x.N*width)
	for i := range x.N {
		for j, f := range k.fields {
			copy(k.context[i*width+j*m.dim:i*width+(j+1)*m.dim], x.Columns[1][i*all+f*m.dim:])
		}
	}
	return k.context
}

func (m *finalMLP) Backward(p [][]float32, dLogits []float32, dp [][]float32, dx [][]float32) {
	for i := range m.streams {
		k := &m.streams[i]
		k.dDeep, k.dIn = resize(k.dDeep, m.n*k.deep.Width()), resize(k.dIn, len(dx[0]))
	}
	a, b := &m.streams[0], &m.streams[1]
	m.fusion.Backward(p[m.atFusion:], dp[m.atFusion:], a.dDeep, b.dDeep, dLogits)
	if m.steered {
		clear(dx[1])
	}
	m.backward(a, p, dp, dx, dx[0])
	m.dEmbedding = resize(m.dEmbedding, len(dx[0]))
	m.backward(b, p, dp, dx, m.dEmbedding)
	kernel.Add(dx[0], m.dEmbedding)
}

// backward overwrites d with the gradient of the embeddings by way of one
// stream, and writes that of its context.
func (m *finalMLP) backward(k *stream, p, dp, dx [][]float32, d []float32) {
	if k.gate == nil {
		k.deep.Backward(p[k.atDeep:], dp[k.atDeep:], d, k.dDeep, m.share)
		return
	}
	k.deep.Backward(p[k.atDeep:], dp[k.atDeep:], k.dIn, k.dDeep, m.share)
	if len(k.fields) == 0 {
		k.gate.Backward(p[k.atGate:], dp[k.atGate:], d, dp[k.atGate-1], k.dIn)
		return
	}
	all, width := m.fields*m.dim, len(k.fields)*m.dim
	k.dContext = resize(k.dContext, len(k.context))
	k.gate.Backward(p[k.atGate:], dp[k.atGate:], d, k.dContext, k.dIn)
	for i := range m.n {
		for j, f := range k.fields {
			copy(dx[1][i*all+f*m.dim:i*all+(f+1)*m.dim], k.dContext[i*width+j*m.dim:])
		}
	}
}
