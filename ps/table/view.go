package table

import (
	"encoding/binary"
	"fmt"
	"unsafe"

	"github.com/fathom-train/fathom/shard"
)

// View is a table as it was when the view was taken.
type View struct {
	pool        *pool
	pages       []*page
	rows        int
	rowBytes    int
	rowsPerPage int
}

// View returns the table as it is now. It costs one step per page of at most 64 KiB;
// a page is copied when it is first changed while the view is held.
func (t *Table) View() *View {
	v := &View{
		pool: t.pool, pages: append([]*page(nil), t.pages...),
		rows: t.rows, rowBytes: t.rowBytes, rowsPerPage: 1 << t.rowBits,
	}
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

// Block returns block i: whole rows in the order of their creation, each its
// key (8 bytes), its weights and slots (float32, little-endian) and zeros up to
// a multiple of eight bytes. It must not be changed and is valid until Release.
func (v *View) Block(i int) []byte {
	n := min(v.rowsPerPage, v.rows-i*v.rowsPerPage)
	return v.pages[i].mem[:n*v.rowBytes]
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
	if len(block)%t.rowBytes != 0 {
		return fmt.Errorf("table %q: block of %d bytes, want a multiple of %d", t.schema.Name, len(block), t.rowBytes)
	}
	for ; len(block) > 0; block = block[t.rowBytes:] {
		k := shard.Key(binary.LittleEndian.Uint64(block))
		h := spread(k)
		if _, ok := t.find(k, h); ok {
			return fmt.Errorf("table %q: key %#x twice", t.schema.Name, uint64(k))
		}
		mem := t.create(k, h)
		copy(unsafe.Slice((*byte)(mem), keyBytes+4*t.rowFloats), block)
		t.hash = AddHash(t.hash, t.term(k, mem))
	}
	return nil
}
