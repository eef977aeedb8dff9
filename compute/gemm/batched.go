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
// the nearest cache, and at least one whole tile. With AVX-512 any of more than one
// row and column will do.
func small(m, n, k int) bool {
	const most = 8 << 10
	if wide() {
		return m > 1 && n > 1 && k > 0
	}
	return kernel.SIMD() && m >= tileM && n >= tileN && k > 0 && m*k <= most && k*n <= most
}

// multiplySmall computes C tile by tile from operands as they are, but a
// transposed B, which is packed. The last tile of a row or column of tiles is
// moved back to fit in: what it shares with the one before gets the same bits
// twice.
func multiplySmall(s *scratch, m, n, k int, a, b operand, c []float32, ldc int) {
	view("C", false, m, n, c, ldc)
	if wide() {
		multiplyWide(s, m, n, k, a, b, c, ldc, false, Epilogue{}, 0)
		return
	}
	for j := 0; j < n; j += tileN {
		j = min(j, n-tileN)
		strip, ldb := b.data[j*b.col:], b.row
		if b.col != 1 {
			packRows(s.b[:], strip, b.col, tileN, k, tileN)
			strip, ldb = s.b[:], tileN
		}
		_ = strip[(k-1)*ldb+tileN-1]
		tilesDirectVector(m/tileM, k, &a.data[0], a.row, a.col, &strip[0], ldb, &c[j], ldc, false)
		if m%tileM > 0 {
			i := m - tileM
			tilesDirectVector(1, k, &a.data[i*a.row], a.row, a.col, &strip[0], ldb, &c[i*ldc+j], ldc, false)
		}
	}
}

// tallN is the number of columns up to which packing A does not pay: every
// element of it is used for so few.
const tallN = 8 * tileN

// tallA is how many elements of A multiplyTall takes at a time: they stay in the
// nearest cache for all strips of B.
const tallA = 4 << 10

// tall tells whether multiplyTall takes the product. As the last strip is moved
// back, and what it shares would be added twice, the columns must fill the
// strips of a product that accumulates.
func tall(m, n, k int, a operand, accumulate bool) bool {
	return kernel.SIMD() && a.col == 1 && m >= tileM && n >= tileN && n <= tallN && k <= kBlock && (n%tileN == 0 || !accumulate)
}

// multiplyTall computes C from A as it is and the strips of a small B.
func multiplyTall(s *scratch, m, n, k int, a, b operand, c []float32, ldc int, accumulate bool, e Epilogue, j0 int) {
	strips := s.b[:]
	for j := 0; j < n; j += tileN {
		pack(strips[j*k:], b.from(0, min(j, n-tileN)).transposed(), tileN, k, tileN)
	}
	step := max(1, tallA/(tileM*k)) * tileM
	for at := 0; at < m; at += step {
		rows := min(step, m-at)
		as, cs := a.data[at*a.row:], c[at*ldc:]
		whole := rows / tileM * tileM
		for j := 0; j < n && whole > 0; j += tileN {
			tilesDirectVector(whole/tileM, k, &as[0], a.row, 1, &strips[j*k], tileN, &cs[min(j, n-tileN)], ldc, accumulate)
		}
		if whole < rows {
			tallRest(s, rows-whole, n, k, a.from(at+whole, 0), cs[whole*ldc:], ldc, accumulate)
		}
		e.apply(cs, rows, n, ldc, j0)
	}
}

// tallRest computes the last rows of C, fewer than a tile has, by way of the
// edge.
func tallRest(s *scratch, rows, n, k int, a operand, c []float32, ldc int, accumulate bool) {
	pack(s.a[:], a, rows, k, tileM)
	for j := 0; j < n; j += tileN {
		at := min(j, n-tileN)
		for r := 0; accumulate && r < rows; r++ {
			copy(s.edge[r*tileN:(r+1)*tileN], c[r*ldc+at:])
		}
		tileVector(k, &s.a[0], &s.b[j*k], &s.edge[0], tileN, accumulate)
		for r := range rows {
			copy(c[r*ldc+at:][:tileN], s.edge[r*tileN:])
		}
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
		for j := 0; j < n; j += tileN {
			tilesDirectVector(whole/tileM, kb, &as[0], 1, a.col, &bs[j], b.row, &c[j], ldc, load)
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
		tilesDirectVector(1, k, &strip[0], 1, tileM, &b[j], ldb, &s.edge[0], tileN, load)
		for r := range rows {
			copy(c[r*ldc+j:][:tileN], s.edge[r*tileN:])
		}
	}
}
