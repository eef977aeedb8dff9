package layer

import (
	"fmt"

	"github.com/fathom-train/fathom/compute/kernel"
	"github.com/fathom-train/fathom/compute/random"
)

// MLP is a stack of hidden layers, each Linear, BatchNorm (if asked for), ReLU
// and Dropout, and a last Linear to one value per sample.
type MLP struct {
	in        int
	linear    []Linear // hidden layers and the last one
	norm      []BatchNorm
	dropout   []Dropout
	batchNorm bool

	n         int
	train     bool
	normed    [][]float32 // [n, Out] per hidden layer with BatchNorm: what it normalises
	hidden    [][]float32 // [n, Out] per hidden layer: its output after dropout
	gradient  [][]float32 // [n, Out] per hidden layer
	perHidden int         // tensors of one hidden layer
}

// NewMLP makes the layers for inputs of the given width.
func NewMLP(in int, hidden []int, dropout float32, batchNorm bool) *MLP {
	m := &MLP{in: in, batchNorm: batchNorm, perHidden: 2}
	if batchNorm {
		m.perHidden = 6
	}
	width := in
	for _, out := range hidden {
		m.linear = append(m.linear, Linear{In: width, Out: out})
		m.norm = append(m.norm, BatchNorm{Width: out})
		m.dropout = append(m.dropout, Dropout{Rate: dropout})
		width = out
	}
	m.linear = append(m.linear, Linear{In: width, Out: 1})
	m.normed = make([][]float32, len(hidden))
	m.hidden = make([][]float32, len(hidden))
	m.gradient = make([][]float32, len(hidden))
	return m
}

// Params lists the tensors in the order Forward and Backward take them, named
// under the prefix: per layer its weight and bias and, of a hidden layer with
// BatchNorm, gamma, beta, the running mean and the running variance.
func (m *MLP) Params(prefix string) []Param {
	var params []Param
	for i, l := range m.linear {
		name := fmt.Sprintf("%s.%d", prefix, i)
		params = append(params, LinearParams(name, l.In, l.Out)...)
		if !m.batchNorm || i == len(m.norm) {
			continue
		}
		one, shape := random.Init{Kind: "constant", Scale: 1}, []int{l.Out}
		params = append(params,
			Param{Name: name + ".bn.weight", Shape: shape, Init: one},
			Param{Name: name + ".bn.bias", Shape: shape},
			Param{Name: name + ".bn.running_mean", Shape: shape, Kind: Running},
			Param{Name: name + ".bn.running_var", Shape: shape, Kind: Running, Init: one})
	}
	return params
}

// Forward computes y [n] from x [n, in]; layer i of a training pass drops by a
// stream of its own, derived from the given one.
func (m *MLP) Forward(p [][]float32, y, x []float32, n int, train bool, stream uint64) {
	m.n, m.train = n, train
	for i := range m.hidden {
		m.hidden[i] = grow(m.hidden[i], n*m.linear[i].Out)
		m.dropout[i].stream = random.Stream(stream, random.Dropout, uint64(i), 0, 0)
		m.forwardHidden(i, p[i*m.perHidden:], x)
		x = m.hidden[i]
	}
	last := len(m.hidden)
	if last == len(m.linear) {
		return // a Tower
	}
	q := p[last*m.perHidden:]
	m.linear[last].Forward(y, x, q[0], q[1], n)
}

// chunk is how many elements the passes over a layer's values take at a time,
// in whole rows: all that is to be done to them is done while they are in the
// nearest cache.
const chunk = 4096

// rowsAtOnce is the number of elements of chunk/width rows, at least one.
func rowsAtOnce(width int) int { return max(1, chunk/width) * width }

// forwardHidden computes m.hidden[i] from x [n, In].
func (m *MLP) forwardHidden(i int, q [][]float32, x []float32) {
	out, l, norm := m.hidden[i], &m.linear[i], &m.norm[i]
	drop := m.train && m.dropout[i].Rate > 0
	before := out // the values that become out, chunk by chunk
	switch {
	case !m.batchNorm:
		l.forward(out, x, q[0], q[1], m.n, true)
		if !drop {
			return
		}
	case m.train:
		m.normed[i] = grow(m.normed[i], len(out))
		before = m.normed[i]
		l.Forward(before, x, q[0], q[1], m.n)
		norm.observe(before, q[2], q[3], m.n)
	default:
		l.Forward(out, x, q[0], q[1], m.n)
		norm.known(out, q[2], q[3], q[4], q[5], m.n)
	}
	step := rowsAtOnce(l.Out)
	for lo := 0; lo < len(out); lo += step {
		part := out[lo:min(lo+step, len(out))]
		if m.batchNorm {
			norm.norm.Normalize(part, before[lo:lo+len(part)], true)
		}
		if drop {
			m.dropout[i].apply(part, part, lo)
		}
	}
}

// Backward overwrites the gradients dp and, unless dx is nil, dx [n, in], given
// dy [n] of the last Forward, which must have been one in training; share
// scales the lane's statistics (see Param).
func (m *MLP) Backward(p, dp [][]float32, dx, dy []float32, share float32) {
	if !m.train {
		panic("compute/layer: BUG: backward pass after an evaluation")
	}
	for i := len(m.linear) - 1; i >= 0; i-- {
		q, dq, l := p[i*m.perHidden:], dp[i*m.perHidden:], &m.linear[i]
		below := dx
		if i > 0 {
			m.gradient[i-1] = grow(m.gradient[i-1], m.n*l.In)
			below = m.gradient[i-1]
		}
		if i == len(m.hidden) {
			l.Backward(below, dq[0], dq[1], dy, q[0])
		} else {
			m.backwardHidden(i, q, dq, dy, share)
			l.backward(below, dq[0], dy, q[0])
		}
		dy = below
	}
}

// backwardHidden takes dy [n, Out], in place, from the output of hidden layer i
// back to the output of its Linear, and computes the gradient of its bias. The
// layer's output is positive exactly where neither ReLU nor dropout made it 0.
func (m *MLP) backwardHidden(i int, q, dq [][]float32, dy []float32, share float32) {
	out, norm, keep := m.hidden[i], &m.norm[i], float32(1)
	check("gradient of the hidden layer", len(dy), len(out))
	if m.dropout[i].Rate > 0 {
		keep = m.dropout[i].keep()
	}
	clear(dq[1])
	if m.batchNorm {
		norm.clearSums(dq[2], dq[3])
	}
	step := rowsAtOnce(m.linear[i].Out)
	for lo := 0; lo < len(dy); lo += step {
		hi := min(lo+step, len(dy))
		part := dy[lo:hi]
		kernel.ActivationGrad(part, part, out[lo:hi], keep)
		if m.batchNorm {
			norm.norm.GradSums(dq[2], dq[3], part, norm.x[lo:hi])
		} else {
			kernel.SumRows(dq[1], part)
		}
	}
	if !m.batchNorm {
		return
	}
	norm.closeSums(dq[2], dq[3], q[2])
	for lo := 0; lo < len(dy); lo += step {
		part := dy[lo:min(lo+step, len(dy))]
		norm.inputGrad(part, part, lo)
		kernel.SumRows(dq[1], part)
	}
	norm.Running(dq[4], dq[5], share)
}
