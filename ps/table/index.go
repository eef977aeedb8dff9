package table

import (
	"encoding/binary"
	"math/bits"
	"unsafe"

	"github.com/fathom-train/fathom/shard"
)

// The index is cut into segments that grow one at a time, so that no single
// update pays for moving all keys of a large table.
const (
	segmentBits = 6
	bucketSlots = 12
	bucketBytes = 64
)

// bucket is one cache line: the rows of up to twelve keys and eight bits of the
// hash of each, which tell nearly always which one is meant. The keys stand in
// the rows, where they are needed anyway. A tag of zero is an empty slot; slots
// fill from the first on and are never emptied.
type bucket struct {
	tags [16]byte // the last four stay zero
	rows [bucketSlots]uint32
}

const (
	bytesOnes  = 0x0101010101010101
	bytesHighs = 0x8080808080808080
)

// match returns a bit for every slot with the tag; a slot above the first may
// be there without having it.
func (b *bucket) match(tag uint64) (lo, hi uint64) {
	lo = binary.LittleEndian.Uint64(b.tags[:8]) ^ tag*bytesOnes
	hi = binary.LittleEndian.Uint64(b.tags[8:]) ^ tag*bytesOnes
	return (lo - bytesOnes) &^ lo & bytesHighs, (hi - bytesOnes) &^ hi & bytesHighs
}

// full reports whether no slot is empty.
func (b *bucket) full() bool { return b.tags[bucketSlots-1] != 0 }

// segment is an open-addressing table of buckets with linear probing. Its size
// need not be a power of two, so it grows by a quarter and stays two thirds
// full: a row costs eight bytes of index at most.
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
// below them, the tag in the middle. Keys of a shard share their top bits, so
// these must come from all of the key.
func spread(k shard.Key) uint64 {
	h := uint64(k)
	h ^= h >> 32
	h *= 0x9e3779b97f4a7c15
	h ^= h >> 29
	return h * 0xbf58476d1ce4e5b9
}

// tagOf returns the tag of a hash, 1 to 255.
func tagOf(h uint64) uint64 { return max(h>>32&0xff, 1) }

func (x *index) segment(h uint64) *segment { return &x.segments[h>>(64-segmentBits)] }

// home is the bucket where the search for a hash begins.
func (s *segment) home(h uint64) int {
	at, _ := bits.Mul64(h<<segmentBits, uint64(len(s.buckets)))
	return int(at)
}

// first returns where the search for a hash begins, or nil in an empty index.
func (x *index) first(h uint64) unsafe.Pointer {
	s := x.segment(h)
	at, _ := bits.Mul64(h<<segmentBits, uint64(len(s.buckets)))
	return unsafe.Add(unsafe.Pointer(unsafe.SliceData(s.buckets)), at*bucketBytes)
}

// guess returns the row that a hash most probably means, looking at one bucket
// and no row, and none when there is none in it. It asks for what a wrong guess
// would lead to: other rows with the tag, the next bucket.
func (t *Table) guess(h uint64) uint32 {
	s := t.index.segment(h)
	if len(s.buckets) == 0 {
		return none
	}
	i := s.home(h)
	b := &s.buckets[i]
	lo, hi := b.match(tagOf(h))
	row := none
	switch {
	case lo != 0:
		row = b.rows[bits.TrailingZeros64(lo)/8]
		lo &= lo - 1
	case hi != 0:
		row = b.rows[8+bits.TrailingZeros64(hi)/8&3]
		hi &= hi - 1
	case b.full() && i+1 < len(s.buckets):
		prefetch(unsafe.Pointer(&s.buckets[i+1]), 1)
	}
	for ; lo != 0; lo &= lo - 1 {
		prefetch(t.at(b.rows[bits.TrailingZeros64(lo)/8]), 1)
	}
	if hi != 0 {
		prefetch(t.at(b.rows[8+bits.TrailingZeros64(hi)/8&3]), 1)
	}
	return row
}

// find returns the row of a key.
func (t *Table) find(k shard.Key, h uint64) (row uint32, ok bool) {
	s := t.index.segment(h)
	if len(s.buckets) == 0 {
		return none, false
	}
	tag := tagOf(h)
	for i := s.home(h); ; {
		b := &s.buckets[i]
		lo, hi := b.match(tag)
		for ; lo != 0; lo &= lo - 1 {
			if row := b.rows[bits.TrailingZeros64(lo)/8]; t.keyAt(row) == k {
				return row, true
			}
		}
		for ; hi != 0; hi &= hi - 1 {
			if j := 8 + bits.TrailingZeros64(hi)/8; b.tags[j] == byte(tag) && t.keyAt(b.rows[j]) == k {
				return b.rows[j], true
			}
		}
		if !b.full() {
			return none, false
		}
		if i++; i == len(s.buckets) {
			i = 0
		}
	}
}

// insert adds a key that is not there; its row must hold it already.
func (t *Table) insert(h uint64, row uint32) {
	s := t.index.segment(h)
	if s.count >= s.most {
		t.grow(s)
	}
	s.place(h, row)
	s.count++
}

func (s *segment) place(h uint64, row uint32) {
	i := s.home(h)
	for s.buckets[i].full() {
		if i++; i == len(s.buckets) {
			i = 0
		}
	}
	b := &s.buckets[i]
	j := 0
	for b.tags[j] != 0 {
		j++
	}
	b.tags[j], b.rows[j] = byte(tagOf(h)), row
}

// smallSegment is the number of buckets up to which a segment doubles.
const smallSegment = 64

// grow makes room in a segment. The keys are read from their rows.
func (t *Table) grow(s *segment) {
	old := *s
	n := max(1, 2*len(old.buckets))
	if len(old.buckets) >= smallSegment {
		n = len(old.buckets) + len(old.buckets)/4
	}
	s.memory = allocate(n * bucketBytes)
	s.buckets = unsafe.Slice((*bucket)(unsafe.Pointer(unsafe.SliceData(s.memory.mem))), n)
	s.most = n * bucketSlots * 27 / 32
	const keysAhead = 4 // buckets
	for i := range old.buckets {
		if i+keysAhead < len(old.buckets) {
			b := &old.buckets[i+keysAhead]
			for j := 0; j < bucketSlots && b.tags[j] != 0; j++ {
				prefetch(t.at(b.rows[j]), 1)
			}
		}
		b := &old.buckets[i]
		for j := 0; j < bucketSlots && b.tags[j] != 0; j++ {
			s.place(spread(t.keyAt(b.rows[j])), b.rows[j])
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
