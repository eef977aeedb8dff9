package model

import (
	"fmt"

	"github.com/fathom-train/fathom/compute/gemm"
	"github.com/fathom-train/fathom/compute/kernel"
	"github.com/fathom-train/fathom/compute/layer"
)

const attentionOptions = attentionLayers | attentionDim | heads | residual | scale | layerNorm | wide

var autoIntDefinition = definition{
	name: "autoint", embedding: true, options: attentionOptions | dropout,
	defaults: autoIntDefaults, faults: autoIntFaults, build: newAutoInt,
}

// autoIntPlusDefinition is AutoInt with a network over the same embeddings.
var autoIntPlusDefinition = definition{
	name: "autoint_plus", embedding: true, network: true, options: attentionOptions,
	defaults: autoIntDefaults, faults: autoIntFaults, build: newAutoIntPlus,
}

// autoInt is AutoInt and AutoInt+ (Song et al. 2019) as FuxiCTR defines them:
// attention layers over the fields under a linear layer, and optionally the
// first-order weights and a network.
type autoInt struct {
	fields, dim int
	attention   []*layer.SelfAttention
	head        layer.Linear
	linear      *layer.Sum // nil without wide
	deep        network    // nil without a network

	params          []Param
	at              []int // where the tensors of every attention layer begin
	atHead, atDeep  int
	n               int
	share           float32 // of the last Forward's input
	logits, part    []float32
	dOut, dIn       []float32 // [n*fields, width] of one attention layer
	dEmbedding      []float32 // [n, fields*dim], by way of attention
	embeddingColumn int       // the first-order weights are in front of it
}

func autoIntDefaults(s *Spec) {
	if s.AttentionLayers == 0 {
		s.AttentionLayers = 2
	}
	if s.AttentionDim == 0 {
		s.AttentionDim = 8
	}
	if s.Heads == 0 {
		s.Heads = 1
	}
	if s.Residual == nil {
		yes := true
		s.Residual = &yes
	}
}

func autoIntFaults(s Spec, _ int) []string {
	if s.Heads > 0 && s.AttentionDim%s.Heads != 0 {
		return []string{fmt.Sprintf("heads: %d do not divide the attention_dim of %d", s.Heads, s.AttentionDim)}
	}
	return nil
}

func newAutoInt(s Spec, fields int) Model {
	m := newAttentionOnly(s, fields)
	if s.Dropout > 0 {
		return m // which elements are dropped depends on their place in the lane
	}
	return separateAutoInt{m}
}

// separateAutoInt is AutoInt without anything that ties the samples together.
// The vectors and weights of a lane, of all layers, take many times as much
// memory as its embeddings.
type separateAutoInt struct{ *autoInt }

// Continue implements Separate.
func (m separateAutoInt) Continue() {
	for _, a := range m.attention {
		a.Continue()
	}
	m.head.Continue()
}

// PieceSamples implements Separate: two pieces of a layer for every goroutine.
func (m separateAutoInt) PieceSamples() int {
	return 2 * gemm.Threads() * m.attention[len(m.attention)-1].PieceSize()
}

func newAttentionOnly(s Spec, fields int) *autoInt {
	m := &autoInt{fields: fields, dim: s.EmbeddingDim}
	var all layout
	in := s.EmbeddingDim
	for i := range s.AttentionLayers {
		a := &layer.SelfAttention{
			Fields: fields, In: in, Out: s.AttentionDim, Heads: s.Heads,
			Residual: s.Residual != nil && *s.Residual, Scale: s.Scale, Norm: s.LayerNorm, Peri: s.periAttention(), Rate: s.Dropout,
		}
		m.attention = append(m.attention, a)
		m.at = append(m.at, all.add(a.Params(fmt.Sprintf("attention.%d", i))...))
		in = s.AttentionDim
	}
	m.head = layer.Linear{In: fields * in, Out: 1}
	m.atHead = all.add(layer.LinearParams("fc", m.head.In, 1)...)
	if s.Wide {
		m.linear, m.embeddingColumn = &layer.Sum{Width: fields}, 1
	}
	m.params = all
	return m
}

func newAutoIntPlus(s Spec, fields int) Model {
	m := newAttentionOnly(s, fields)
	m.deep = s.newNetwork(fields * s.EmbeddingDim)
	m.atDeep = len(m.params)
	m.params = append(m.params, m.deep.Params("mlp")...)
	return m
}

func (m *autoInt) Columns() []Column {
	if m.linear != nil {
		return []Column{{Linear, 1}, {Embedding, m.dim}}
	}
	return []Column{{Embedding, m.dim}}
}

func (m *autoInt) Params() []Param { return m.params }

func (m *autoInt) Forward(p [][]float32, x Input) []float32 {
	m.n, m.share = x.N, x.Share
	m.logits, m.part = resize(m.logits, x.N), resize(m.part, x.N)
	e := x.Columns[m.embeddingColumn]
	h := e
	for i, a := range m.attention {
		h = a.Forward(p[m.at[i]:], h, x.N, x.Train, substream(x.Stream, uint64(1+i)))
	}
	m.head.Forward(m.logits, h, p[m.atHead], p[m.atHead+1], x.N)
	if m.deep != nil {
		m.deep.Forward(p[m.atDeep:], m.part, e, x.N, x.Train, x.Stream)
		kernel.Add(m.logits, m.part)
	}
	if m.linear != nil {
		m.linear.Forward(m.part, x.Columns[0], nil)
		kernel.Add(m.logits, m.part)
	}
	return m.logits
}

func (m *autoInt) Backward(p [][]float32, dLogits []float32, dp [][]float32, dx [][]float32) {
	m.dOut = resize(m.dOut, m.n*m.head.In)
	m.head.Backward(m.dOut, dp[m.atHead], dp[m.atHead+1], dLogits, p[m.atHead])
	for i := len(m.attention) - 1; i > 0; i-- {
		m.dIn = resize(m.dIn, m.n*m.fields*m.attention[i].In)
		m.attention[i].Backward(p[m.at[i]:], dp[m.at[i]:], m.dIn, m.dOut)
		m.dIn, m.dOut = m.dOut, m.dIn
	}
	d := dx[m.embeddingColumn]
	m.attention[0].Backward(p, dp, d, m.dOut)
	if m.deep != nil {
		m.dEmbedding = resize(m.dEmbedding, len(d))
		m.deep.Backward(p[m.atDeep:], dp[m.atDeep:], m.dEmbedding, dLogits, m.share)
		kernel.Add(d, m.dEmbedding)
	}
	if m.linear != nil {
		m.linear.Backward(dx[0], nil, dLogits)
	}
}
