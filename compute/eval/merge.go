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
}

// Merge combines blocks, given in block order. Sums are made in that order:
// the same blocks give the same bits.
func Merge(blocks []*Accumulator) Result {
	var (
		r       Result
		lossSum float64
		size    int
	)
	for _, a := range blocks {
		size += len(a.pairs)
		r.Invalid += a.invalid
		lossSum += a.lossSum
	}
	pairs := make([]uint32, 0, size)
	for _, a := range blocks {
		pairs = append(pairs, a.pairs...)
	}
	slices.Sort(pairs)
	r.Samples = uint64(size)
	r.AUC, r.Positives = area(pairs)
	if size > 0 {
		r.LogLoss = lossSum / float64(size)
	}
	return r
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
