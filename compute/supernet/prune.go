package supernet

import (
	"fmt"
	"math"

	"github.com/fathom-train/fathom/compute/kernel"
)

// Norm measures a row that a threshold is compared with.
type Norm string

// The norms.
const (
	L1 Norm = "l1"
	L2 Norm = "l2"
	// LInf is the largest weight: above a soft threshold, something of the row is left.
	LInf Norm = "linf"
)

// Valid tells whether n is one of the norms.
func (n Norm) Valid() bool { return n == L1 || n == L2 || n == LInf }

// Of returns the norm of a row; its sums have a fixed order.
func (n Norm) Of(e []float32) float32 {
	switch n {
	case L1:
		var sum float32
		for _, v := range e {
			sum += abs(v)
		}
		return sum
	case L2:
		return float32(math.Sqrt(float64(kernel.SumSquares(e))))
	case LInf:
		var top float32
		for _, v := range e {
			top = max(top, abs(v))
		}
		return top
	}
	panic(fmt.Sprintf("compute/supernet: BUG: norm %q", string(n)))
}

func abs(v float32) float32 { return math.Float32frombits(math.Float32bits(v) &^ (1 << 31)) }

// Keeps tells whether a row stays under a threshold: its norm is strictly above.
func (n Norm) Keeps(e []float32, threshold float32) bool { return n.Of(e)-threshold > 0 }

// Uses is what a supernet counts of the samples that have the value of a row: how many
// they are, and how many of them have the label 1, both times UsesUnit.
const Uses = 2

// UsesUnit is what one sample counts. It is a power of two, and so small that counts
// that are pushed like gradients do not matter in the norm of all.
const UsesUnit = 1. / (1 << 30)

// Importance ranks the rows of a table: what a row says, times the variance of the
// labels of the samples that have its value, summed over them: n p (1-p) when n samples
// have it, a share p of them the label 1. A value whose samples all have the same label
// needs no embedding, its first-order weight says it. The share is that of one sample
// more, half of it with the label 1, so that these values are in order, too.
func (n Norm) Importance(e, uses []float32) float32 {
	all, ones := uses[0], uses[1]
	p := float32(ones+UsesUnit/2) / float32(all+UsesUnit)
	return n.Of(e) * float32(all*float32(p*(1-p)))
}

// Surrogate is the derivative that training uses for the step function
// [x > 0]: the long-tail estimator of OptEmbed (section 3.2; Xu and Cheung
// 2019), 2-4|x| up to 0.4, then 0.4 up to 1, then 0.
func Surrogate(x float32) float32 {
	switch a := abs(x); {
	case a <= 0.4:
		return 2 - float32(4*a)
	case a <= 1:
		return 0.4
	}
	return 0
}

// Rows are embedding rows side by side: row u is the Width values at
// Values[u*Stride+Off].
type Rows struct {
	Values             []float32
	Stride, Off, Width int
}

// row returns row u.
func (r Rows) row(u int) []float32 {
	at := u*r.Stride + r.Off
	return r.Values[at : at+r.Width : at+r.Width]
}

// Prune writes to out the rows as the model sees them: those whose norm is not
// above their field's threshold become zero. excess gets norm minus threshold of
// every row, which Backward needs. field names each row's threshold.
func Prune(out, in Rows, field []int32, thresholds []float32, norm Norm, excess []float32) {
	for u, f := range field {
		e := in.row(u)
		excess[u] = norm.Of(e) - thresholds[f]
		if excess[u] > 0 {
			copy(out.row(u), e)
		} else {
			clear(out.row(u))
		}
	}
}

// PruneBackward turns the gradients of pruned rows, in place, into those of the
// rows themselves, and adds the thresholds' to dThresholds. in and excess are
// those of Prune. A pruned row gets a gradient too, so it can come back. Unless
// instead is nil, it is what pruned rows read as, in the place of zeros.
func PruneBackward(d, in Rows, field []int32, norm Norm, excess, dThresholds, instead []float32) {
	for u, f := range field {
		e, g := in.row(u), d.row(u)
		dMask := kernel.Dot(g, e) // of the 0/1 mask of the row
		if instead != nil {
			dMask -= kernel.Dot(g, instead)
		}
		if excess[u] <= 0 {
			clear(g)
		}
		s := float32(dMask * Surrogate(excess[u]))
		if s == 0 {
			continue
		}
		dThresholds[f] -= s
		norm.addGradient(g, e, s)
	}
}

// addGradient adds scale times the gradient of the norm of e to g.
func (n Norm) addGradient(g, e []float32, scale float32) {
	switch n {
	case LInf:
		panic("compute/supernet: BUG: rows are pruned by their largest weight, which Soft is for")
	case L2:
		if length := n.Of(e); length > 0 {
			kernel.Axpy(scale/length, e, g)
		}
		return
	}
	for k, v := range e {
		switch {
		case v > 0:
			g[k] += scale
		case v < 0:
			g[k] -= scale
		}
	}
}

// Regularise returns weight * sum(exp(-t)), which rewards high thresholds, and
// adds share of its gradient to dThresholds: the lanes of a step add one
// regulariser together, whatever their number.
func Regularise(thresholds []float32, weight, share float32, dThresholds []float32) (loss float64) {
	for i, t := range thresholds {
		e := kernel.Exp(-t)
		loss += float64(weight) * float64(e)
		dThresholds[i] -= float32(float32(weight*share) * e)
	}
	return loss
}
