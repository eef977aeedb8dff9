package eval

import (
	"math"
	"math/bits"
	"slices"
)

// Result is the quality of a model on a set of samples.
type Result struct {
	Samples, Positives uint64
	// Invalid counts samples whose score was no probability; a trained model has
	// none unless it diverged.
	Invalid uint64
	// AUC is the share of (positive, negative) pairs that the scores order
	// right, ties counting one half. It is 1/2 when a class is missing.
	AUC float64
	// LogLoss is the mean binary cross entropy, probabilities being clamped to
	// [1e-7, 1-1e-7]. It is 0 without samples.
	LogLoss float64
	// GAUC is the mean of the AUCs within the groups that have both classes,
	// weighted by their samples, of which there are GroupedSamples. It is 0 when
	// there is no such group.
	GAUC           float64
	GroupedSamples uint64
}

// Merge combines blocks, given in block order. Sums are made in that order:
// the same blocks give the same bits.
func Merge(blocks []*Accumulator) Result {
	var (
		r       Result
		lossSum float64
		size    int
		grouped []member
	)
	for _, a := range blocks {
		size += a.Samples()
		r.Invalid += a.invalid
		lossSum += a.lossSum
	}
	pairs := make([]uint32, 0, size)
	for _, a := range blocks {
		pairs = append(pairs, a.pairs...)
		grouped = append(grouped, a.grouped...)
	}
	slices.SortFunc(grouped, member.before)
	r.GAUC, r.GroupedSamples = areaOfGroups(grouped)
	for _, m := range grouped {
		pairs = append(pairs, m.pair)
	}
	slices.Sort(pairs)
	r.Samples = uint64(size)
	r.AUC, r.Positives = area(pairs)
	if size > 0 {
		r.LogLoss = lossSum / float64(size)
	}
	return r
}

// areaOfGroups returns the mean AUC of the groups of sorted members that have
// both classes, weighted by their samples, and the number of these. The sum is
// made in the order of the groups.
func areaOfGroups(all []member) (mean float64, samples uint64) {
	var sum float64
	var pairs []uint32
	for len(all) > 0 {
		pairs = pairs[:0]
		group := all[0].group
		for len(all) > 0 && all[0].group == group {
			pairs, all = append(pairs, all[0].pair), all[1:]
		}
		auc, positives := area(pairs)
		if n := uint64(len(pairs)); positives > 0 && positives < n {
			sum += float64(float64(n) * auc)
			samples += n
		}
	}
	if samples == 0 {
		return 0, 0
	}
	return sum / float64(samples), samples
}

// area returns the AUC of sorted pairs and the number of positives. It counts
// twice the rank statistic, an integer of up to 128 bits.
func area(pairs []uint32) (auc float64, positives uint64) {
	var negatives, hi, lo uint64
	for at := 0; at < len(pairs); {
		score := pairs[at] >> 1
		var tied [2]uint64 // negatives and positives of this score
		for ; at < len(pairs) && pairs[at]>>1 == score; at++ {
			tied[pairs[at]&1]++
		}
		high, low := bits.Mul64(tied[1], 2*negatives+tied[0])
		var carry uint64
		lo, carry = bits.Add64(lo, low, 0)
		hi += high + carry
		negatives += tied[0]
		positives += tied[1]
	}
	if positives == 0 || negatives == 0 {
		return 0.5, positives
	}
	high, low := bits.Mul64(positives, 2*negatives)
	return wide(hi, lo) / wide(high, low), positives
}

// wide converts a 128-bit integer, rounding the two halves separately.
func wide(hi, lo uint64) float64 {
	return math.Ldexp(float64(hi), 64) + float64(lo)
}
