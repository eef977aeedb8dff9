package supernet

import (
	"fmt"

	"github.com/fathom-train/fathom/compute/random"
)

// Gates of single samples (iHAS, Zheng et al. 2023): a network gives for every sample,
// field and dimension the logit of a gate. In training a gate is open with the
// probability sigmoid(logit), in the search it is open when that is above one half.

// DrawGates opens gates at random: z[i] is 1 with the probability p[i], else 0. Gate i
// takes word i of the stream.
func DrawGates(z, p []float32, stream uint64) {
	for i := range z {
		z[i] = 0
		if random.Unit(random.Word(stream, uint64(i))) < p[i] {
			z[i] = 1
		}
	}
}

// GateGradient overwrites the gradients of the gates dz [n, size] with those of the
// logits, whose sigmoids are p: a gate that was drawn counts as its probability
// (straight-through), and weight times Polarization is added for every sample.
func GateGradient(dz, p []float32, size int, weight float32) {
	for at := 0; at < len(dz); at += size {
		probabilities := p[at : at+size]
		mean, above := meanOf(probabilities), float32(0)
		for _, v := range probabilities {
			above += sign(v - mean)
		}
		above /= float32(size)
		for i, v := range probabilities {
			d := dz[at+i] + float32(weight*(1-sign(v-mean)+above))/float32(size)
			dz[at+i] = float32(d * float32(v*(1-v)))
		}
	}
}

// Polarization is the regulariser of one sample's gates, the mean of p - |p - mean p|:
// it closes gates, and drives those above and below the mean apart (Zhuang et al.
// 2020, with t = 1; which one iHAS has, we have not seen).
func Polarization(p []float32) float32 {
	mean, sum := meanOf(p), float32(0)
	for _, v := range p {
		sum += v - abs(v-mean)
	}
	return sum / float32(len(p))
}

func meanOf(p []float32) float32 {
	var sum float32
	for _, v := range p {
		sum += v
	}
	return sum / float32(len(p))
}

func sign(v float32) float32 {
	switch {
	case v > 0:
		return 1
	case v < 0:
		return -1
	}
	return 0
}

// Words is the number of words that so many gates are packed into.
func Words(gates int) int { return (gates + 63) / 64 }

// Pack sets bit i of dst, which has Words(len(v)) words, where v[i] is above 0: the
// open gates of one sample, by their logits.
func Pack(dst []uint64, v []float32) {
	if len(dst) != Words(len(v)) {
		panic(fmt.Sprintf("compute/supernet: BUG: %d words for %d gates", len(dst), len(v)))
	}
	clear(dst)
	for i, x := range v {
		if x > 0 {
			dst[i/64] |= 1 << (i % 64)
		}
	}
}

// Unpack writes the bits of words as numbers, 1 or 0.
func Unpack(dst []float32, words []uint64) {
	for i := range dst {
		dst[i] = float32(words[i/64] >> (i % 64) & 1)
	}
}

// ClusterMasks turns, in place, the open gates of every cluster, as numbers [clusters,
// size], into what its samples' values are multiplied by: 0 where a gate is closed
// that another cluster has open, else 1. A dimension that no cluster has open is left
// out of the tables, or stored because the field must have one: then all see it.
func ClusterMasks(open []float32, size int) {
	for i := range size {
		any := float32(0)
		for at := i; at < len(open); at += size {
			any = max(any, open[at])
		}
		for at := i; any == 0 && at < len(open); at += size {
			open[at] = 1
		}
	}
}
