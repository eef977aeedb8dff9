package kernel

import (
	"github.com/fathom-train/fathom/compute/random"
)

// Words sets dst[i] to word first+i of a stream of random numbers.
func Words(dst []uint64, stream, first uint64) {
	n := 0
	if SIMD() && len(dst) >= 4 {
		n = len(dst) &^ 3
		wordsVector(&dst[0], stream, first, n)
	}
	for ; n < len(dst); n++ {
		dst[n] = random.Word(stream, first+uint64(n))
	}
}

// DropBits is how many random bits decide about one element in Drop.
const DropBits = 16

// dropChunk is how many elements are done with one piece of random words.
const dropChunk = 1024

// Drop sets y[i] to 0 where the random number of element first+i is below
// threshold, to x[i]*keep elsewhere. The number of element e is 16 bits of word
// e/4 of the stream, the lowest for e%4 = 0.
func Drop(y, x []float32, stream, first uint64, threshold uint32, keep float32) {
	check("Drop", len(y), len(x))
	var words [dropChunk/4 + 1]uint64
	for len(x) > 0 {
		n := min(len(x), dropChunk)
		skip := int(first % 4)
		Words(words[:(skip+n+3)/4], stream, first/4)
		done := 0
		if SIMD() && n >= vector {
			done = n &^ (vector - 1)
			dropVector(&y[0], &x[0], &words[0], skip, done, threshold, keep)
		}
		for i := done; i < n; i++ {
			e := skip + i
			v := x[i] * keep
			if uint32(words[e/4]>>(e%4*DropBits)&(1<<DropBits-1)) < threshold {
				v = 0
			}
			y[i] = Canonical(v)
		}
		x, y, first = x[n:], y[n:], first+uint64(n)
	}
}
