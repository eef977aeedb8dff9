package layer

import "fmt"

// Headed is a Residual with a Linear at its end, to one value per sample.
type Headed struct {
	tower *Residual
	head  Linear
	at    int // where the tensors of the head begin
	dy    []float32
}

// NewHeaded makes the layers for inputs of the given width.
func NewHeaded(in int, shape ResidualShape) *Headed {
	tower := NewResidual(in, shape)
	return &Headed{tower: tower, head: Linear{In: shape.Width, Out: 1}, at: tower.atBlock(len(shape.Hidden)) + ofNorm}
}

// UseBF16 is that of MLP.
func (h *Headed) UseBF16() { h.tower.UseBF16() }

// Params lists the tensors of the tower and of the head.
func (h *Headed) Params(prefix string) []Param {
	return append(h.tower.Params(prefix), LinearParams(fmt.Sprintf("%s.%d", prefix, len(h.tower.blocks)), h.head.In, 1)...)
}

// Forward computes y [n] from x [n, in].
func (h *Headed) Forward(p [][]float32, y, x []float32, n int, train bool, stream uint64) {
	h.head.Forward(y, h.tower.Forward(p, x, n, train, stream), p[h.at], p[h.at+1], n)
}

// Backward overwrites dp and, unless dx is nil, dx [n, in], given dy [n] of the
// last Forward; share is that of MLP.
func (h *Headed) Backward(p, dp [][]float32, dx, dy []float32, share float32) {
	h.dy = grow(h.dy, len(dy)*h.head.In)
	h.head.Backward(h.dy, dp[h.at], dp[h.at+1], dy, p[h.at])
	h.tower.Backward(p, dp, dx, h.dy, share)
}
