package layer

// NewMLPTo makes an MLP whose last layer has out values per sample: Forward's y
// and Backward's dy are [n, out].
func NewMLPTo(in int, hidden []int, out int, dropout float32, batchNorm bool) *MLP {
	m := NewMLP(in, hidden, dropout, batchNorm)
	m.linear[len(hidden)].Out = out
	return m
}

// Tower is the hidden layers of an MLP without its last one, for models that
// combine them with something else. There is at least one hidden layer.
type Tower struct{ mlp *MLP }

// NewTower makes the layers for inputs of the given width.
func NewTower(in int, hidden []int, dropout float32, batchNorm bool) *Tower {
	m := NewMLP(in, hidden, dropout, batchNorm)
	m.linear = m.linear[:len(hidden)]
	return &Tower{mlp: m}
}

// Params lists the tensors as MLP.Params does.
func (t *Tower) Params(prefix string) []Param { return t.mlp.Params(prefix) }

// Forward returns y [n, width of the last hidden layer] of x [n, in], valid
// until the next Forward.
func (t *Tower) Forward(p [][]float32, x []float32, n int, train bool, stream uint64) []float32 {
	t.mlp.Forward(p, nil, x, n, train, stream)
	return t.mlp.hidden[len(t.mlp.hidden)-1]
}

// Width is that of the last hidden layer.
func (t *Tower) Width() int { return t.mlp.linear[len(t.mlp.linear)-1].Out }

// Backward overwrites dp and, unless dx is nil, dx [n, in], given dy of the
// last Forward's output, which it uses as scratch; share is that of MLP.
func (t *Tower) Backward(p, dp [][]float32, dx, dy []float32, share float32) {
	t.mlp.Backward(p, dp, dx, dy, share)
}
