//go:build !amd64

package gemm

// hasBF16 is false on this platform, so none of these is reached.
func hasBF16() bool { return false }

var fastBF16 bool

func transposePairs(dst []uint32, width int, src []uint32, rows, pairs int) { panic(noVector) }

func tileBF16x32(pairs int, a *uint32, row, step int, b *uint32, c *float32, ldc int, load bool) {
	panic(noVector)
}

func tileBF16x16(pairs int, a *uint32, row, step int, b *uint32, c *float32, ldc int, load bool) {
	panic(noVector)
}

func packRowVector(dst *uint32, src *float32, k int) { panic(noVector) }

func packPairsVector(dst *uint32, width int, src *float32, ld, pairs int, mask uint32) {
	panic(noVector)
}

func roundVector(dst, src *float32, n int) { panic(noVector) }
