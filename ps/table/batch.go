package table

import (
	"fmt"
	"unsafe"

	"github.com/fathom-train/fathom/shard"
)

// Many rows at once. A row is three dependent accesses to memory away (bucket,
// row, the rest of the row), each of which takes longer than all the arithmetic
// on it. So the keys go through in groups: while one group is worked on, the
// rows of the next one and the buckets of the one after are on their way.

// group is how many keys go together.
const group = 16

// none is the row of a key that has none.
const none = ^uint32(0)

// linesMax bounds the cache lines that are asked for ahead of each row.
const linesMax = 16

// walk is the way of a call through its keys.
type walk struct {
	keys []shard.Key // not yet looked at
	// hashes are those of the groups two and one ahead and of the current one.
	hashes [3][group]uint64
	rows   [2][group]uint32 // guesses for the group ahead and the current one
	at     [group]unsafe.Pointer
	n      [3]int
}

// start begins a walk.
func (w *walk) start(t *Table, keys []shard.Key, lines int) {
	w.keys = keys
	w.advance(t, lines)
	w.advance(t, lines)
}

// advance moves the groups on by one: n[0] keys are current then, their hashes
// in hashes[0], their rows, as far as they can be guessed, in rows[0].
func (w *walk) advance(t *Table, lines int) {
	// Stage 2: buckets that were asked for a group ago name rows.
	w.n[0], w.n[1] = w.n[1], w.n[2]
	w.hashes[0], w.hashes[1] = w.hashes[1], w.hashes[2]
	w.rows[0] = w.rows[1]
	// Stage 1: the buckets of the next keys.
	n := min(group, len(w.keys))
	for i, k := range w.keys[:n] {
		h := spread(k)
		w.hashes[2][i] = h
		w.at[i] = t.index.first(h)
	}
	prefetch(&w.at, n, 1)
	w.n[2], w.keys = n, w.keys[n:]

	some := 0
	for i, h := range w.hashes[1][:w.n[1]] {
		row := t.index.guess(h)
		w.rows[1][i] = row
		if row != none {
			w.at[some] = t.at(row)
			some++
		}
	}
	prefetch(&w.at, some, lines)
}

// lines returns the cache lines that hold n bytes from anywhere.
func lines(n int) int { return min((n+62)/64+1, linesMax) }

// Gather writes the weights of keys, [len(keys), Width], those of Init where a
// key has no row.
func (t *Table) Gather(dst []float32, keys []shard.Key) {
	var w walk
	ahead := lines(keyBytes + 4*t.width)
	w.start(t, keys, ahead)
	for len(keys) > 0 {
		w.advance(t, ahead)
		n := w.n[0]
		for i, k := range keys[:n] {
			row := w.rows[0][i]
			if row == none || t.keyAt(row) != k {
				row, _ = t.find(k, w.hashes[0][i])
			}
			out := dst[i*t.width : (i+1)*t.width : (i+1)*t.width]
			switch {
			case row == none:
				t.Init(out, k)
			case len(out) == 16:
				*(*[16]float32)(out) = *(*[16]float32)(unsafe.Add(t.at(row), keyBytes))
			default:
				copy(out, t.floats(t.at(row)))
			}
		}
		keys, dst = keys[n:], dst[n*t.width:]
	}
}

// UpdateRows applies one step's gradients, [len(keys), Width], to rows, creating
// those that are absent, in the order of the keys. Unless before is nil it gets
// the weights before the update, laid out alike; those of a new row are the
// initial ones.
func (t *Table) UpdateRows(before []float32, keys []shard.Key, g []float32, step uint64) {
	if len(g) != len(keys)*t.width {
		panic(fmt.Sprintf("ps/table: BUG: %d gradients for %d rows of width %d", len(g), len(keys), t.width))
	}
	var w walk
	ahead := lines(t.rowBytes)
	w.start(t, keys, ahead)
	var old []float32
	for len(keys) > 0 {
		w.advance(t, ahead)
		n := w.n[0]
		for i, k := range keys[:n] {
			if before != nil {
				old, before = before[:t.width], before[t.width:]
			}
			t.update(old, k, w.hashes[0][i], w.rows[0][i], g[i*t.width:(i+1)*t.width], step)
		}
		keys, g = keys[n:], g[n*t.width:]
	}
}
