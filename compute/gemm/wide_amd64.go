package gemm

// tileWide32 computes tiles of C side by side, strips of them, each of up to
// wideM rows and wideN columns, of which mask has a bit of those that exist.
// Every element is the chain over k, from 0 or, with load, from C. Element (i, p)
// of A is at a[i*row+p*col]; row p of tile s of B begins at b[s*step+p*ldb].
// All wideM rows of A and all columns of B are read, whether they exist or not.
//
//go:noescape
func tileWide32(strips, rows, k int, a *float32, row, col int, b *float32, ldb, step int, c *float32, ldc int, mask uint32, load bool)

// tileWide16 is tileWide32 for tiles of wideHalf columns.
//
//go:noescape
func tileWide16(strips, rows, k int, a *float32, row, col int, b *float32, ldb, step int, c *float32, ldc int, mask uint32, load bool)

// chainsVector continues the sixteen chains c, or begins them without load, over
// k elements of x and of sixteen rows of b, which are stride apart, less than wideFar.
//
//go:noescape
func chainsVector(k int, x, b *float32, stride int, c *float32, load bool)

// transposeWide sets dst[p*width+r] to src[r*stride+p], for sixteen rows r and k
// columns p. stride is less than wideFar.
//
//go:noescape
func transposeWide(dst *float32, width int, src *float32, stride, k int)

// copyColumns sets dst[p*width+r] to src[p*stride+r] for the r that mask has a
// bit of and to 0 for the others, 16 of them or, if width is more than that, 32,
// for one p below k after the other.
//
//go:noescape
func copyColumns(dst *float32, width int, src *float32, stride, k int, mask uint32)
