package gemm

import "github.com/fathom-train/fathom/compute/kernel"

// pack copies an [rows, k] operand into strips of width rows each. A strip holds
// k columns, each of width consecutive elements; what the last strip has beyond
// the rows is filler of no meaning. The packing of a strip may write up to two
// elements past its end.
func pack(dst []float32, x operand, rows, k, width int) {
	full := 0
	if x.row == 1 {
		full = rows / width * width
		packColumns(dst, x.data, x.col, full, k, width)
	}
	for i := full; i < rows; i += width {
		strip, w := dst[i*k:], min(width, rows-i)
		switch {
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

// columnChunk is how many columns packColumns takes at a time. The source is
// then read in long runs, which the processor's prefetching likes, and still
// one strip after the other.
const columnChunk = 16

// packColumns packs full strips of rows altogether, whose columns lie in one
// piece, stride apart.
func packColumns(dst, src []float32, stride, rows, k, width int) {
	vector := kernel.SIMD() && (width == tileM || width == tileN)
	for p0 := 0; p0 < k; p0 += columnChunk {
		p1 := min(p0+columnChunk, k)
		if vector && rows > 0 {
			_, _ = dst[(rows/width-1)*width*k+p1*width-1], src[(p1-1)*stride+rows-1]
			packStripsVector(&dst[p0*width], width*k, &src[p0*stride], stride, rows/width, p1-p0, width == tileN)
			continue
		}
		for i := 0; i < rows; i += width {
			to, from := dst[i*k+p0*width:], src[p0*stride+i:]
			for p := range p1 - p0 {
				copy(to[p*width:p*width+width], from[p*stride:])
			}
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
