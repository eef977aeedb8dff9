package trainer

import (
	"math/bits"
	"slices"

	"github.com/fathom-train/fathom/shard"
)

// dedup turns the keys of a batch's occurrences into the ascending list of
// different keys, how often each occurs, and the place of every occurrence's
// key in that list. Its buffers are reused from batch to batch.
type dedup struct {
	Keys   []shard.Key // ascending, unique
	Counts []uint32    // occurrences, by place in Keys
	Index  []int32     // place in Keys, by occurrence

	slots  []int32 // open addressing: 1 + place in first, 0 = free
	first  []entry // unique keys in order of first occurrence
	sorted []entry // the same, ascending
	starts []int32 // of the sort's buckets
	place  []int32 // place in Keys, by place in first
}

// entry is a key and its place in dedup.first.
type entry struct {
	key shard.Key
	at  int32
}

// Build finds the different keys among keys.
func (d *dedup) Build(keys []shard.Key) {
	d.collect(keys)
	n := len(d.first)
	d.sort()
	d.Keys, d.Counts, d.place = grow(d.Keys, n), grow(d.Counts, n), grow(d.place, n)
	for at, e := range d.sorted {
		d.Keys[at] = e.key
		d.place[e.at] = int32(at)
	}
	clear(d.Counts)
	place, counts := d.place, d.Counts
	for o, i := range d.Index {
		at := place[i]
		d.Index[o] = at
		counts[at]++
	}
}

// minSlots is the size of an empty table.
const minSlots = 1 << 10

// collect numbers the different keys in order of first occurrence. The table
// keeps the size the last batch needed, so that it stays in the cache: most
// keys of a batch are repeated.
func (d *dedup) collect(keys []shard.Key) {
	if d.slots == nil {
		d.slots = make([]int32, minSlots)
	} else if len(d.first)*8 < len(d.slots) && len(d.slots) > minSlots {
		d.slots = d.slots[:len(d.slots)/2]
	}
	clear(d.slots)
	d.first = d.first[:0]
	d.Index = grow(d.Index, len(keys))
	slots, first := d.slots, d.first
	mask := uint64(len(slots) - 1)
	for o, k := range keys {
		at := slotOf(k) & mask
		for {
			i := slots[at]
			if i == 0 {
				first = append(first, entry{k, int32(len(first))})
				i = int32(len(first))
				slots[at] = i
				if 2*len(first) > len(slots) {
					d.first = first
					slots = d.enlarge()
					mask = uint64(len(slots) - 1)
				}
				d.Index[o] = i - 1
				break
			}
			if first[i-1].key == k {
				d.Index[o] = i - 1
				break
			}
			at = (at + 1) & mask
		}
	}
	d.first = first
}

// slotOf spreads the keys. They are hashes already, but those of one shard
// agree in their upper bits.
func slotOf(k shard.Key) uint64 { return (uint64(k) * 0x9e3779b97f4a7c15) >> 32 }

// enlarge doubles the table and enters the keys anew.
func (d *dedup) enlarge() []int32 {
	n := 2 * len(d.slots)
	if cap(d.slots) < n {
		d.slots = make([]int32, n)
	}
	d.slots = d.slots[:n]
	clear(d.slots)
	mask := uint64(n - 1)
	for i, e := range d.first {
		at := slotOf(e.key) & mask
		for d.slots[at] != 0 {
			at = (at + 1) & mask
		}
		d.slots[at] = int32(i + 1)
	}
	return d.slots
}

// sort sets d.sorted to d.first in ascending order: one distribution by the
// leading bits, which gives keys that are hashes buckets of about one, and then
// each bucket by itself.
func (d *dedup) sort() {
	n := len(d.first)
	d.sorted = grow(d.sorted, n)
	if n == 0 {
		return
	}
	low, high := d.first[0].key, d.first[0].key
	for _, e := range d.first {
		low, high = min(low, e.key), max(high, e.key)
	}
	width := bits.Len(uint(n))
	shift := max(0, bits.Len64(uint64(high-low))-width)
	d.starts = grow(d.starts, 1<<width+1)
	clear(d.starts)
	starts := d.starts[1:]
	for _, e := range d.first {
		starts[(e.key-low)>>shift]++
	}
	total := int32(0)
	for b, c := range starts {
		starts[b] = total
		total += c
	}
	for _, e := range d.first {
		b := (e.key - low) >> shift
		d.sorted[starts[b]] = e
		starts[b]++
	}
	// starts[b] is now where bucket b ends, so d.starts[b] where it begins.
	d.starts[0] = 0
	for b, end := range starts {
		if begin := d.starts[b]; end-begin > 1 {
			sortBucket(d.sorted[begin:end])
		}
	}
}

// sortBucket sorts a bucket, which is small unless the keys are no hashes.
func sortBucket(s []entry) {
	if len(s) > 24 {
		slices.SortFunc(s, func(a, b entry) int {
			if a.key < b.key {
				return -1
			}
			return 1 // keys differ
		})
		return
	}
	for i := 1; i < len(s); i++ {
		e, j := s[i], i
		for ; j > 0 && s[j-1].key > e.key; j-- {
			s[j] = s[j-1]
		}
		s[j] = e
	}
}

// grow returns s with length n, reallocated only when its capacity is too small.
func grow[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n, n+n/4)
	}
	return s[:n]
}
