package gemm

import "github.com/fathom-train/fathom/compute/kernel"

// pack copies an [rows, k] operand into strips of width rows each. A strip holds
// k columns, each of width consecutive elements; what the last strip has beyond
// the rows is filler of no meaning. The packing of a strip may write up to two
// elements past its end.
func pack(dst []float32, x operand, rows, k, width int) {
	for i := 0; i < rows; i += width {
		strip, w := dst[i*k:], min(width, rows-i)
		switch {
		case x.row == 1 && w == width:
			packColumns(strip, x.data[i:], x.col, k, width)
		case x.row == 1:
			for p := range k {
				copy(strip[p*width:p*width+w], x.data[p*x.col+i:])
				clear(strip[p*width+w : p*width+width])
			}
		case x.col == 1:
			packRows(strip, x.data[i*x.row:], x.row, w, k, width)
		default:
			panic("gemm: BUG: operand without consecutive elements")
		}
	}
}

// packColumns packs a full strip whose columns lie in one piece, stride apart.
// The constant sizes make every copy a few moves.
func packColumns(strip, src []float32, stride, k, width int) {
	switch width {
	case tileM:
		for p := range k {
			*(*[tileM]float32)(strip[p*tileM:]) = *(*[tileM]float32)(src[p*stride:])
		}
	case tileN:
		for p := range k {
			*(*[tileN]float32)(strip[p*tileN:]) = *(*[tileN]float32)(src[p*stride:])
		}
	default:
		for p := range k {
			copy(strip[p*width:p*width+width], src[p*stride:])
		}
	}
}

// packRows packs a strip of w rows that lie in one piece, stride apart: it
// transposes them.
func packRows(strip, src []float32, stride, w, k, width int) {
	done := 0
	if kernel.SIMD() && k >= 4 {
		done = k &^ 3
		for r := 0; r < w; r += 8 {
			// Eight rows are read whatever width is: missing ones are
			// stand-ins, and too wide a column is overwritten by the next.
			transposeVector(&strip[r], width, &src[r*stride], stride, min(8, w-r, width), done)
		}
	}
	for r := range w {
		for p, v := range src[r*stride : r*stride+k][done:] {
			strip[(done+p)*width+r] = v
		}
	}
}
