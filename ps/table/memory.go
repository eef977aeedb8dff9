package table

import (
	"fmt"
	"sync"
	"sync/atomic"
	"unsafe"
)

// mappedMin is the size from which memory is taken outside the Go heap. Rows
// hold no pointers, so the collector need not see them; on its heap they would
// only let as many bytes of garbage pile up beside them.
const mappedMin = 256 << 10

// region is a piece of zeroed memory that starts at a multiple of eight.
type region struct {
	mem    []byte
	mapped bool
}

// allocate returns n bytes. It panics when the system has none left: a
// replica that cannot apply a committed step must not go on.
func allocate(n int) region {
	if n >= mappedMin && canMap {
		mem, err := mapMemory(n)
		if err != nil {
			panic(fmt.Sprintf("ps/table: map %d bytes for rows: %v", n, err))
		}
		return region{mem: mem, mapped: true}
	}
	words := make([]uint64, (n+7)/8)
	return region{mem: unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(words))), n)}
}

// hugePage is the size of a huge page: the system gives them only to memory
// that begins and ends with one.
const hugePage = 2 << 20

// hugeSize rounds sizes from half a huge page on up to whole ones.
func hugeSize(n int) int {
	if n < hugePage/2 {
		return n
	}
	return (n + hugePage - 1) &^ (hugePage - 1)
}

// release gives the memory back; nothing may use it afterwards.
func (r region) release() {
	if r.mapped {
		unmapMemory(r.mem)
	}
}

// page is the unit of copy-on-write.
type page struct {
	mem []byte
	// refs counts the table and the views that hold the page. It leaves one
	// only by View, which runs alone, so a writer that reads one owns the page.
	refs atomic.Int32
}

const (
	slabMin = 1 << 20
	slabMax = 32 << 20
)

// pool hands out the pages of one table. It outlives the table while views
// still hold pages.
type pool struct {
	pageBytes int

	mu     sync.Mutex // guards all below
	slabs  []region
	rest   []byte // of the newest slab
	free   []*page
	live   int // pages handed out
	bytes  int // of all slabs
	closed bool
}

// get returns a page with one reference; its content is arbitrary.
func (p *pool) get() *page {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.live++
	if n := len(p.free); n > 0 {
		g := p.free[n-1]
		p.free = p.free[:n-1]
		g.refs.Store(1)
		return g
	}
	if len(p.rest) < p.pageBytes {
		// Slabs double, so that a small table stays small and a large one
		// gets huge pages.
		size := max(min(max(slabMin, p.bytes), slabMax), hugeSize(p.pageBytes))
		s := allocate(hugeSize(size))
		size = len(s.mem)
		p.slabs = append(p.slabs, s)
		p.rest = s.mem
		p.bytes += size
	}
	g := &page{mem: p.rest[:p.pageBytes:p.pageBytes]}
	p.rest = p.rest[p.pageBytes:]
	g.refs.Store(1)
	return g
}

// put drops one reference of each page.
func (p *pool) put(pages ...*page) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, g := range pages {
		switch n := g.refs.Add(-1); {
		case n < 0:
			panic("ps/table: BUG: page released twice")
		case n == 0:
			p.live--
			p.free = append(p.free, g)
		}
	}
	p.unmapUnused()
}

// close lets the memory go as soon as no page is in use.
func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	p.unmapUnused()
}

// unmapUnused is called with mu held.
func (p *pool) unmapUnused() {
	if !p.closed || p.live > 0 {
		return
	}
	for _, s := range p.slabs {
		s.release()
	}
	p.slabs, p.rest, p.free, p.bytes = nil, nil, nil, 0
}

// size returns the bytes of all slabs.
func (p *pool) size() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.bytes
}
