package wire

import (
	"unsafe"

	"github.com/fathom-train/fathom/shard"
)

// The views below reinterpret bytes as numbers and back. They are what keeps
// pull and push free of a copy per number; the file bigendian.go refuses to
// build where the memory order is not that of the format.

// pad8 rounds up to a multiple of eight.
func pad8(n int) int { return (n + 7) &^ 7 }

// aligned reports whether b starts at a multiple of eight.
func aligned(b []byte) bool {
	return uintptr(unsafe.Pointer(unsafe.SliceData(b)))%8 == 0
}

// align returns b itself when it is aligned, else a copy of it in *scratch,
// which is reused.
func align(b []byte, scratch *[]uint64) []byte {
	if len(b) == 0 || aligned(b) {
		return b
	}
	words := (len(b) + 7) / 8
	if cap(*scratch) < words {
		*scratch = make([]uint64, words)
	}
	to := unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData((*scratch)[:words]))), len(b))
	copy(to, b)
	return to
}

// viewKeys, viewCounts and viewFloats read n numbers at the start of b, which
// must be aligned and long enough.
func viewKeys(b []byte, n int) []shard.Key {
	return unsafe.Slice((*shard.Key)(unsafe.Pointer(unsafe.SliceData(b))), n)
}

func viewCounts(b []byte, n int) []uint32 {
	return unsafe.Slice((*uint32)(unsafe.Pointer(unsafe.SliceData(b))), n)
}

func viewFloats(b []byte, n int) []float32 {
	return unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(b))), n)
}

// number is what a message holds runs of.
type number interface {
	~uint16 | ~uint32 | ~uint64 | ~float32
}

// appendNumbers appends the numbers and pads to a multiple of eight bytes.
func appendNumbers[T number](dst []byte, v []T) []byte {
	var zero T
	n := len(v) * int(unsafe.Sizeof(zero))
	dst = append(dst, unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(v))), n)...)
	return append(dst, zeros[:pad8(n)-n]...)
}

var zeros [bodyHeaderSize + framesHeaderSize]byte
