package table

import (
	"fmt"
	"slices"
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

const (
	slabMin = 1 << 20
	slabMax = 32 << 20
)

// pool hands out the pages of one table and of its views. It outlives the table
// while there are views.
type pool struct {
	pageBytes int
	// views are those of the table that are not released.
	views atomic.Pointer[[]*View]

	mu    sync.Mutex // guards all below
	slabs []region
	rest  []byte // of the newest slab
	free  []unsafe.Pointer
	users int // the table and its views
	bytes int // of all slabs
}

// get returns a page; its content is arbitrary.
func (p *pool) get() unsafe.Pointer {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.free); n > 0 {
		g := p.free[n-1]
		p.free = p.free[:n-1]
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
	g := unsafe.Pointer(unsafe.SliceData(p.rest))
	p.rest = p.rest[p.pageBytes:]
	return g
}

// enter adds a user, and v to the views unless it is nil.
func (p *pool) enter(v *View) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.users++
	if v != nil {
		p.setViews(append(p.all(), v))
	}
}

// leave ends a use, of v unless it is nil, and takes pages back. With the last
// user the memory goes.
func (p *pool) leave(v *View, pages []unsafe.Pointer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free = append(p.free, pages...)
	if v != nil {
		p.setViews(slices.DeleteFunc(p.all(), func(o *View) bool { return o == v }))
	}
	if p.users--; p.users > 0 {
		return
	}
	for _, s := range p.slabs {
		s.release()
	}
	p.slabs, p.rest, p.free, p.bytes = nil, nil, nil, 0
}

// all returns a copy of the views there are.
func (p *pool) all() []*View {
	if v := p.views.Load(); v != nil {
		return slices.Clone(*v)
	}
	return nil
}

// setViews is called with mu held.
func (p *pool) setViews(views []*View) {
	if len(views) == 0 {
		p.views.Store(nil)
		return
	}
	p.views.Store(&views)
}

// size returns the bytes of all slabs.
func (p *pool) size() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.bytes
}
