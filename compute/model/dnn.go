package model

var dnnDefinition = definition{name: "dnn", embedding: true, network: true, build: newDNN}

// dnn is a network over the embeddings of all fields side by side.
type dnn struct {
	dim    int
	deep   network
	share  float32 // of the last Forward's input
	logits []float32
}

func newDNN(s Spec, fields int) Model {
	return &dnn{dim: s.EmbeddingDim, deep: s.newNetwork(fields * s.EmbeddingDim)}
}

func (m *dnn) Columns() []Column { return []Column{{Embedding, m.dim}} }

func (m *dnn) Params() []Param { return m.deep.Params("mlp") }

func (m *dnn) Forward(p [][]float32, x Input) []float32 {
	m.share, m.logits = x.Share, resize(m.logits, x.N)
	m.deep.Forward(p, m.logits, x.Columns[0], x.N, x.Train, x.Stream)
	return m.logits
}

func (m *dnn) Backward(p [][]float32, dLogits []float32, dp [][]float32, dx [][]float32) {
	m.deep.Backward(p, dp, dx[0], dLogits, m.share)
}
