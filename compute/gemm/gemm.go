// Package gemm multiplies float32 matrices. Every element of the result is one
// chain of correctly rounded fused multiply-adds along k, ascending, so it has
// the same bits whatever the tile sizes, the number of threads and the code
// path; blocking over k only stores and reloads the running value. A NaN result
// is always the one of package kernel.
//
// The way is that of Goto and van de Geijn (2008): B and A are copied block by
// block into strips that the micro-kernel reads in order, and the micro-kernel
// keeps a tile of C in registers. Rows and columns missing at C's edges are
// computed on filler and dropped. A product of one row or column has nothing to
// gain from tiles and goes its own way (row.go); so do products so small or narrow
// that packing would cost more than it saves (batched.go). With AVX-512 all
// products but those of one row or column go one way, which packs only what is
// slow to read (wide.go).
//
// Gemm is safe for concurrent use on distinct destinations.
package gemm

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/fathom-train/fathom/compute/kernel"
)

// The tile of the micro-kernel, and the blocks that keep its operands in the
// caches: a [kBlock, tileN] strip of B in L1, a [mBlock, kBlock] block of A in
// L2, a [kBlock, nBlock] block of B in L3.
const (
	tileM  = 6
	tileN  = 16
	kBlock = 416
	mBlock = 20 * tileM
	nBlock = 64 * tileN
	// rowN is the width of the strips of a product that is a single row.
	rowN = 64
)

// threads bounds the goroutines of one call.
var threads atomic.Int32

// SetThreads sets how many goroutines one call may use; the default is 1.
func SetThreads(n int) { threads.Store(int32(max(1, n))) }

// Threads returns how many goroutines one call may use.
func Threads() int { return max(1, int(threads.Load())) }

// operand is a matrix as the multiplication sees it, transposed or not:
// element (i, j) is at data[i*row+j*col].
type operand struct {
	data     []float32
	row, col int
	// round has the elements rounded by RoundBF16. Only multiplyWide does that.
	round bool
}

// from returns the operand without its first i rows and j columns.
func (x operand) from(i, j int) operand {
	return operand{x.data[i*x.row+j*x.col:], x.row, x.col, x.round}
}

func (x operand) transposed() operand { return operand{x.data, x.col, x.row, x.round} }

// view checks and returns the operand of a stored matrix.
func view(name string, trans bool, rows, cols int, data []float32, ld int) operand {
	r, c := rows, cols
	if trans {
		r, c = cols, rows
	}
	if ld < c || (r > 0 && c > 0 && len(data) < (r-1)*ld+c) {
		panic(fmt.Sprintf("gemm: BUG: %s is stored as [%d, %d] with stride %d in %d elements", name, r, c, ld, len(data)))
	}
	if trans {
		return operand{data: data, row: 1, col: ld}
	}
	return operand{data: data, row: ld, col: 1}
}

// Epilogue is what is done to C when its products are complete, while they are
// in the cache: bias [n], unless nil, is added to every row, and with ReLU what
// is not positive becomes 0 (a NaN stays). The bits are those of separate calls.
type Epilogue struct {
	Bias []float32
	ReLU bool
}

// apply finishes columns j to j+cols of C, which c begins with.
func (e Epilogue) apply(c []float32, rows, cols, ldc, j int) {
	if e.Bias == nil && !e.ReLU {
		return
	}
	for i := range rows {
		row := c[i*ldc : i*ldc+cols]
		switch {
		case e.Bias == nil:
			kernel.ReLU(row, row)
		case e.ReLU:
			kernel.AddReLU(row, e.Bias[j:j+cols])
		default:
			kernel.Add(row, e.Bias[j:j+cols])
		}
	}
}

// GemmWith is Gemm without accumulation and with an epilogue.
func GemmWith(transA, transB bool, m, n, k int, a []float32, lda int, b []float32, ldb int, c []float32, ldc int, e Epilogue) {
	if e.Bias != nil && len(e.Bias) != n {
		panic(fmt.Sprintf("gemm: BUG: bias of %d for %d columns", len(e.Bias), n))
	}
	run(transA, transB, m, n, k, a, lda, b, ldb, c, ldc, false, e)
}

// Gemm computes C = op(A) op(B), or C += op(A) op(B) with accumulate, where
// op(A) is [m, k], op(B) is [k, n] and C is [m, n], all row-major with strides
// lda, ldb and ldc; op transposes the stored matrix when transA or transB is
// set. It panics when a slice is too short. C must not overlap A or B.
func Gemm(transA, transB bool, m, n, k int, a []float32, lda int, b []float32, ldb int, c []float32, ldc int, accumulate bool) {
	run(transA, transB, m, n, k, a, lda, b, ldb, c, ldc, accumulate, Epilogue{})
}

func run(transA, transB bool, m, n, k int, a []float32, lda int, b []float32, ldb int, c []float32, ldc int, accumulate bool, e Epilogue) {
	av, bv := view("A", transA, m, k, a, lda), view("B", transB, k, n, b, ldb)
	view("C", false, m, n, c, ldc)
	if m == 0 || n == 0 {
		return
	}
	if k == 0 {
		if !accumulate {
			for i := range m {
				clear(c[i*ldc : i*ldc+n])
			}
		}
		e.apply(c, m, n, ldc, 0)
		return
	}
	share(m, n, k, av, bv, c, ldc, accumulate, e)
}

// scratch holds the packed blocks of one goroutine.
type scratch struct {
	// a has room for what the packing of the last strip writes past its end.
	a [max(mBlock*kBlock, wideM*wideStride) + 16]float32
	b [max(nBlock*kBlock, wideBlock*wideK)]float32
	// edge is a tile that reaches over C's edge.
	edge [tileM * tileN]float32
	// row is a piece of a single row that is not in one piece in C.
	row [rowN]float32
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// multiply is run on one goroutine; the first column of c is column j0 of C.
func multiply(m, n, k int, a, b operand, c []float32, ldc int, accumulate bool, e Epilogue, j0 int) {
	s := scratches.Get().(*scratch)
	defer scratches.Put(s)
	switch {
	case wide() && (m > 1 && n > 1 || a.round):
		multiplyWide(s, m, n, k, a, b, c, ldc, accumulate, e, j0)
		return
	case m == 1:
		multiplyRow(s, n, k, a, b, c, 1, accumulate)
		e.apply(c, m, n, ldc, j0)
		return
	case n == 1:
		// The transposed product; a*b and b*a have the same bits.
		multiplyRow(s, m, k, b.transposed(), a.transposed(), c, ldc, accumulate)
		e.apply(c, m, n, ldc, j0)
		return
	}
	if tall(m, n, k, a, accumulate) {
		multiplyTall(s, m, n, k, a, b, c, ldc, accumulate, e, j0)
		return
	}
	if deep(m, n, k, a, b) {
		multiplyDeep(s, m, n, k, a, b, c, ldc, accumulate, e, j0)
		return
	}
	step := evenly(k, kBlock)
	for j := 0; j < n; j += nBlock {
		nb := min(nBlock, n-j)
		for p := 0; p < k; p += step {
			kb := min(step, k-p)
			pack(s.b[:], b.from(p, j).transposed(), nb, kb, tileN)
			load := accumulate || p > 0
			for i := 0; i < m; i += mBlock {
				mb := min(mBlock, m-i)
				pack(s.a[:], a.from(i, p), mb, kb, tileM)
				block(s, mb, nb, kb, c[i*ldc+j:], ldc, load)
				if p+kb == k {
					e.apply(c[i*ldc+j:], mb, nb, ldc, j0+j)
				}
			}
		}
	}
}

// evenly returns the length of the pieces, at most most, that n is cut into: as
// few as possible, and about equal.
func evenly(n, most int) int {
	pieces := (n + most - 1) / most
	return (n + pieces - 1) / pieces
}

// block multiplies the packed blocks tile by tile.
func block(s *scratch, m, n, k int, c []float32, ldc int, load bool) {
	for j := 0; j < n; j += tileN {
		bs := s.b[j*k:]
		for i := 0; i < m; i += tileM {
			as := s.a[i*k:]
			rows, cols := min(tileM, m-i), min(tileN, n-j)
			if rows == tileM && cols == tileN {
				tile(rows, cols, k, as, bs, c[i*ldc+j:], ldc, load)
				continue
			}
			edge := s.edge[:]
			if load {
				for r := range rows {
					copy(edge[r*tileN:r*tileN+cols], c[(i+r)*ldc+j:])
				}
			}
			tile(rows, cols, k, as, bs, edge, tileN, load)
			for r := range rows {
				copy(c[(i+r)*ldc+j:(i+r)*ldc+j+cols], edge[r*tileN:])
			}
		}
	}
}
