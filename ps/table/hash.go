package table

import (
	"math/bits"
	"unsafe"

	"github.com/zeebo/xxh3"
)

// HashFloats returns the 128-bit XXH3 of the little-endian bytes of v: low
// word, high word. State hashes are sums of it.
func HashFloats(v []float32, seed uint64) [2]uint64 {
	b := unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(v))), 4*len(v))
	h := xxh3.Hash128Seed(b, seed)
	return [2]uint64{h.Lo, h.Hi}
}

// AddHash adds two hashes with wrap-around at 128 bits.
func AddHash(a, b [2]uint64) [2]uint64 {
	lo, carry := bits.Add64(a[0], b[0], 0)
	hi, _ := bits.Add64(a[1], b[1], carry)
	return [2]uint64{lo, hi}
}

// subHash undoes AddHash.
func subHash(a, b [2]uint64) [2]uint64 {
	lo, borrow := bits.Sub64(a[0], b[0], 0)
	hi, _ := bits.Sub64(a[1], b[1], borrow)
	return [2]uint64{lo, hi}
}
