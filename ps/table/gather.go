package table

import (
	"unsafe"

	"github.com/fathom-train/fathom/shard"
)

// gatherBlock is how many keys are looked up in the index before the first of
// their rows is read. A processor remembers the address translations of some four
// gigabytes. The index of a large table takes a quarter of the memory of its rows:
// by turns, it keeps them for as long as it is read.
const gatherBlock = 1024

// Gather writes the weights of keys, [len(keys), Width], those of Init where a
// key has no row.
func (t *Table) Gather(dst []float32, keys []shard.Key) {
	var rows [gatherBlock]uint32
	for len(keys) > 0 {
		n := min(len(keys), gatherBlock)
		t.index.findAll(rows[:n], keys[:n])
		t.read(dst[:n*t.width], keys[:n], rows[:n])
		dst, keys = dst[n*t.width:], keys[n:]
	}
}

// read writes the weights of keys whose rows were looked up.
func (t *Table) read(dst []float32, keys []shard.Key, rows []uint32) {
	var at [2][group]unsafe.Pointer
	lines := lines(4*t.width, t.stride)
	next := t.ask(&at[0], rows, lines)
	for i := 0; len(keys) > 0; i++ {
		n := next
		next = t.ask(&at[(i+1)&1], rows[n:], lines)
		for j, mem := range at[i&1][:n] {
			out := dst[j*t.width : (j+1)*t.width : (j+1)*t.width]
			switch {
			case mem == nil && t.schema.Closed:
				clear(out)
			case mem == nil:
				t.Init(out, keys[j])
			case len(out) == 16:
				*(*[16]float32)(out) = *(*[16]float32)(mem)
			default:
				copy(out, t.floats(mem))
			}
		}
		dst, keys, rows = dst[n*t.width:], keys[n:], rows[n:]
	}
}

// ask asks for the first lines of a group's rows. It returns their number and
// leaves in at where they are, nil for none.
func (t *Table) ask(at *[group]unsafe.Pointer, rows []uint32, lines int) int {
	n := min(group, len(rows))
	for i, row := range rows[:n] {
		at[i] = nil
		if row != none {
			at[i] = t.at(row)
		}
	}
	prefetch(at, n, lines)
	return n
}

// findAll looks up the rows of keys, none where there is none.
func (x *index) findAll(rows []uint32, keys []shard.Key) {
	var at [group]unsafe.Pointer
	x.ask(&at, keys)
	for lo := 0; lo < len(keys); lo += group {
		if lo+group < len(keys) {
			x.ask(&at, keys[lo+group:])
		}
		for i, k := range keys[lo:min(lo+group, len(keys))] {
			rows[lo+i] = x.peek(k, spread(k))
		}
	}
	for i, row := range rows {
		if row == none {
			rows[i] = x.find(keys[i], spread(keys[i]))
		}
	}
}

// ask asks for the first buckets of a group of keys.
func (x *index) ask(at *[group]unsafe.Pointer, keys []shard.Key) {
	n := min(group, len(keys))
	for i, k := range keys[:n] {
		at[i] = x.first(spread(k))
	}
	prefetch(at, n, 1)
}
