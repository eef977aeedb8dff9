//go:build !amd64

package gemm

// wide is false on this platform, so none of these is reached.

func tileWide32(strips, rows, k int, a *float32, row, col int, b *float32, ldb, step int, c *float32, ldc int, mask uint32, load bool) {
	panic(noVector)
}

func tileWide16(strips, rows, k int, a *float32, row, col int, b *float32, ldb, step int, c *float32, ldc int, mask uint32, load bool) {
	panic(noVector)
}

func chainsVector(k int, x, b *float32, stride int, c *float32, load bool) { panic(noVector) }

func transposeWide(dst *float32, width int, src *float32, stride, k int) { panic(noVector) }

func copyColumns(dst *float32, width int, src *float32, stride, k int, mask uint32) { panic(noVector) }
