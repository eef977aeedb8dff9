package table

import (
	"fmt"

	"github.com/fathom-train/fathom/shard"
)

// Many rows at once. A row is two dependent accesses to memory away (bucket and
// row), each of which takes longer than all the arithmetic on it. So a call that works on key i asks for the row of key i+ahead and for
// the bucket of key i+2*ahead at the same time: a steady stream of requests,
// because in a burst most would wait for each other.

// ahead is how many keys lie between the stages, a power of two.
const ahead = 16

// none is the row of a key that has none.
const none = ^uint32(0)

// linesMax bounds the cache lines that are asked for ahead of each row.
const linesMax = 16

// walk is the way of a call through its keys.
type walk struct {
	table  *Table
	keys   []shard.Key
	lines  int               // of a row, to ask for
	hashes [2 * ahead]uint64 // of key i, at i modulo the length
	rows   [2 * ahead]uint32 // likewise, none if not yet found
}

// start takes the first keys as far as they must be before key 0.
func (w *walk) start() {
	for i := range min(2*ahead, len(w.keys)) {
		w.look(i)
	}
	for i := range min(ahead, len(w.keys)) {
		w.seek(i)
	}
}

// next takes the keys ahead of key i on by a stage, and returns its hash and
// its row, none if it has none or was not found yet.
func (w *walk) next(i int) (h uint64, row uint32) {
	h, row = w.hashes[i%(2*ahead)], w.rows[i%(2*ahead)]
	if i+2*ahead < len(w.keys) {
		w.look(i + 2*ahead)
	}
	if i+ahead < len(w.keys) {
		w.seek(i + ahead)
	}
	return h, row
}

// look asks for the bucket of key i.
func (w *walk) look(i int) {
	h := spread(w.keys[i])
	w.hashes[i%(2*ahead)] = h
	prefetch(w.table.index.first(h), 1)
}

// seek asks for the row that the bucket of key i names.
func (w *walk) seek(i int) {
	row := w.table.index.peek(w.keys[i], w.hashes[i%(2*ahead)])
	w.rows[i%(2*ahead)] = row
	if row != none {
		prefetch(w.table.at(row), w.lines)
	}
}

// lines returns the most cache lines that the first n bytes of rows can touch.
func lines(n, stride int) int {
	if stride%64 == 0 {
		return min((n+63)/64, linesMax)
	}
	return min((n+59)/64+1, linesMax)
}

// Gather writes the weights of keys, [len(keys), Width], those of Init where a
// key has no row.
func (t *Table) Gather(dst []float32, keys []shard.Key) {
	w := walk{table: t, keys: keys, lines: lines(4*t.width, t.stride)}
	w.start()
	for i, k := range keys {
		h, row := w.next(i)
		if row == none {
			row = t.index.find(k, h)
		}
		out := dst[i*t.width : (i+1)*t.width : (i+1)*t.width]
		switch {
		case row == none:
			t.Init(out, k)
		case len(out) == 16:
			*(*[16]float32)(out) = *(*[16]float32)(t.at(row))
		default:
			copy(out, t.floats(t.at(row)))
		}
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
	w := walk{table: t, keys: keys, lines: lines(t.stride, t.stride)}
	w.start()
	var old []float32
	for i, k := range keys {
		h, row := w.next(i)
		if before != nil {
			old = before[i*t.width : (i+1)*t.width]
		}
		t.update(old, k, h, row, g[i*t.width:(i+1)*t.width], step)
	}
}
