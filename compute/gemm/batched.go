package gemm

import "github.com/fathom-train/fathom/compute/kernel"

// Strides is where the matrices of a batch lie in one operand: matrix (o, i)
// begins at o*Outer + i*Inner.
type Strides struct{ Outer, Inner int }

// Operand is the matrices that one side of a batch of products takes.
type Operand struct {
	Data []float32
	// Trans takes every stored matrix transposed.
	Trans bool
	// Stride is the distance between the rows of a stored matrix.
	Stride int
	Strides
}

func (x Operand) at(o, i int) []float32 { return x.Data[o*x.Outer+i*x.Inner:] }

// Batched computes C = op(A) op(B) for outer*inner pairs of matrices of the
// same size, as Gemm does for one: [m, k] times [k, n]. It is for products too
// small to be packed first, such as those of attention, where outer are the
// samples and inner the heads. The matrices of c must not overlap. c.Trans must
// not be set.
func Batched(outer, inner, m, n, k int, a, b, c Operand) {
	if c.Trans {
		panic("gemm: BUG: transposed result of a batch")
	}
	if !small(m, n, k) {
		for o := range outer {
			for i := range inner {
				Gemm(a.Trans, b.Trans, m, n, k, a.at(o, i), a.Stride, b.at(o, i), b.Stride, c.at(o, i), c.Stride, false)
			}
		}
		return
	}
	s := scratches.Get().(*scratch)
	defer scratches.Put(s)
	for o := range outer {
		for i := range inner {
			multiplySmall(s, m, n, k, view("A", a.Trans, m, k, a.at(o, i), a.Stride),
				view("B", b.Trans, k, n, b.at(o, i), b.Stride), c.at(o, i), c.Stride)
		}
	}
}

// small tells whether multiplySmall takes the product: operands that stay in
// the nearest cache, and at least one whole tile.
func small(m, n, k int) bool {
	const most = 8 << 10
	return kernel.SIMD() && m >= tileM && n >= tileN && k > 0 && m*k <= most && k*n <= most
}

// multiplySmall computes C tile by tile from operands as they are, but a
// transposed B, which is packed. The last tile of a row or column of tiles is
// moved back to fit in: what it shares with the one before gets the same bits
// twice.
func multiplySmall(s *scratch, m, n, k int, a, b operand, c []float32, ldc int) {
	view("C", false, m, n, c, ldc)
	for j := 0; j < n; j += tileN {
		j = min(j, n-tileN)
		strip, ldb := b.data[j*b.col:], b.row
		if b.col != 1 {
			packRows(s.b[:], strip, b.col, tileN, k, tileN)
			strip, ldb = s.b[:], tileN
		}
		_ = strip[(k-1)*ldb+tileN-1]
		for i := 0; i < m; i += tileM {
			i = min(i, m-tileM)
			tileDirectVector(k, &a.data[i*a.row], a.row, a.col, &strip[0], ldb, &c[i*ldc+j], ldc, false)
		}
	}
}

// tallN is the number of columns up to which packing A does not pay: every
// element of it is used for so few.
const tallN = 8 * tileN

// tall tells whether multiplyTall takes the product.
func tall(m, n, k int, a operand, accumulate bool) bool {
	return kernel.SIMD() && !accumulate && a.col == 1 && m >= tileM && n >= tileN && n <= tallN && k <= kBlock
}

// multiplyTall computes C from A as it is and the strips of a small B, like
// multiplySmall, but every row of A stays in the nearest cache for all strips.
func multiplyTall(s *scratch, m, n, k int, a, b operand, c []float32, ldc int, e Epilogue, j0 int) {
	strips := s.b[:]
	for j := 0; j < n; j += tileN {
		pack(strips[j*k:], b.from(0, min(j, n-tileN)).transposed(), tileN, k, tileN)
	}
	for at := 0; at < m; at += mBlock {
		end := min(at+mBlock, m)
		for i := at; i < end; i += tileM {
			// The last tile may begin in rows that are finished already, but only
			// in this block: they get the same bits before the epilogue.
			first := i
			if first+tileM > end {
				first = end - tileM
			}
			if first < at {
				tallRest(s, at, end, n, k, a, c, ldc)
				break
			}
			for j := 0; j < n; j += tileN {
				tileDirectVector(k, &a.data[first*a.row], a.row, 1, &strips[j*k], tileN, &c[first*ldc+min(j, n-tileN)], ldc, false)
			}
		}
		e.apply(c[at*ldc:], end-at, n, ldc, j0)
	}
}

// deepK is how many rows of A and B multiplyDeep takes at a time: with up to 64
// columns both stay in the nearest cache.
const deepK = 64

// deep tells whether multiplyDeep takes the product, the weight gradient of a
// narrow layer over many samples. As tiles are not moved back, because what they
// shared would be added twice, the columns must fill them.
func deep(m, n, k int, a, b operand) bool {
	return kernel.SIMD() && a.row == 1 && b.col == 1 && m <= tallN && n <= tallN && n%tileN == 0 && m >= tileM && k >= deepK
}

// multiplyDeep computes C from A, which is transposed, and B as they are, a few
// of their rows after the other.
func multiplyDeep(s *scratch, m, n, k int, a, b operand, c []float32, ldc int, accumulate bool, e Epilogue, j0 int) {
	whole := m / tileM * tileM
	for p := 0; p < k; p += deepK {
		kb, load := min(deepK, k-p), accumulate || p > 0
		as, bs := a.data[p*a.col:], b.data[p*b.row:]
		for i := 0; i < whole; i += tileM {
			for j := 0; j < n; j += tileN {
				tileDirectVector(kb, &as[i], 1, a.col, &bs[j], b.row, &c[i*ldc+j], ldc, load)
			}
		}
		if whole < m {
			deepRest(s, m-whole, n, kb, as[whole:], a.col, bs, b.row, c[whole*ldc:], ldc, load)
		}
	}
	e.apply(c, m, n, ldc, j0)
}

// deepRest is the last rows of C, fewer than a tile has, by way of the edge.
func deepRest(s *scratch, rows, n, k int, a []float32, lda int, b []float32, ldb int, c []float32, ldc int, load bool) {
	strip := s.a[:k*tileM]
	for p := range k {
		for r := range rows {
			strip[p*tileM+r] = a[p*lda+r]
		}
	}
	for j := 0; j < n; j += tileN {
		for r := 0; load && r < rows; r++ {
			copy(s.edge[r*tileN:(r+1)*tileN], c[r*ldc+j:])
		}
		tileDirectVector(k, &strip[0], 1, tileM, &b[j], ldb, &s.edge[0], tileN, load)
		for r := range rows {
			copy(c[r*ldc+j:][:tileN], s.edge[r*tileN:])
		}
	}
}

// tallRest computes a last block of fewer rows than a tile has, by way of the
// edge.
func tallRest(s *scratch, at, end, n, k int, a operand, c []float32, ldc int) {
	pack(s.a[:], a.from(at, 0), end-at, k, tileM)
	for j := 0; j < n; j += tileN {
		tileVector(k, &s.a[0], &s.b[j*k], &s.edge[0], tileN, false)
		for r := range end - at {
			copy(c[(at+r)*ldc+min(j, n-tileN):][:tileN], s.edge[r*tileN:])
		}
	}
}
