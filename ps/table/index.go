package table

import (
	"math/bits"
	"unsafe"

	"github.com/fathom-train/fathom/shard"
)

// The index is cut into segments that grow one at a time, so that no single
// update pays for moving all keys of a large table.
const (
	segmentBits  = 6
	segmentSlots = 16 // of an empty segment
)

// slot maps a key to a row. row is the row number plus one; zero is empty, so
// key zero needs no special case.
type slot struct {
	key shard.Key
	row uint32
	_   uint32
}

const slotBytes = int(unsafe.Sizeof(slot{}))

// segment is an open-addressing table with linear probing, at most half full:
// above that a miss, which every new key is, probes far.
type segment struct {
	slots  []slot
	memory region
	count  int
	shift  uint // 64 - log2(len(slots))
}

type index struct {
	segments [1 << segmentBits]segment
}

// spread turns a key into a position, of which the top bits count. Keys of a
// shard share their top bits, so these must come from all of the key.
func spread(k shard.Key) uint64 {
	h := uint64(k)
	h ^= h >> 32
	h *= 0x9e3779b97f4a7c15
	h ^= h >> 29
	return h * 0xbf58476d1ce4e5b9
}

// find returns the row of a key.
func (x *index) find(k shard.Key) (row uint32, ok bool) {
	h := spread(k)
	s := &x.segments[h>>(64-segmentBits)]
	if s.count == 0 {
		return 0, false
	}
	mask := uint64(len(s.slots) - 1)
	for i := h << segmentBits >> s.shift; ; i = (i + 1) & mask {
		switch e := &s.slots[i&mask]; {
		case e.row == 0:
			return 0, false
		case e.key == k:
			return e.row - 1, true
		}
	}
}

// insert adds a key that is not there.
func (x *index) insert(k shard.Key, row uint32) {
	h := spread(k)
	s := &x.segments[h>>(64-segmentBits)]
	if 2*(s.count+1) > len(s.slots) {
		s.grow()
	}
	s.place(h, slot{key: k, row: row + 1})
	s.count++
}

func (s *segment) place(h uint64, e slot) {
	mask := uint64(len(s.slots) - 1)
	i := h << segmentBits >> s.shift
	for s.slots[i].row != 0 {
		i = (i + 1) & mask
	}
	s.slots[i] = e
}

// grow doubles the segment.
func (s *segment) grow() {
	old := *s
	n := max(segmentSlots, 2*len(old.slots))
	s.memory = allocate(n * slotBytes)
	s.slots = unsafe.Slice((*slot)(unsafe.Pointer(unsafe.SliceData(s.memory.mem))), n)
	s.shift = uint(64 - bits.TrailingZeros(uint(n)))
	for _, e := range old.slots {
		if e.row != 0 {
			s.place(spread(e.key), e)
		}
	}
	old.memory.release()
}

// release frees the memory of all segments.
func (x *index) release() {
	for i := range x.segments {
		x.segments[i].memory.release()
		x.segments[i] = segment{}
	}
}

// size returns the bytes of all segments.
func (x *index) size() int {
	n := 0
	for i := range x.segments {
		n += len(x.segments[i].memory.mem)
	}
	return n
}
