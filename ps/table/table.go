package table

import (
	"fmt"
	"math"
	"math/bits"
	"slices"
	"unsafe"

	"github.com/fathom-train/fathom/compute/optim"
	"github.com/fathom-train/fathom/compute/random"
	"github.com/fathom-train/fathom/shard"
)

const (
	// pageMax bounds a page, unless it holds a single row.
	pageMax  = 256 << 10
	keyBytes = 8
	// rowsMax keeps row number plus one in 32 bits.
	rowsMax = math.MaxUint32 - 1
)

// column is a Column with its place in the row.
type column struct {
	init       random.Init
	optimizer  optim.Optimizer
	weights    int // first weight
	slots      int // first slot, counted from the start of the row
	width      int
	slotsWidth int
	trust      float32 // ratio of the updates to come, 0: each row's own
	factor     float32 // of their rates, 0: none
}

// Table holds the rows of one table. See the package comment for what may run
// at the same time.
type Table struct {
	schema    Schema
	seed      uint64
	columns   []column
	width     int
	rowFloats int
	stride    int  // bytes of a row in a page
	rowBits   uint // log2 of the rows of a page

	pool *pool
	base []unsafe.Pointer // of the pages

	rows  int
	index index
	hash  [2]uint64

	// Of a lazy table: the step applied last, and a gradient of nothing.
	lazy    bool
	now     uint64
	factors []Factor
	zeros   []float32
}

// New returns an empty table. Unset fields of the optimizers take their
// defaults.
func New(s Schema, seed uint64) (*Table, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	t := &Table{schema: s, seed: seed, width: s.Width()}
	t.rowFloats = t.width
	at := 0
	for _, c := range s.Columns {
		o, err := optim.New(c.Optimizer.WithDefaults())
		if err != nil {
			return nil, fmt.Errorf("table %d %q: column %q: %w", s.ID, s.Name, c.Name, err)
		}
		n := o.Slots(c.Width)
		t.columns = append(t.columns, column{
			init: c.Init, optimizer: o, weights: at, width: c.Width,
			slots: t.rowFloats, slotsWidth: n,
		})
		at += c.Width
		t.rowFloats += n
		t.lazy = t.lazy || c.Optimizer.EveryRow
	}
	if t.lazy {
		t.rowFloats++ // the last step the row has seen
		t.zeros = make([]float32, t.width)
	}
	t.stride = 4 * t.rowFloats
	// A power of two, so that finding a row takes no division.
	t.rowBits = uint(bits.Len(uint(max(1, pageMax/(t.stride+keyBytes)))) - 1)
	// Whole cache lines, so that rows of whole lines lie on no more of them.
	t.pool = &pool{pageBytes: ((t.stride<<t.rowBits+7)&^7 + keyBytes<<t.rowBits + 63) &^ 63}
	t.pool.enter(nil)
	return t, nil
}

// Schema returns the table's schema.
func (t *Table) Schema() Schema { return t.schema }

// Width returns the weights of one row.
func (t *Table) Width() int { return t.width }

// RowFloats returns the weights and slots of one row.
func (t *Table) RowFloats() int { return t.rowFloats }

// RowBytes returns the bytes of one row in a block of View.Block and Load.
func (t *Table) RowBytes() int { return BlockRow(t.rowFloats) }

// Rows returns the number of rows.
func (t *Table) Rows() int { return t.rows }

// Bytes returns the memory held for rows and index.
func (t *Table) Bytes() int { return t.pool.size() + t.index.size() }

// Hash returns the sum over all rows of a 128-bit hash of key, weights and
// slots: low word, high word. The sums of the shards of a table add up (with
// wrap-around at 128 bits) to that of the whole table.
func (t *Table) Hash() [2]uint64 { return t.hash }

// Close frees the memory once the last view is released. The table must not be
// used afterwards.
func (t *Table) Close() {
	t.pool.leave(nil, nil)
	t.index.release()
	t.base = nil
	t.rows, t.hash = 0, [2]uint64{}
}

// Row returns the whole row of a key, slots included. It must not be changed
// and is valid until the next Update, View or Close.
func (t *Table) Row(k shard.Key) ([]float32, bool) {
	row := t.index.find(k, spread(k))
	if row == none {
		return nil, false
	}
	return t.floats(t.at(row)), true
}

// Init writes the initial weights of a key: element j of a column depends only
// on seed, column, key and j. Not on the table, so that a field whose rows move
// to a narrower table of their own begins with the same values.
func (t *Table) Init(dst []float32, k shard.Key) {
	for i := range t.columns {
		c := &t.columns[i]
		stream := random.Stream(t.seed, random.InitRow, 0, uint64(i), uint64(k))
		c.init.Fill(dst[c.weights:c.weights+c.width], stream)
	}
}

// Update applies one step's gradient (of all columns) to a row, creating it
// when it is absent.
func (t *Table) Update(k shard.Key, g []float32, step optim.Step) {
	if len(g) != t.width {
		panic(fmt.Sprintf("ps/table: BUG: gradient of %d elements for rows of width %d", len(g), t.width))
	}
	t.update(nil, k, spread(k), none, g, step)
}

// update is Update for a key with its hash and its row, none if that is not
// known. Unless before is nil it gets the weights before the update.
func (t *Table) update(before []float32, k shard.Key, h uint64, row uint32, g []float32, step optim.Step) {
	if row == none {
		row = t.index.find(k, h)
	}
	var mem unsafe.Pointer
	if row == none && t.schema.Closed {
		if before != nil {
			clear(before)
		}
		return
	}
	if row != none {
		mem = t.writable(row)
		t.hash = subHash(t.hash, t.term(k, mem))
	} else {
		mem = t.create(k, h)
		t.Init(t.floats(mem), k)
	}
	f := t.floats(mem)
	if before != nil {
		copy(before, f)
	}
	if t.lazy {
		t.lead(f, step.T-1)
		f[t.rowFloats-1] = math.Float32frombits(uint32(step.T))
	}
	rate := step.Rate
	for i := range t.columns {
		c := &t.columns[i]
		w := f[c.weights : c.weights+c.width]
		step.Trust = c.trust
		step.Rate = rate
		if c.factor != 0 {
			step.Rate *= c.factor
		}
		c.optimizer.Update(w, f[c.slots:c.slots+c.slotsWidth], g[c.weights:c.weights+c.width], step)
	}
	t.hash = AddHash(t.hash, t.term(k, mem))
}

// Insert creates the row of a key that has none, closed or not: with its initial
// weights, which set may then change. Its slots are zero.
func (t *Table) Insert(k shard.Key, set func(weights []float32)) {
	mem := t.create(k, spread(k))
	w := t.floats(mem)[:t.width]
	t.Init(w, k)
	if set != nil {
		set(w)
	}
	t.hash = AddHash(t.hash, t.term(k, mem))
}

// Scan calls f for the rows from number lo to before hi, in the order of their
// creation. A row is the weights only, and must not be kept or changed.
func (t *Table) Scan(lo, hi int, f func(k shard.Key, weights []float32)) {
	for n := lo; n < min(hi, t.rows); n++ {
		page := n >> t.rowBits
		k := t.keysOf(t.base[page])[n&(1<<t.rowBits-1)]
		row := t.floats(t.at(uint32(n)))
		if t.lazy {
			row = slices.Clone(row)
			t.lead(row, t.now)
		}
		f(k, row[:t.width:t.width])
	}
}

// create appends a row of zeros for a key that has none.
func (t *Table) create(k shard.Key, h uint64) unsafe.Pointer {
	if t.rows >= rowsMax {
		panic(fmt.Sprintf("ps/table: table %q has %d rows, the most a shard can hold: use more shards", t.schema.Name, t.rows))
	}
	n := uint32(t.rows)
	if t.rows == len(t.base)<<t.rowBits {
		t.base = append(t.base, t.pool.get())
	}
	t.rows++
	mem := t.at(n)
	clear(unsafe.Slice((*byte)(mem), t.stride))
	t.keysOf(t.base[n>>t.rowBits])[n&(1<<t.rowBits-1)] = k
	t.index.insert(k, h, n)
	return mem
}

// at returns the memory of a row for reading.
func (t *Table) at(row uint32) unsafe.Pointer {
	return unsafe.Add(t.base[row>>t.rowBits], int(row&(1<<t.rowBits-1))*t.stride)
}

// keysOf returns the keys of a page, which stand behind its rows.
func (t *Table) keysOf(page unsafe.Pointer) []shard.Key {
	return unsafe.Slice((*shard.Key)(unsafe.Add(page, (t.stride<<t.rowBits+7)&^7)), 1<<t.rowBits)
}

// writable is at for writing: views keep the row as it is before.
func (t *Table) writable(row uint32) unsafe.Pointer {
	mem := t.at(row)
	if views := t.pool.views.Load(); views != nil {
		for _, v := range *views {
			v.keep(row, mem)
		}
	}
	return mem
}

// floats returns weights and slots of a row's memory.
func (t *Table) floats(mem unsafe.Pointer) []float32 {
	return unsafe.Slice((*float32)(mem), t.rowFloats)
}

// term is a row's part of the hash.
func (t *Table) term(k shard.Key, mem unsafe.Pointer) [2]uint64 {
	return rowTerm(t.schema.ID, k, t.floats(mem))
}

// rowTerm puts key and table into the seed: equal rows of two keys must not be
// interchangeable.
func rowTerm(id uint16, k shard.Key, row []float32) [2]uint64 {
	return HashFloats(row, uint64(k)+(uint64(id)+1)*0x9e3779b97f4a7c15)
}

// Slots returns the optimizer slots of a column of one row.
func (t *Table) Slots(column int) int { return t.columns[column].slotsWidth }
