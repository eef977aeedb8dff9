package table

import (
	"math/bits"
	"unsafe"

	"github.com/fathom-train/fathom/shard"
)

// The index is cut into segments that grow one at a time, so that no single
// update pays for moving all keys of a large table.
const (
	segmentBits = 6
	bucketSlots = 5
	bucketBytes = 64
)

// bucket is one cache line: up to five keys with their rows, so that finding a
// row takes one access to memory. Slots fill from the first on and are never
// emptied.
type bucket struct {
	keys [bucketSlots]shard.Key
	rows [bucketSlots]uint32 // row number plus one, so that none is an empty slot's
	_    uint32
}

var _ [bucketBytes]byte = [unsafe.Sizeof(bucket{})]byte{}

// find returns the row of a key; none when it is not in this bucket. It compares
// all keys and selects without branches: no processor foresees which one it is.
// An empty slot looks as if it had key 0, so the first that is equal counts.
func (b *bucket) find(k shard.Key) uint32 {
	row, r0, r1, r2, r3, r4 := uint32(0), b.rows[0], b.rows[1], b.rows[2], b.rows[3], b.rows[4]
	if b.keys[4] == k {
		row = r4
	}
	if b.keys[3] == k {
		row = r3
	}
	if b.keys[2] == k {
		row = r2
	}
	if b.keys[1] == k {
		row = r1
	}
	if b.keys[0] == k {
		row = r0
	}
	return row - 1
}

// full reports whether no slot is empty.
func (b *bucket) full() bool { return b.rows[bucketSlots-1] != 0 }

// segment is an open-addressing table of buckets with linear probing. Its size
// need not be a power of two, so it grows by a quarter and stays between five
// and six eighths full: a row costs 17 to 21 bytes of index.
type segment struct {
	buckets []bucket
	memory  region
	count   int
	most    int // count at which it grows
}

type index struct {
	segments [1 << segmentBits]segment
}

// spread turns a key into a position: the segment in the top bits, the bucket
// below them. Keys of a shard share their top bits, so these must come from all
// of the key.
func spread(k shard.Key) uint64 {
	h := uint64(k)
	h ^= h >> 32
	h *= 0x9e3779b97f4a7c15
	h ^= h >> 29
	return h * 0xbf58476d1ce4e5b9
}

func (x *index) segment(h uint64) *segment { return &x.segments[h>>(64-segmentBits)] }

// home is the bucket where the search for a hash begins.
func (s *segment) home(h uint64) int {
	at, _ := bits.Mul64(h<<segmentBits, uint64(len(s.buckets)))
	return int(at)
}

// first returns the bucket where the search for a hash begins, or nil in an
// empty segment.
func (x *index) first(h uint64) unsafe.Pointer {
	s := x.segment(h)
	at, _ := bits.Mul64(h<<segmentBits, uint64(len(s.buckets)))
	return unsafe.Add(unsafe.Pointer(unsafe.SliceData(s.buckets)), at*bucketBytes)
}

// peek returns the row of a key if it is in its first bucket, else none, and
// asks for the next bucket if it may be there.
func (x *index) peek(k shard.Key, h uint64) uint32 {
	s := x.segment(h)
	if len(s.buckets) == 0 {
		return none
	}
	i := s.home(h)
	b := &s.buckets[i]
	row := b.find(k)
	if row == none && b.full() && i+1 < len(s.buckets) {
		prefetchOne(unsafe.Pointer(&s.buckets[i+1]))
	}
	return row
}

// find returns the row of a key, or none.
func (x *index) find(k shard.Key, h uint64) uint32 {
	s := x.segment(h)
	if len(s.buckets) == 0 {
		return none
	}
	for i := s.home(h); ; {
		b := &s.buckets[i]
		if row := b.find(k); row != none || !b.full() {
			return row
		}
		if i++; i == len(s.buckets) {
			i = 0
		}
	}
}

// insert adds a key that is not there.
func (x *index) insert(k shard.Key, h uint64, row uint32) {
	s := x.segment(h)
	if s.count >= s.most {
		s.grow()
	}
	s.place(k, h, row)
	s.count++
}

func (s *segment) place(k shard.Key, h uint64, row uint32) {
	i := s.home(h)
	for s.buckets[i].full() {
		if i++; i == len(s.buckets) {
			i = 0
		}
	}
	b := &s.buckets[i]
	j := 0
	for b.rows[j] != 0 {
		j++
	}
	b.keys[j], b.rows[j] = k, row+1
}

// smallSegment is the number of buckets up to which a segment doubles.
const smallSegment = 64

// grow makes room. Buckets keep their order, so both old and new ones are gone
// through in one direction.
func (s *segment) grow() {
	old := *s
	n := max(1, 2*len(old.buckets))
	if len(old.buckets) >= smallSegment {
		n = len(old.buckets) + len(old.buckets)/4
	}
	s.memory = allocate(hugeSize(n * bucketBytes))
	n = len(s.memory.mem) / bucketBytes
	s.buckets = unsafe.Slice((*bucket)(unsafe.Pointer(unsafe.SliceData(s.memory.mem))), n)
	s.most = n * bucketSlots * 3 / 4
	for i := range old.buckets {
		b := &old.buckets[i]
		for j, k := range b.keys {
			if b.rows[j] != 0 {
				s.place(k, spread(k), b.rows[j]-1)
			}
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
