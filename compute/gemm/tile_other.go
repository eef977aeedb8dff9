//go:build !amd64

package gemm

// kernel.SIMD is false on this platform, so none of these is reached.

const noVector = "gemm: BUG: no vector code"

func tileVector(k int, a, b, c *float32, ldc int, load bool) { panic(noVector) }

func rowVector(k int, x, b *float32, stride int, c *float32, load bool) { panic(noVector) }

func transposeVector(dst *float32, width int, src *float32, stride, rows, k int) { panic(noVector) }

func packStripsVector(dst *float32, step int, src *float32, stride, strips, columns int, wide bool) {
	panic(noVector)
}

func tilesDirectVector(tiles, k int, a *float32, row, col int, b *float32, ldb int, c *float32, ldc int, load bool) {
	panic(noVector)
}
