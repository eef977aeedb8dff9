package trainer

import (
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

	slots []int32     // open addressing: 1 + place in first, 0 = free
	first []shard.Key // unique keys in order of first occurrence
	order []int32     // places in first, sorted by key
	place []int32     // inverse of order
}

// Build fills Keys, Counts and Index from the keys of all occurrences.
func (d *dedup) Build(keys []shard.Key) {
	d.collect(keys)
	n := len(d.first)
	d.order = grow(d.order, n)
	for i := range d.order {
		d.order[i] = int32(i)
	}
	slices.SortFunc(d.order, func(a, b int32) int {
		if d.first[a] < d.first[b] {
			return -1
		}
		return 1 // keys differ
	})
	d.Keys, d.Counts, d.place = grow(d.Keys, n), grow(d.Counts, n), grow(d.place, n)
	for at, i := range d.order {
		d.Keys[at] = d.first[i]
		d.place[i] = int32(at)
	}
	clear(d.Counts)
	for o, i := range d.Index {
		at := d.place[i]
		d.Index[o] = at
		d.Counts[at]++
	}
}

// collect numbers the different keys in order of first occurrence.
func (d *dedup) collect(keys []shard.Key) {
	size := 64
	for size < 2*len(keys) {
		size *= 2
	}
	d.slots = grow(d.slots, size)
	clear(d.slots)
	d.first = d.first[:0]
	d.Index = grow(d.Index, len(keys))
	mask := uint64(size - 1)
	for o, k := range keys {
		// Keys are hashes already; a multiplication spreads those of one shard.
		at := (uint64(k) * 0x9e3779b97f4a7c15) >> 20 & mask
		for {
			i := d.slots[at]
			if i == 0 {
				d.first = append(d.first, k)
				i = int32(len(d.first))
				d.slots[at] = i
			}
			if d.first[i-1] == k {
				d.Index[o] = i - 1
				break
			}
			at = (at + 1) & mask
		}
	}
}

// grow returns s with length n, reallocated only when its capacity is too small.
func grow[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n, n+n/4)
	}
	return s[:n]
}
