package dataset

import (
	"math"
	"math/bits"
)

// alias draws from a fixed distribution over 0..n-1 with one random word and
// one table look-up (Walker's method, built as Vose does). Weights are
// integers, so the table and every draw are exact and the same everywhere.
type alias struct {
	// cut[i] is the chance, in 2^-64, that cell i yields i and not other[i].
	cut   []uint64
	other []int32
}

// draw returns the id for a random word.
func (a *alias) draw(word uint64) int32 {
	cell, rest := bits.Mul64(word, uint64(len(a.cut)))
	if rest < a.cut[cell] {
		return int32(cell)
	}
	return a.other[cell]
}

// weightUnit is the weight of the most frequent id. With at most 2^24 ids, a
// weight times their number fits 64 bits.
const weightUnit = 1 << 36

// newAlias builds the table. Every weight is in 1..weightUnit.
func newAlias(weights []uint64) alias {
	n := uint64(len(weights))
	var total uint64
	for _, w := range weights {
		total += w
	}
	a := alias{cut: make([]uint64, n), other: make([]int32, n)}
	scaled := make([]uint64, n)
	var small, large []int32
	for i, w := range weights {
		scaled[i] = w * n
		a.cut[i], a.other[i] = math.MaxUint64, int32(i)
		if scaled[i] < total {
			small = append(small, int32(i))
		} else {
			large = append(large, int32(i))
		}
	}
	for len(small) > 0 && len(large) > 0 {
		s, l := small[len(small)-1], large[len(large)-1]
		small = small[:len(small)-1]
		a.cut[s], _ = bits.Div64(scaled[s], 0, total)
		a.other[s] = l
		scaled[l] -= total - scaled[s]
		if scaled[l] < total {
			large = large[:len(large)-1]
			small = append(small, l)
		}
	}
	return a
}

// zipfWeights returns the weights 1/k^s of the ids k = 1..n, in units of
// 1/weightUnit, at least one. They are rounded after our own logarithm and
// exponential, which give the same bits on every platform.
func zipfWeights(n int64, s float64) []uint64 {
	w := make([]uint64, n)
	for k := range w {
		w[k] = max(1, uint64(float64(weightUnit*exp(float64(-s*ln(float64(k+1)))))+0.5))
	}
	return w
}

// countWeights returns the weights of a heavy-tailed count: level l >= 1 is
// the counts from 2^(l-1)-1 to 2^l-2, and has ratio/10 of the weight of the
// level before; level 0 means missing and has the given share in percent.
func countWeights(levels, ratio, missingPercent int) []uint64 {
	w := make([]uint64, levels+1)
	var total uint64
	next := uint64(weightUnit / 64)
	for l := 1; l <= levels; l++ {
		w[l] = max(1, next)
		total += w[l]
		next = next * uint64(ratio) / 10
	}
	w[0] = max(1, total*uint64(missingPercent)/uint64(100-missingPercent))
	return w
}
