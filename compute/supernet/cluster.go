package supernet

import (
	"math/bits"
	"slices"

	"github.com/fathom-train/fathom/compute/random"
)

// clusterRounds bounds the rounds of Cluster.
const clusterRounds = 100

// Cluster groups samples by their open gates, each the given number of words: k-means
// with the number of gates that differ as the distance, whose centres are rounded to
// gates, too (k-modes, Huang 1998). So a centre is a mask, and the nearest mask tells
// the cluster of any sample. It returns the k centres and how many samples each has. A
// gate is open in a centre when it is in more than half of its samples. The first
// centres are drawn from the stream, with probabilities in proportion to the distance
// from those before (k-means++, without squares). Where there are fewer different samples
// than centres, centres are equal, and the first of equals has the samples.
func Cluster(samples []uint64, words, gates, k int, stream uint64) (centres [][]uint64, sizes []int64) {
	n := len(samples) / words
	of := make([]int, n)
	all := majority(samples, words, gates, of, 0)
	if all == nil {
		all = make([]uint64, words)
	}
	centres = [][]uint64{all}
	for len(centres) < k {
		centres = append(centres, another(samples, words, centres, random.Word(stream, uint64(len(centres)))))
	}
	assign := func() {
		sizes = make([]int64, k)
		for i := range of {
			of[i] = Nearest(samples[i*words:(i+1)*words], centres)
			sizes[of[i]]++
		}
	}
	assign()
	for range clusterRounds {
		moved := false
		for c := range centres {
			if m := majority(samples, words, gates, of, c); m != nil && !slices.Equal(m, centres[c]) {
				centres[c], moved = m, true
			}
		}
		if !moved {
			break
		}
		assign()
	}
	return centres, sizes
}

// Nearest returns the centre from which the fewest gates differ, of equals the first.
func Nearest(sample []uint64, centres [][]uint64) int {
	best, least := 0, -1
	for c, centre := range centres {
		if d := distance(sample, centre); least < 0 || d < least {
			best, least = c, d
		}
	}
	return best
}

func distance(a, b []uint64) (d int) {
	for i, w := range a {
		d += bits.OnesCount64(w ^ b[i])
	}
	return d
}

// majority returns the gates that more than half of a cluster's samples have open, nil
// when it has none.
func majority(samples []uint64, words, gates int, of []int, cluster int) []uint64 {
	counts, n := make([]int, gates), 0
	for i, c := range of {
		if c != cluster {
			continue
		}
		n++
		for g := range counts {
			counts[g] += int(samples[i*words+g/64] >> (g % 64) & 1)
		}
	}
	if n == 0 {
		return nil
	}
	m := make([]uint64, words)
	for g, c := range counts {
		if 2*c > n {
			m[g/64] |= 1 << (g % 64)
		}
	}
	return m
}

// another draws a sample by its distance from the nearest centre; when all have a
// centre of their own gates, it is the last centre once more.
func another(samples []uint64, words int, centres [][]uint64, word uint64) []uint64 {
	var far []uint64 // running sums
	var sum uint64
	for i := 0; i < len(samples); i += words {
		s := samples[i : i+words]
		sum += uint64(distance(s, centres[Nearest(s, centres)]))
		far = append(far, sum)
	}
	if sum == 0 {
		return slices.Clone(centres[len(centres)-1])
	}
	at, _ := bits.Mul64(word, sum) // below the sum
	i, _ := slices.BinarySearch(far, at+1)
	return slices.Clone(samples[i*words : (i+1)*words])
}
