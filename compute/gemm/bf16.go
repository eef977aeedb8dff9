package gemm

import (
	"fmt"
	"math"
	"sync"

	"github.com/fathom-train/fathom/compute/kernel"
)

// BF16Tiny is the least magnitude of a bfloat16 operand; see RoundBF16.
const BF16Tiny = 0x1p-56

// RoundBF16 returns the bfloat16 operand that a product in bf16 mode makes of
// x: x rounded to eight significant bits, to nearest, ties to even; what is then
// smaller than BF16Tiny is zero, and every NaN is the one of package kernel.
//
// With operands of at least 2^-56 every product of two is a multiple of 2^-126,
// the least normal float32, and so is every rounded sum of products. No
// subnormal number can arise, and it does not matter how, or whether, a
// processor flushes them.
func RoundBF16(x float32) float32 {
	if x != x {
		return kernel.Canonical(x)
	}
	u := math.Float32bits(x)
	u = (u + 0x7fff + u>>16&1) &^ 0xffff
	if u<<1 < bf16TinyBits<<1 {
		return 0
	}
	return math.Float32frombits(u)
}

// bf16TinyBits are the bits of BF16Tiny; the upper 16 are its bfloat16.
const bf16TinyBits = (127 - 56) << 23

// GemmBF16 computes C = op(A) op(B) like Gemm, with both operands rounded by
// RoundBF16. The result has exactly the bits of Gemm on the rounded matrices:
// one chain of float32 fused multiply-adds per element, along k, ascending.
//
// It does not add to C: a C with subnormal numbers would bring back what
// RoundBF16 keeps out.
func GemmBF16(transA, transB bool, m, n, k int, a []float32, lda int, b []float32, ldb int, c []float32, ldc int) {
	runBF16(transA, transB, m, n, k, a, lda, b, ldb, c, ldc, Epilogue{})
}

// GemmBF16With is GemmBF16 with an epilogue.
func GemmBF16With(transA, transB bool, m, n, k int, a []float32, lda int, b []float32, ldb int, c []float32, ldc int, e Epilogue) {
	if e.Bias != nil && len(e.Bias) != n {
		panic(fmt.Sprintf("gemm: BUG: bias of %d for %d columns", len(e.Bias), n))
	}
	runBF16(transA, transB, m, n, k, a, lda, b, ldb, c, ldc, e)
}

func runBF16(transA, transB bool, m, n, k int, a []float32, lda int, b []float32, ldb int, c []float32, ldc int, e Epilogue) {
	av, bv := view("A", transA, m, k, a, lda), view("B", transB, k, n, b, ldb)
	view("C", false, m, n, c, ldc)
	instruction := hasBF16()
	if m == 0 || n == 0 || k == 0 || !instruction && !wide() {
		emulateBF16(transA, transB, m, n, k, a, lda, b, ldb, c, ldc, e)
		return
	}
	if !instruction {
		av.round, bv.round = true, true
		share(m, n, k, av, bv, c, ldc, false, e)
		return
	}
	parts := Threads()
	if parts <= 1 || alone(m, n, k) {
		multiplyBF16(m, n, k, av, bv, c, ldc, e, 0)
		return
	}
	parallelBF16(parts, m, n, k, av, bv, c, ldc, e)
}

// rounded holds the rounded operands of emulateBF16.
type rounded struct{ a, b []float32 }

var roundeds = sync.Pool{New: func() any { return new(rounded) }}

// emulateBF16 is the definition of runBF16.
func emulateBF16(transA, transB bool, m, n, k int, a []float32, lda int, b []float32, ldb int, c []float32, ldc int, e Epilogue) {
	r := roundeds.Get().(*rounded)
	defer roundeds.Put(r)
	rowsA, colsA, rowsB, colsB := m, k, k, n
	if transA {
		rowsA, colsA = k, m
	}
	if transB {
		rowsB, colsB = n, k
	}
	r.a = roundMatrix(r.a, rowsA, colsA, a, lda)
	r.b = roundMatrix(r.b, rowsB, colsB, b, ldb)
	run(transA, transB, m, n, k, r.a, colsA, r.b, colsB, c, ldc, false, e)
}

// roundMatrix returns the rounded matrix in one piece, in buf's memory if that
// is large enough.
func roundMatrix(buf []float32, rows, cols int, x []float32, ld int) []float32 {
	if cap(buf) < rows*cols {
		buf = make([]float32, rows*cols)
	}
	buf = buf[:rows*cols]
	if cols == 0 {
		return buf
	}
	for i := range rows {
		roundRow(buf[i*cols:(i+1)*cols], x[i*ld:])
	}
	return buf
}

// roundRow rounds len(dst) elements of src.
func roundRow(dst, src []float32) {
	done := 0
	if kernel.SIMD() && len(dst) >= 8 {
		done = len(dst) &^ 7
		roundVector(&dst[0], &src[:done][0], done)
	}
	for i, v := range src[done:len(dst)] {
		dst[done+i] = RoundBF16(v)
	}
}
