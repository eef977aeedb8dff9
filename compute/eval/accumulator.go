// Package eval measures the quality of a model's scores: the exact AUC, that
// within groups of samples, and the mean log loss of any number of samples, evaluated in blocks by any number of
// workers.
//
// An Accumulator holds one block: the multiset of (score, label) pairs, 4 bytes
// each, and the sum of their log losses. Blocks travel as bytes (Append, Parse)
// and are combined by Merge in block order, so the result has the same bits
// whoever evaluated which block. A block delivered twice must be dropped by the
// caller before Merge.
//
// The AUC is a ratio of two integers, so it needs no tolerance; the losses are
// float64 sums in sample order.
package eval

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// clamp keeps log loss finite: probabilities are moved into [clamp, 1-clamp].
const clamp = 1e-7

// one is the bit pattern of float32(1); the patterns of [0, 1] are 0..one in
// the order of the values.
const one = 0x3f800000

// Accumulator collects the scores of one block. The zero value is empty and
// ready; it is used by one goroutine at a time.
type Accumulator struct {
	// pairs holds scoreBits<<1 | label, in any order until sort is called; those
	// of samples with a group are in grouped instead.
	pairs   []uint32
	grouped []member
	sorted  bool
	invalid uint64
	lossSum float64
}

// member is the pair of a sample that belongs to a group.
type member struct {
	group uint64
	pair  uint32
}

// before orders members by group, then as pairs.
func (m member) before(o member) int {
	return cmp.Or(cmp.Compare(m.group, o.group), cmp.Compare(m.pair, o.pair))
}

// Add takes the probabilities, the labels (1 is positive, 0 negative) and the
// groups of more samples; groups is empty when they have none. A score outside [0, 1] or not a number is counted as invalid
// and taken as 1/2.
func (a *Accumulator) Add(scores, labels []float32, groups []uint64) {
	if len(scores) != len(labels) || len(groups) != 0 && len(groups) != len(scores) {
		panic(fmt.Sprintf("compute/eval: BUG: %d scores, %d labels and %d groups", len(scores), len(labels), len(groups)))
	}
	a.sorted = false
	for i, s := range scores {
		if !(s >= 0 && s <= 1) {
			a.invalid++
			s = 0.5
		}
		pair, ofLabel := math.Float32bits(s+0)<<1, 1-float64(s) // s+0: -0 becomes 0
		if labels[i] > 0.5 {
			pair |= 1
			ofLabel = float64(s)
		}
		if len(groups) > 0 {
			a.grouped = append(a.grouped, member{groups[i], pair})
		} else {
			a.pairs = append(a.pairs, pair)
		}
		a.lossSum -= logarithm(min(max(ofLabel, clamp), 1-clamp))
	}
}

// Samples returns the number of samples added.
func (a *Accumulator) Samples() int { return len(a.pairs) + len(a.grouped) }

// Reset makes the accumulator empty and keeps its memory.
func (a *Accumulator) Reset() {
	*a = Accumulator{pairs: a.pairs[:0], grouped: a.grouped[:0]}
}

// sort orders the pairs by score, negatives before positives of the same score;
// of samples with groups by these first.
func (a *Accumulator) sort() {
	if !a.sorted {
		slices.Sort(a.pairs)
		slices.SortFunc(a.grouped, member.before)
		a.sorted = true
	}
}
