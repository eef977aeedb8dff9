package table

import (
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
	"unsafe"

	"github.com/fathom-train/fathom/shard"
)

// View is a table as it was when the view was taken. It is read in place, block
// by block, while the table goes on: a row that is about to change is first put
// aside, unless its block was read already. So a step pays for the rows it
// reaches only, and memory is needed only for rows that changed meanwhile.
type View struct {
	table *Table // for what never changes
	pool  *pool
	base  []unsafe.Pointer
	rows  int
	// free has a bit for every row that the table may change: it was put aside, or
	// its block was read. Bits are set with mu held, and only ever set.
	free []atomic.Uint64

	// mu guards what follows, and the rows whose bit is not set.
	mu       sync.Mutex
	released bool
	// Rows put aside are entries of pages of the pool, linked by block, latest
	// first; spare links those of blocks that were read.
	pages []unsafe.Pointer
	heads []uint32
	spare uint32
	next  uint32 // never used so far
	// found is where the rows of the block that is read were put aside.
	found []uint32
}

// entry is what precedes the floats of a row that was put aside.
type entry struct {
	next uint32 // of the same block, or spare; none: the last
	slot uint32 // the row's place in its block
}

const entryBytes = int(unsafe.Sizeof(entry{}))

// View returns the table as it is now. It costs a bit per row.
func (t *Table) View() *View {
	v := &View{table: t, pool: t.pool, base: t.base[:len(t.base):len(t.base)], rows: t.rows, spare: none,
		free: make([]atomic.Uint64, (t.rows+63)/64), heads: make([]uint32, len(t.base)), found: make([]uint32, 1<<t.rowBits)}
	for i := range v.heads {
		v.heads[i] = none
	}
	v.pool.enter(v)
	return v
}

// keep is called before the row at mem changes.
func (v *View) keep(row uint32, mem unsafe.Pointer) {
	if int(row) >= v.rows {
		return
	}
	word, bit := &v.free[row>>6], uint64(1)<<(row&63)
	if word.Load()&bit != 0 {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.released || word.Load()&bit != 0 {
		return
	}
	n := v.spare
	if n == none {
		n = v.next
		v.next++
		if int(n) == len(v.pages)*v.perPage() {
			v.pages = append(v.pages, v.pool.get())
		}
	} else {
		v.spare = v.entry(n).next
	}
	bits := v.table.rowBits
	e, head := v.entry(n), &v.heads[row>>bits]
	e.next, e.slot, *head = *head, row&(1<<bits-1), n
	copy(v.aside(n), v.row(mem))
	word.Or(bit)
}

// perPage is how many entries fit into a page.
func (v *View) perPage() int {
	return v.pool.pageBytes / (entryBytes + (v.table.stride+7)&^7)
}

func (v *View) entry(n uint32) *entry {
	per := uint32(v.perPage())
	return (*entry)(unsafe.Add(v.pages[n/per], int(n%per)*(entryBytes+(v.table.stride+7)&^7)))
}

// aside is the row of an entry.
func (v *View) aside(n uint32) []byte {
	return v.row(unsafe.Add(unsafe.Pointer(v.entry(n)), entryBytes))
}

func (v *View) row(mem unsafe.Pointer) []byte { return unsafe.Slice((*byte)(mem), v.table.stride) }

// Rows returns the number of rows.
func (v *View) Rows() int { return v.rows }

// Blocks returns the number of blocks.
func (v *View) Blocks() int { return len(v.base) }

// RowFloats returns the weights and slots of one row.
func (v *View) RowFloats() int { return v.table.rowFloats }

// BlockRow is the size of a row in a block: its key and its floats, up to a
// multiple of eight bytes.
func BlockRow(floats int) int { return (keyBytes + 4*floats + 7) &^ 7 }

// Block appends block i to dst: whole rows in the order of their creation, each
// its key (8 bytes), its weights and slots (float32, little-endian) and zeros up
// to a multiple of eight bytes. A block can be read once.
func (v *View) Block(dst []byte, i int) []byte {
	t := v.table
	lo := i << t.rowBits
	n := min(1<<t.rowBits, v.rows-lo)
	v.mu.Lock()
	defer v.mu.Unlock()
	for slot := range v.found {
		v.found[slot] = none
	}
	for e := v.heads[i]; e != none; e = v.entry(e).next {
		v.found[v.entry(e).slot] = e
	}
	for slot, k := range t.keysOf(v.base[i])[:n] {
		row := v.row(unsafe.Add(v.base[i], slot*t.stride))
		word, bit := &v.free[(lo+slot)>>6], uint64(1)<<((lo+slot)&63)
		if at := v.found[slot]; at != none {
			row = v.aside(at)
		} else if word.Load()&bit != 0 {
			panic("ps/table: BUG: block of a view read twice")
		}
		dst = binary.LittleEndian.AppendUint64(dst, uint64(k))
		dst = append(dst, row...)
		dst = append(dst, make([]byte, BlockRow(t.rowFloats)-keyBytes-t.stride)...)
		word.Or(bit)
	}
	v.reuse(i)
	return dst
}

// reuse spares the entries of a block.
func (v *View) reuse(i int) {
	for n := v.heads[i]; n != none; {
		e := v.entry(n)
		next := e.next
		e.next, v.spare, n = v.spare, n, next
	}
	v.heads[i] = none
}

// Release lets the view's memory go; a second call does nothing.
func (v *View) Release() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if !v.released {
		v.released = true
		v.pool.leave(v, v.pages)
		v.pages, v.base = nil, nil
	}
}

// Load adds the rows of a block of View.Block. It reports a block that is cut
// off and a key that is there already; the rows before it stay.
func (t *Table) Load(block []byte) error {
	size := t.RowBytes()
	if len(block)%size != 0 {
		return fmt.Errorf("table %q: block of %d bytes, want a multiple of %d", t.schema.Name, len(block), size)
	}
	for ; len(block) > 0; block = block[size:] {
		k := shard.Key(binary.LittleEndian.Uint64(block))
		h := spread(k)
		if t.index.find(k, h) != none {
			return fmt.Errorf("table %q: key %#x twice", t.schema.Name, uint64(k))
		}
		mem := t.create(k, h)
		copy(unsafe.Slice((*byte)(mem), t.stride), block[keyBytes:])
		t.hash = AddHash(t.hash, t.term(k, mem))
	}
	return nil
}

// HashBlock returns the sum of the hashes of the rows in a block of View.Block,
// as Table.Hash would count them for a table with this id, and their number.
// The block must hold whole rows and be aligned to eight bytes.
func HashBlock(id uint16, rowFloats int, block []byte) (sum [2]uint64, rows int) {
	size := BlockRow(rowFloats)
	for ; len(block) >= size; block = block[size:] {
		k := shard.Key(binary.LittleEndian.Uint64(block))
		f := unsafe.Slice((*float32)(unsafe.Pointer(&block[keyBytes])), rowFloats)
		sum = AddHash(sum, rowTerm(id, k, f))
		rows++
	}
	return sum, rows
}
