package table

import (
	"fmt"
	"unsafe"

	"github.com/fathom-train/fathom/compute/optim"
	"github.com/fathom-train/fathom/shard"
)

// Many rows at once. A row is two dependent accesses to memory away (bucket and
// row), each of which takes longer than all the arithmetic on it. So the keys go
// through in groups: while one group is worked on, the rows of the next one and
// the buckets of the one after are on their way. The requests of a group are
// made in one burst: in a large table each waits for an address translation,
// and only in a burst do these overlap.

// How many keys go together: as many accesses as the nearest cache has under way
// when a line or two are read of each, fewer when whole rows are, which else would
// leave that cache before their turn.
const (
	group       = 16
	updateGroup = 8
)

// none is the row of a key that has none.
const none = ^uint32(0)

// linesMax bounds the cache lines that are asked for ahead of each row.
const linesMax = 16

// walk is the way of a call through its keys. Of each pair or triple the first
// is of the current group, the next one of the group ahead, and so on.
type walk struct {
	table  *Table
	keys   [3][]shard.Key
	rest   []shard.Key
	lines  int // of a row, to ask for
	hashes [3][updateGroup]uint64
	rows   [2][updateGroup]uint32 // none if not yet found
	at     [group]unsafe.Pointer
}

// start begins a walk: after next the first group is the current one.
func (w *walk) start(t *Table, keys []shard.Key, lines int) {
	w.table, w.rest, w.lines = t, keys, lines
	w.next()
	w.next()
}

// next moves on by a group.
func (w *walk) next() {
	w.keys[0], w.keys[1] = w.keys[1], w.keys[2]
	w.hashes[0], w.hashes[1] = w.hashes[1], w.hashes[2]
	w.rows[0] = w.rows[1]
	n := min(updateGroup, len(w.rest))
	w.keys[2], w.rest = w.rest[:n], w.rest[n:]
	index := &w.table.index
	for i, k := range w.keys[2] {
		h := spread(k)
		w.hashes[2][i] = h
		w.at[i] = index.first(h)
	}
	prefetch(&w.at, n, 1)
	n = 0
	for i, k := range w.keys[1] {
		row := index.peek(k, w.hashes[1][i])
		w.rows[1][i] = row
		if row != none {
			w.at[n] = w.table.at(row)
			n++
		}
	}
	prefetch(&w.at, n, w.lines)
}

// lines returns the most cache lines that the first n bytes of rows can touch.
func lines(n, stride int) int {
	if stride%64 == 0 {
		return min((n+63)/64, linesMax)
	}
	return min((n+59)/64+1, linesMax)
}

// UpdateRows applies one step's gradients, [len(keys), Width], to rows, creating
// those that are absent, in the order of the keys. counts has the occurrences of
// each key; nil stands for step's count. Unless before is nil it gets the weights
// before the update, laid out alike; those of a new row are the initial ones. Of
// a lazy table it gets whole rows, as they were kept (RowBefore).
func (t *Table) UpdateRows(before []float32, keys []shard.Key, counts []uint32, g []float32, step optim.Step) {
	if len(g) != len(keys)*t.width {
		panic(fmt.Sprintf("ps/table: BUG: %d gradients for %d rows of width %d", len(g), len(keys), t.width))
	}
	var w walk
	w.start(t, keys, lines(t.stride, t.stride))
	var old []float32
	size := t.RowBefore()
	for w.next(); len(w.keys[0]) > 0; w.next() {
		for i, k := range w.keys[0] {
			if before != nil {
				old, before = before[:size], before[size:]
			}
			if counts != nil {
				step.Count, counts = counts[0], counts[1:]
			}
			t.update(old, k, w.hashes[0][i], w.rows[0][i], g[i*t.width:(i+1)*t.width], step)
		}
		g = g[len(w.keys[0])*t.width:]
	}
}
