package gemm

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// A call of fewer multiply-adds stays on one goroutine: waking another costs more.
// A single row or column is a product as slow as memory.
const (
	parallelWork = 1 << 22
	parallelRow  = 1 << 20
)

// alone tells whether a product stays on one goroutine.
func alone(m, n, k int) bool {
	if m == 1 || n == 1 {
		return m*n*k < parallelRow
	}
	return m*n*k < parallelWork
}

// share computes the product on as many goroutines as pay.
func share(m, n, k int, a, b operand, c []float32, ldc int, accumulate bool, e Epilogue) {
	parts := Threads()
	if parts <= 1 || alone(m, n, k) {
		multiply(m, n, k, a, b, c, ldc, accumulate, e, 0)
		return
	}
	parallel(parts, m, n, k, a, b, c, ldc, accumulate, e)
}

// rowPiece is how many elements of a single row or column of C are taken at a
// time.
const rowPiece = 4 * rowN

// team is the goroutines of one product. Each takes pieces of C, of rows or, when
// C is wider than high, of columns, until there are no more: one that was woken
// late, or has its processor taken away, leaves more of them to the others.
type team struct {
	m, n, k    int
	a, b       operand
	c          []float32
	ldc        int
	accumulate bool
	e          Epilogue

	size, step int // of what is cut, and of a piece
	next       atomic.Int64
	done       sync.WaitGroup
	work       func() // t.run; making it anew for each product would allocate

	// With shared, all strips of B are packed once, by all, before the first piece.
	shared  bool
	strips  strips
	memory  *scratch
	strip   atomic.Int64 // the next one to pack
	missing atomic.Int64 // strips that are not packed yet
	packed  sync.WaitGroup
}

var teams = sync.Pool{New: func() any {
	t := new(team)
	t.work = t.run
	return t
}}

// parallel computes the product on up to parts goroutines.
func parallel(parts, m, n, k int, a, b operand, c []float32, ldc int, accumulate bool, e Epilogue) {
	t := teams.Get().(*team)
	t.m, t.n, t.k, t.a, t.b, t.c, t.ldc, t.accumulate, t.e = m, n, k, a, b, c, ldc, accumulate, e
	t.cut(parts)
	t.next.Store(0)
	parts = min(parts, t.pieces())
	t.done.Add(parts)
	// The caller waits instead of taking a part itself: another processor takes over a
	// goroutine that is not the newest of this one at once, the newest only after a sleep.
	for range parts {
		go t.work()
	}
	t.done.Wait()
	if t.memory != nil {
		scratches.Put(t.memory)
	}
	t.a, t.b, t.c, t.e, t.strips, t.memory = operand{}, operand{}, nil, Epilogue{}, strips{}, nil
	teams.Put(t)
}

// cut sets the pieces.
func (t *team) cut(parts int) {
	tile := tileM
	t.size = t.m
	if t.n > t.m {
		t.size, tile = t.n, tileN
	}
	t.shared = t.canShare()
	switch {
	case t.shared:
		t.step = wideM
		t.memory = scratches.Get().(*scratch)
		t.strips = t.memory.places(t.n, t.k)
		count := t.strips.count()
		t.strip.Store(0)
		t.missing.Store(int64(count))
		t.packed.Add(count)
	case t.m == 1 || t.n == 1:
		t.step = rowPiece
	default:
		t.step = (t.size + parts - 1) / parts
		t.step = (t.step + tile - 1) / tile * tile
	}
}

// canShare tells whether the 512-bit micro-kernel takes the product, all of B fits
// into one scratch, and packing it is worth while.
func (t *team) canShare() bool {
	return wide() && t.m > wideDirect && t.n > 1 && t.m >= t.n && t.k <= wideK && (t.n+wideHalf)*t.k <= wideBlock*wideK
}

// pieces returns how many pieces there are. In the last one of a shared B are also
// the rows that fill no piece: whole tiles are faster.
func (t *team) pieces() int {
	if t.shared {
		return t.size / t.step
	}
	return (t.size + t.step - 1) / t.step
}

// run is the work of one goroutine.
func (t *team) run() {
	defer t.done.Done()
	var s *scratch
	if t.shared {
		t.packB()
		s = scratches.Get().(*scratch)
		defer scratches.Put(s)
	}
	pieces := t.pieces()
	for {
		i := int(t.next.Add(1)) - 1
		if i >= pieces {
			return
		}
		lo, hi := i*t.step, (i+1)*t.step
		if i == pieces-1 {
			hi = t.size
		}
		switch {
		case t.shared:
			s.rows(t.strips, hi-lo, t.n, t.k, t.a.from(lo, 0), t.c[lo*t.ldc:], t.ldc, t.accumulate, true, t.e, 0)
		case t.n > t.m:
			multiply(t.m, hi-lo, t.k, t.a, t.b.from(0, lo), t.c[lo:], t.ldc, t.accumulate, t.e, lo)
		default:
			multiply(hi-lo, t.n, t.k, t.a.from(lo, 0), t.b, t.c[lo*t.ldc:], t.ldc, t.accumulate, t.e, 0)
		}
	}
}

// spins is how often a goroutine looks whether the others have packed their
// strips before it sleeps: a strip takes a few microseconds.
const spins = 200

// packB packs strips of B until there are no more, and waits for those of others.
func (t *team) packB() {
	count := t.strips.count()
	for {
		i := int(t.strip.Add(1)) - 1
		if i >= count {
			break
		}
		t.memory.fill(t.strips, i, t.b, t.k)
		t.missing.Add(-1)
		t.packed.Done()
	}
	for i := 0; t.missing.Load() > 0 && i < spins; i++ {
		runtime.Gosched()
	}
	t.packed.Wait()
}
