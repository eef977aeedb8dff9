package layer

import "github.com/fathom-train/fathom/compute/gemm"

// UseBF16 makes the layers multiply with bfloat16 operands from now on.
func (m *MLP) UseBF16() {
	for i := range m.linear {
		m.linear[i].BF16 = true
	}
}

// UseBF16 is that of MLP.
func (t *Tower) UseBF16() { t.mlp.UseBF16() }

// multiply is one of the products of the layer. With a single output it is
// bound by memory, and bfloat16 would cost accuracy for nothing.
func (l *Linear) multiply(transA, transB bool, m, n, k int, a []float32, lda int, b []float32, ldb int, c []float32, ldc int, e gemm.Epilogue) {
	if l.BF16 && l.Out > 1 {
		gemm.GemmBF16With(transA, transB, m, n, k, a, lda, b, ldb, c, ldc, e)
		return
	}
	gemm.GemmWith(transA, transB, m, n, k, a, lda, b, ldb, c, ldc, e)
}
