package gemm

import "math"

// packA packs an [m, k] block of A and returns the strides of its pairs: those
// of row r are at a[r*row+p*step]. Rows of A that lie in one piece keep their
// order, for the micro-kernel takes single pairs of A from anywhere. Else A
// comes in strips of bfM rows.
func packA(s *scratchBF16, x operand, m, k int) (row, step int) {
	if x.col == 1 {
		for i := range m {
			packRow(s.a[i*bfRow:(i+1)*bfRow], x.data[i*x.row:i*x.row+k])
		}
		return bfRow, 1
	}
	packPairs(s.a[:], x, m, k, bfM, (k+1)/2)
	return 1, bfM
}

// packB packs a [k, n] block of B into strips of bfN columns, the last one of
// bfHalf if that is enough. The pairs of a strip are filled up to a multiple of
// four.
func packB(s *scratchBF16, x operand, n, k int) {
	stride := roundUp((k+1)/2, 4)
	if x.col == 1 {
		packPairs(s.b[:], x.transposed(), n, k, bfN, stride)
		return
	}
	for j := 0; j < n; j += 8 {
		strip, rows := s.b[j/bfN*bfN*stride:], min(8, n-j)
		width := stripWidth(n - j/bfN*bfN)
		for r := range rows {
			packRow(s.rows[r*bfRow:(r+1)*bfRow], x.data[(j+r)*x.col:(j+r)*x.col+k])
		}
		transposePairs(strip[j%bfN:], width, s.rows[:], rows, stride)
	}
}

// packRow packs the pairs of one row, and zeros up to a multiple of 16 pairs.
func packRow(dst []uint32, src []float32) {
	_ = dst[roundUp((len(src)+1)/2, 16)-1]
	packRowVector(&dst[0], &src[0], len(src))
}

// packPairs packs an [rows, k] operand whose columns lie in one piece into
// strips of width rows: strip i has at [p*width+r] the pair p of row i*width+r.
// Strips are stride pairs of width rows apart.
func packPairs(dst []uint32, x operand, rows, k, width, stride int) {
	full := k / 2
	for p := 0; p < full; p += columnChunk {
		pairs := min(columnChunk, full-p)
		for i := 0; i < rows; i += width {
			n := min(width, rows-i)
			w := width
			if width == bfN {
				w = stripWidth(n)
			}
			to, from := dst[i*stride+p*w:], x.data[2*p*x.col+i:]
			_, _ = to[(pairs-1)*w+n-1], from[(2*pairs-1)*x.col+n-1]
			packPairsVector(&to[0], w, &from[0], x.col, pairs, uint32(1<<n-1))
		}
	}
	if k%2 == 0 {
		return
	}
	for i := 0; i < rows; i += width {
		n := min(width, rows-i)
		w := width
		if width == bfN {
			w = stripWidth(n)
		}
		to := dst[i*stride+full*w:]
		for r, v := range x.data[2*full*x.col+i:][:n] {
			to[r] = math.Float32bits(RoundBF16(v))
		}
	}
}
