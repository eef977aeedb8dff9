package gemm

// transposeVector sets dst[p*width+r] to src[r*stride+p] for the rows r below 8
// and the columns p below k, a positive multiple of 4. Of the rows only the
// first few exist (at least 1); the others repeat the last. Columns are written
// in ascending order, eight elements each.
//
//go:noescape
func transposeVector(dst *float32, width int, src *float32, stride, rows, k int)

// packStripsVector copies columns columns of strips strips, tileN (wide) or
// tileM elements each: column p of strip s from src[p*stride+s*width:] to
// dst[s*step+p*width:].
//
//go:noescape
func packStripsVector(dst *float32, step int, src *float32, stride, strips, columns int, wide bool)
