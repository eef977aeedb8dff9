package gemm

import "sync"

// The tile of the bfloat16 micro-kernel, and its blocks, as in gemm.go. Columns
// that do not fill a strip of bfN, 16 at most, have one of bfHalf.
const (
	bfM      = 14
	bfN      = 32
	bfHalf   = 16
	bfKBlock = 640
	bfPairs  = bfKBlock / 2
	bfMBlock = 12 * bfM
	bfNBlock = 32 * bfN
	// bfRow is the stride of packed rows of A, in pairs: not a power of two, so
	// that the rows of a strip do not meet in the same sets of the cache.
	bfRow = bfPairs + 16
)

// scratchBF16 holds the packed blocks of one goroutine: pairs of bfloat16,
// consecutive along k.
type scratchBF16 struct {
	// a and b have room for what the packing writes past the end of a strip.
	a [bfMBlock * bfRow]uint32
	b [bfNBlock*bfPairs + 16]uint32
	// rows are some rows of B before they are transposed.
	rows [8 * bfRow]uint32
	edge [bfM * bfN]float32
}

var scratchesBF16 = sync.Pool{New: func() any { return new(scratchBF16) }}

// parallelBF16 gives every goroutine a range of rows of C, or of columns when C
// is wider than high.
func parallelBF16(parts, m, n, k int, a, b operand, c []float32, ldc int, e Epilogue) {
	var wg sync.WaitGroup
	size, tile := m, bfM
	if n > m {
		size, tile = n, bfN
	}
	step := (size + parts - 1) / parts
	step = (step + tile - 1) / tile * tile
	for lo := 0; lo < size; lo += step {
		hi := min(lo+step, size)
		wg.Go(func() {
			if n > m {
				multiplyBF16(m, hi-lo, k, a, b.from(0, lo), c[lo:], ldc, e, lo)
			} else {
				multiplyBF16(hi-lo, n, k, a.from(lo, 0), b, c[lo*ldc:], ldc, e, 0)
			}
		})
	}
	wg.Wait()
}

// multiplyBF16 is runBF16 on one goroutine, for a processor that has the
// instructions; the first column of c is column j0 of C.
func multiplyBF16(m, n, k int, a, b operand, c []float32, ldc int, e Epilogue, j0 int) {
	s := scratchesBF16.Get().(*scratchBF16)
	defer scratchesBF16.Put(s)
	length := roundUp(evenly(k, bfKBlock), 2) // a pair is not split
	for j := 0; j < n; j += bfNBlock {
		nb := min(bfNBlock, n-j)
		for p := 0; p < k; p += length {
			kb := min(length, k-p)
			packB(s, b.from(p, j), nb, kb)
			for i := 0; i < m; i += bfMBlock {
				mb := min(bfMBlock, m-i)
				row, step := packA(s, a.from(i, p), mb, kb)
				blockBF16(s, mb, nb, (kb+1)/2, row, step, c[i*ldc+j:], ldc, p > 0)
				if p+kb == k {
					e.apply(c[i*ldc+j:], mb, nb, ldc, j0+j)
				}
			}
		}
	}
}

// blockBF16 multiplies the packed blocks tile by tile; row and step are the
// strides of A.
func blockBF16(s *scratchBF16, m, n, pairs, row, step int, c []float32, ldc int, load bool) {
	stride := roundUp(pairs, 4)
	for i := 0; i < m; i += bfM {
		// A strip has bfM rows of its own, or bfM columns of pairs.
		as := s.a[i*max(row, pairs):]
		rows := min(bfM, m-i)
		for j := 0; j < n; j += bfN {
			bs, cols := s.b[j*stride:], min(bfN, n-j)
			if rows == bfM && (cols == bfN || cols == bfHalf) {
				tileBF16(cols, pairs, as, row, step, bs, c[i*ldc+j:], ldc, load)
				continue
			}
			edge := s.edge[:]
			if load {
				for r := range rows {
					copy(edge[r*bfN:r*bfN+cols], c[(i+r)*ldc+j:])
				}
			}
			tileBF16(cols, pairs, as, row, step, bs, edge, bfN, load)
			for r := range rows {
				copy(c[(i+r)*ldc+j:(i+r)*ldc+j+cols], edge[r*bfN:])
			}
		}
	}
}

// tileBF16 computes one [bfM, cols] tile, and columns of no meaning up to bfHalf
// or bfN.
func tileBF16(cols, pairs int, a []uint32, row, step int, b []uint32, c []float32, ldc int, load bool) {
	width := stripWidth(cols)
	_, _, _ = a[(bfM-1)*row+(pairs-1)*step], b[pairs*width-1], c[(bfM-1)*ldc+width-1]
	if width == bfN {
		tileBF16x32(pairs, &a[0], row, step, &b[0], &c[0], ldc, load)
	} else {
		tileBF16x16(pairs, &a[0], row, step, &b[0], &c[0], ldc, load)
	}
}

// stripWidth is the width of the strip of B that has cols columns.
func stripWidth(cols int) int {
	if cols <= bfHalf {
		return bfHalf
	}
	return bfN
}

func roundUp(x, to int) int { return (x + to - 1) / to * to }
