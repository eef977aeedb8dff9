package gemm

import "github.com/fathom-train/fathom/compute/kernel"

// The tile of the 512-bit micro-kernel, and its blocks: a strip of wideM rows of
// A in L1, a [wideK, wideBlock] block of B in L2. Columns that do not fill a
// strip of wideN, wideHalf at most, have one of wideHalf.
//
// The micro-kernel takes single elements of A from anywhere, so that A is read
// where it is unless that is slow. The strips of B follow each other in the
// order in which they are used.
const (
	wideM     = 14
	wideN     = 32
	wideHalf  = 16
	wideK     = 512
	wideBlock = 16 * wideN
	// wideStride is the distance of copied rows of A. It is no power of two, so
	// that they do not meet in the same sets of the cache.
	wideStride = wideK + 16
	// wideDirect is how many rows or columns of C make it worth while to pack an
	// operand that could be read where it is, if slowly.
	wideDirect = 128
	// wideFar is what the distance of rows that are transposed must be less than:
	// sixteen of them are counted in 32 bits.
	wideFar = 1 << 27
)

// wide tells whether the 512-bit micro-kernel is in use.
func wide() bool { return kernel.Path() == kernel.AVX512 }

// multiplyWide is multiply for the 512-bit micro-kernel.
func multiplyWide(s *scratch, m, n, k int, a, b operand, c []float32, ldc int, accumulate bool, e Epilogue, j0 int) {
	step := evenly(k, wideK)
	for j := 0; j < n; j += wideBlock {
		nb := min(wideBlock, n-j)
		for p := 0; p < k; p += step {
			kb, load := min(step, k-p), accumulate || p > 0
			right := s.right(b.from(p, j), m, nb, kb)
			s.rows(right, m, nb, kb, a.from(0, p), c[j:], ldc, load, p+kb == k, e, j0+j)
		}
	}
}

// rows computes m rows of C from a block of B of n columns, and finishes them when
// they are complete. The first column of c is column j0 of C.
func (s *scratch) rows(right strips, m, n, k int, a operand, c []float32, ldc int, load, complete bool, e Epilogue, j0 int) {
	for i := 0; i < m; i += wideM {
		rows := min(wideM, m-i)
		if rows < wideM && m >= wideM && !load {
			// Whole tiles are faster. What they share gets the same bits twice.
			i, rows = m-wideM, wideM
		}
		as, row, col := s.left(a.from(i, 0), rows, n, k)
		right.multiply(rows, k, as, row, col, c[i*ldc:], ldc, load)
		if complete {
			e.apply(c[i*ldc:], rows, n, ldc, j0)
		}
	}
}

// left returns an [rows, k] strip of A for n columns of B: element (i, p) is at
// i*row+p*col.
func (s *scratch) left(x operand, rows, n, k int) (data []float32, row, col int) {
	direct := rows == wideM && !x.round
	switch {
	case direct && x.col == 1 && x.row%1024 != 0:
		return x.data, x.row, 1
	case x.col == 1:
		for i := range rows {
			to, from := s.a[i*wideStride:][:k], x.data[i*x.row:]
			if x.round {
				roundRow(to, from)
			} else {
				copy(to, from)
			}
		}
		return s.a[:], wideStride, 1
	case direct && n <= wideDirect:
		return x.data, 1, x.col
	}
	copyColumns(&s.a[0], wideM, &x.data[0], x.col, k, 1<<rows-1)
	if x.round {
		roundRow(s.a[:wideM*k], s.a[:wideM*k])
	}
	return s.a[:], 1, wideM
}

// strips is a block of B in strips of wideN columns: row p of strip i begins at
// data[i*step+p*ld]. The last one of rest columns, fewer than wideN, is by itself.
type strips struct {
	data     []float32
	ld, step int
	full     int

	rest       int
	restData   []float32
	restStride int
}

// count returns how many strips there are.
func (r strips) count() int {
	if r.rest > 0 {
		return r.full + 1
	}
	return r.full
}

// right returns a [k, n] block of B for m rows of A.
func (s *scratch) right(x operand, m, n, k int) strips {
	r := s.places(n, k)
	if x.col == 1 && !x.round && m <= wideDirect {
		r.data, r.ld, r.step = x.data, x.row, wideN
		if r.rest > 0 {
			s.fill(r, r.full, x, k)
		}
		return r
	}
	for i := range r.count() {
		s.fill(r, i, x, k)
	}
	return r
}

// places returns where the strips of a [k, n] block of B are when they are packed.
func (s *scratch) places(n, k int) strips {
	r := strips{data: s.b[:], ld: wideN, step: wideN * k, full: n / wideN, rest: n % wideN, restStride: wideN}
	if r.rest <= wideHalf {
		r.restStride = wideHalf
	}
	if r.rest > 0 {
		r.restData = s.b[r.full*r.step:]
	}
	return r
}

// fill packs strip i of a block of B of k rows into its place.
func (s *scratch) fill(r strips, i int, x operand, k int) {
	if i == r.full {
		s.strip(r.restData, x.from(0, i*wideN), r.rest, r.restStride, k)
		return
	}
	s.strip(r.data[i*r.step:], x.from(0, i*wideN), wideN, wideN, k)
}

// strip packs n columns of B into a strip of width columns.
func (s *scratch) strip(dst []float32, x operand, n, width, k int) {
	if x.col == 1 {
		copyColumns(&dst[0], width, &x.data[0], x.row, k, 1<<n-1)
	} else {
		j := 0
		for ; j+16 <= n && x.col < wideFar; j += 16 {
			transposeWide(&dst[j], width, &x.data[j*x.col], x.col, k)
		}
		if j < n {
			packRows(dst[j:], x.data[j*x.col:], x.col, n-j, k, width)
		}
	}
	if x.round {
		roundRow(dst[:width*k], dst[:width*k])
	}
}

// multiply computes rows of C from a strip of A.
func (r strips) multiply(rows, k int, a []float32, row, col int, c []float32, ldc int, load bool) {
	_ = c[(rows-1)*ldc+r.full*wideN+r.rest-1]
	if r.full > 0 {
		tileWide32(r.full, rows, k, &a[0], row, col, &r.data[0], r.ld, r.step, &c[0], ldc, 1<<wideN-1, load)
	}
	if r.rest > wideHalf {
		tileWide32(1, rows, k, &a[0], row, col, &r.restData[0], r.restStride, 0, &c[r.full*wideN], ldc, 1<<r.rest-1, load)
	} else if r.rest > 0 {
		tileWide16(1, rows, k, &a[0], row, col, &r.restData[0], r.restStride, 0, &c[r.full*wideN], ldc, 1<<r.rest-1, load)
	}
}
