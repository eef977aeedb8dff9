package random

import (
	"fmt"
	"math/bits"
)

// Purpose separates the streams of one seed. The numbers are fixed for ever:
// they are mixed into every stream.
type Purpose uint64

// The purposes in use.
const (
	InitRow       Purpose = 1  // first values of an embedding row
	InitDense     Purpose = 2  // first values of a dense tensor
	Dropout       Purpose = 3  // masks of the dropout layers
	ShuffleBlocks Purpose = 4  // order of an epoch's windows or blocks
	ShuffleWindow Purpose = 5  // order of the rows inside a window
	Synth         Purpose = 6  // generated samples
	Teacher       Purpose = 7  // hidden model behind generated labels
	Jitter        Purpose = 8  // back-off of retries; never reaches a model
	Negatives     Purpose = 9  // which negative samples are kept
	Freeze        Purpose = 10 // layers that are trained
	Supernet      Purpose = 20 // sampled prefixes
	Search        Purpose = 21 // candidates of a dimension search
	Gates         Purpose = 22 // gates of single samples, and their clusters
)

// golden is 2^64 divided by the golden ratio, odd: the step of a Weyl sequence.
const golden = 0x9E3779B97F4A7C15

// mix is the finalizer of SplitMix64 (Stafford's variant 13): a bijection of
// 64-bit words in which every input bit flips every output bit with
// probability close to one half.
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xBF58476D1CE4E5B9
	x ^= x >> 27
	x *= 0x94D049BB133111EB
	x ^= x >> 31
	return x
}

// Stream returns the id of the stream named by seed, p, a, b and c. Distinct
// names give unrelated streams (up to the chance of a 64-bit collision).
func Stream(seed uint64, p Purpose, a, b, c uint64) uint64 {
	h := mix(seed + golden)
	h = mix(h + golden*uint64(p) + 1)
	h = mix(h + golden ^ a)
	h = mix(h + golden ^ bits.RotateLeft64(b, 21))
	return mix(h + golden ^ bits.RotateLeft64(c, 42))
}

// Word returns 64-bit word i of a stream. The stream enters twice, before and
// after the first mix, so that two streams are never shifted copies of one
// sequence, as they would be in plain SplitMix64.
func Word(stream, i uint64) uint64 {
	return mix(mix(stream+golden*(i+1)) ^ bits.RotateLeft64(stream, 32))
}

// Unit returns the top 24 bits of word as a number in [0, 1), exactly.
func Unit(word uint64) float32 { return float32(word>>40) * 0x1p-24 }

// Unit64 returns the top 53 bits of word as a number in [0, 1), exactly.
func Unit64(word uint64) float64 { return float64(word>>11) * 0x1p-53 }

// Below returns a number in [0, n) from word i of a stream. The bias is at
// most n/2^64 of a value's probability. It panics if n is 0.
func Below(stream, i, n uint64) uint64 {
	if n == 0 {
		panic("compute/random: BUG: Below with n = 0")
	}
	hi, _ := bits.Mul64(Word(stream, i), n)
	return hi
}

// permuteRounds is the number of Feistel rounds; four already give a
// pseudo-random permutation of a large domain, eight also serve small ones.
const permuteRounds = 8

// Permute returns the image of i under the stream's pseudo-random bijection of
// [0, n). It needs no memory: a Feistel network over the next power of two,
// walked until it lands below n, which takes fewer than two rounds through the
// network on average. It panics unless i < n.
func Permute(stream, n, i uint64) uint64 {
	if i >= n {
		panic(fmt.Sprintf("compute/random: BUG: Permute of %d in a domain of %d", i, n))
	}
	if n == 1 {
		return 0
	}
	width := bits.Len64(n - 1)
	low := width / 2
	lowMask := uint64(1)<<low - 1
	highMask := uint64(1)<<(width-low) - 1
	for {
		l, r := i&lowMask, i>>low
		for k := uint64(0); k < permuteRounds; k += 2 {
			r ^= Word(stream, l<<3|k) >> 7 & highMask
			l ^= Word(stream, r<<3|k|1) >> 7 & lowMask
		}
		if i = r<<low | l; i < n {
			return i
		}
	}
}
