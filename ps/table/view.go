package table

import (
	"encoding/binary"
	"fmt"
	"unsafe"

	"github.com/fathom-train/fathom/shard"
)

// View is a table as it was when the view was taken.
type View struct {
	table *Table // for what never changes
	pool  *pool
	pages []*page
	rows  int
}

// View returns the table as it is now. It costs one step per page of at most
// 256 KiB; a page is copied when it is first changed while the view is held.
func (t *Table) View() *View {
	v := &View{table: t, pool: t.pool, pages: append([]*page(nil), t.pages...), rows: t.rows}
	for i, p := range v.pages {
		p.refs.Add(1)
		t.viewed[i] = true
	}
	t.viewedPages = len(v.pages)
	return v
}

// Rows returns the number of rows.
func (v *View) Rows() int { return v.rows }

// Blocks returns the number of blocks.
func (v *View) Blocks() int { return len(v.pages) }

// RowFloats returns the weights and slots of one row.
func (v *View) RowFloats() int { return v.table.rowFloats }

// BlockRow is the size of a row in a block: its key and its floats, up to a
// multiple of eight bytes.
func BlockRow(floats int) int { return (keyBytes + 4*floats + 7) &^ 7 }

// Block appends block i to dst: whole rows in the order of their creation, each
// its key (8 bytes), its weights and slots (float32, little-endian) and zeros up
// to a multiple of eight bytes.
func (v *View) Block(dst []byte, i int) []byte {
	t, mem := v.table, unsafe.Pointer(unsafe.SliceData(v.pages[i].mem))
	n := min(1<<t.rowBits, v.rows-i<<t.rowBits)
	for j, k := range t.keysOf(mem)[:n] {
		dst = binary.LittleEndian.AppendUint64(dst, uint64(k))
		dst = append(dst, unsafe.Slice((*byte)(unsafe.Add(mem, j*t.stride)), t.stride)...)
		dst = append(dst, make([]byte, BlockRow(t.rowFloats)-keyBytes-t.stride)...)
	}
	return dst
}

// Release lets the view's memory go; a second call does nothing.
func (v *View) Release() {
	if v.pages != nil {
		v.pool.put(v.pages...)
		v.pages, v.rows = nil, 0
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
