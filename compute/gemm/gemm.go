// Package gemm multiplies float32 matrices. Every element of the result is one
// chain of correctly rounded fused multiply-adds along k, ascending, so it has
// the same bits whatever the tile sizes, the number of threads and the code
// path; blocking over k only stores and reloads the running value.
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
	kBlock = 256
	mBlock = 20 * tileM
	nBlock = 64 * tileN
)

// threads bounds the goroutines of one call.
var threads atomic.Int32

// SetThreads sets how many goroutines one call may use; the default is 1.
func SetThreads(n int) { threads.Store(int32(max(1, n))) }

// parallelWork is the number of multiply-adds below which a call stays on one
// goroutine: waking another costs more.
const parallelWork = 1 << 20

// operand is a matrix as the multiplication sees it, transposed or not:
// element (i, j) is at data[i*row+j*col].
type operand struct {
	data     []float32
	row, col int
}

func view(name string, trans bool, rows, cols int, data []float32, ld int) operand {
	r, c := rows, cols
	if trans {
		r, c = cols, rows
	}
	if ld < c || (r > 0 && c > 0 && len(data) < (r-1)*ld+c) {
		panic(fmt.Sprintf("gemm: BUG: %s is stored as [%d, %d] with stride %d in %d elements", name, r, c, ld, len(data)))
	}
	if trans {
		return operand{data, 1, ld}
	}
	return operand{data, ld, 1}
}

// Gemm computes C = op(A) op(B), or C += op(A) op(B) with accumulate, where
// op(A) is [m, k], op(B) is [k, n] and C is [m, n], all row-major with strides
// lda, ldb and ldc; op transposes the stored matrix when transA or transB is
// set. It panics when a slice is too short. C must not overlap A or B.
func Gemm(transA, transB bool, m, n, k int, a []float32, lda int, b []float32, ldb int, c []float32, ldc int, accumulate bool) {
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
		return
	}
	parts := int(threads.Load())
	if parts <= 1 || m*n*k < parallelWork {
		multiply(m, n, k, av, bv, c, ldc, accumulate)
		return
	}
	parallel(parts, m, n, k, av, bv, c, ldc, accumulate)
}

// parallel gives every goroutine a range of rows of C, or of columns when C is
// wider than high.
func parallel(parts, m, n, k int, a, b operand, c []float32, ldc int, accumulate bool) {
	var wg sync.WaitGroup
	size, tile := m, tileM
	if n > m {
		size, tile = n, tileN
	}
	step := (size + parts - 1) / parts
	step = (step + tile - 1) / tile * tile
	for lo := 0; lo < size; lo += step {
		hi := min(lo+step, size)
		wg.Go(func() {
			if n > m {
				part := operand{b.data[lo*b.col:], b.row, b.col}
				multiply(m, hi-lo, k, a, part, c[lo:], ldc, accumulate)
			} else {
				part := operand{a.data[lo*a.row:], a.row, a.col}
				multiply(hi-lo, n, k, part, b, c[lo*ldc:], ldc, accumulate)
			}
		})
	}
	wg.Wait()
}

// scratch holds the packed blocks of one goroutine.
type scratch struct {
	a [mBlock * kBlock]float32
	b [nBlock * kBlock]float32
	// tile is the result of a tile that reaches over C's edge.
	tile [tileM * tileN]float32
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// multiply is Gemm on one goroutine.
func multiply(m, n, k int, a, b operand, c []float32, ldc int, accumulate bool) {
	s := scratches.Get().(*scratch)
	defer scratches.Put(s)
	for j := 0; j < n; j += nBlock {
		nb := min(nBlock, n-j)
		for p := 0; p < k; p += kBlock {
			kb := min(kBlock, k-p)
			pack(s.b[:], operand{b.data[p*b.row+j*b.col:], b.col, b.row}, nb, kb, tileN)
			load := accumulate || p > 0
			for i := 0; i < m; i += mBlock {
				mb := min(mBlock, m-i)
				pack(s.a[:], operand{a.data[i*a.row+p*a.col:], a.row, a.col}, mb, kb, tileM)
				block(s, mb, nb, kb, c[i*ldc+j:], ldc, load)
			}
		}
	}
}

// pack copies an [rows, k] operand into strips of width rows, each strip k
// columns of width consecutive elements; the last strip is filled with zeros.
func pack(dst []float32, x operand, rows, k, width int) {
	for i := 0; i < rows; i += width {
		strip := dst[i*k : i*k+width*k]
		w := min(width, rows-i)
		if w < width {
			clear(strip)
		}
		if x.row == 1 {
			for p := range k {
				copy(strip[p*width:p*width+w], x.data[i+p*x.col:])
			}
			continue
		}
		for r := range w {
			src := x.data[(i+r)*x.row:]
			if x.col == 1 {
				src = src[:k]
				for p, v := range src {
					strip[p*width+r] = v
				}
				continue
			}
			for p := range k {
				strip[p*width+r] = src[p*x.col]
			}
		}
	}
}

// block multiplies the packed blocks tile by tile.
func block(s *scratch, m, n, k int, c []float32, ldc int, load bool) {
	for j := 0; j < n; j += tileN {
		bs := s.b[j*k:]
		for i := 0; i < m; i += tileM {
			as := s.a[i*k:]
			rows, cols := min(tileM, m-i), min(tileN, n-j)
			if rows == tileM && cols == tileN {
				tile(k, as, bs, c[i*ldc+j:], ldc, load)
				continue
			}
			edge := s.tile[:]
			if load {
				for r := range rows {
					copy(edge[r*tileN:r*tileN+cols], c[(i+r)*ldc+j:])
				}
			}
			tile(k, as, bs, edge, tileN, load)
			for r := range rows {
				copy(c[(i+r)*ldc+j:(i+r)*ldc+j+cols], edge[r*tileN:])
			}
		}
	}
}

// tile computes one [tileM, tileN] tile from strips of k columns.
func tile(k int, a, b, c []float32, ldc int, load bool) {
	_, _, _ = a[k*tileM-1], b[k*tileN-1], c[(tileM-1)*ldc+tileN-1]
	if kernel.SIMD() {
		tileVector(k, &a[0], &b[0], &c[0], ldc, load)
		return
	}
	tilePortable(k, a, b, c, ldc, load)
}

// tilePortable is the definition of tile. Eight chains run side by side,
// because one alone would wait for every rounding.
func tilePortable(k int, a, b, c []float32, ldc int, load bool) {
	for i := range tileM {
		for j := 0; j < tileN; j += 8 {
			row := c[i*ldc+j : i*ldc+j+8]
			var s [8]float32
			if load {
				copy(s[:], row)
			}
			for p := range k {
				x, y := a[p*tileM+i], b[p*tileN+j:p*tileN+j+8]
				s[0] = kernel.FMA(x, y[0], s[0])
				s[1] = kernel.FMA(x, y[1], s[1])
				s[2] = kernel.FMA(x, y[2], s[2])
				s[3] = kernel.FMA(x, y[3], s[3])
				s[4] = kernel.FMA(x, y[4], s[4])
				s[5] = kernel.FMA(x, y[5], s[5])
				s[6] = kernel.FMA(x, y[6], s[6])
				s[7] = kernel.FMA(x, y[7], s[7])
			}
			copy(row, s[:])
		}
	}
}
