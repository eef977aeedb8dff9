package gemm

import "github.com/fathom-train/fathom/compute/kernel"

// multiplyRow computes the row c[j*stride] = x op(B) of n elements, where x is
// [1, k] and b is [k, n]. Pieces of rowN columns go down k side by side. Where
// B's rows lie in one piece they are read in place; else they are packed, or with
// AVX-512 transposed in registers.
func multiplyRow(s *scratch, n, k int, x, b operand, c []float32, stride int, accumulate bool) {
	for p := 0; p < k; p += kBlock {
		kb := min(kBlock, k-p)
		xs := x.data[p*x.col:]
		if x.col != 1 {
			xs = s.a[:kb]
			for q := range xs {
				xs[q] = x.data[(p+q)*x.col]
			}
		}
		load := accumulate || p > 0
		for j := 0; j < n; j += rowN {
			w := min(rowN, n-j)
			if w == rowN && stride == 1 && b.col != 1 && b.col < wideFar && wide() {
				for q := j; q < j+w; q += 16 {
					chainsVector(kb, &xs[0], &b.data[p+q*b.col], b.col, &c[q], load)
				}
				continue
			}
			bs, ldb := b.from(p, j).data, b.row
			if b.col != 1 || w < rowN {
				pack(s.b[:], b.from(p, j).transposed(), w, kb, rowN)
				bs, ldb = s.b[:], rowN
			}
			piece := s.row[:]
			if stride == 1 && w == rowN {
				piece = c[j : j+rowN]
			} else if load {
				for q := range w {
					piece[q] = c[(j+q)*stride]
				}
			}
			row(w, kb, xs, bs, ldb, piece, load)
			if stride != 1 || w < rowN {
				for q := range w {
					c[(j+q)*stride] = piece[q]
				}
			}
		}
	}
}

// row computes the first w of rowN elements of c from k elements of x and rows
// of B that are stride apart; the others become meaningless.
func row(w, k int, x, b []float32, stride int, c []float32, load bool) {
	_, _, _ = x[k-1], b[(k-1)*stride+rowN-1], c[rowN-1]
	if kernel.SIMD() {
		rowVector(k, &x[0], &b[0], stride, &c[0], load)
		return
	}
	for j := 0; j < w; j += 8 {
		piece := (*[8]float32)(c[j:])
		if !load {
			*piece = [8]float32{}
		}
		if !chains1x8(k, x, b[j:], stride, piece) {
			for q := range piece {
				for p := range k {
					piece[q] = kernel.FMA(x[p], b[p*stride+j+q], piece[q])
				}
			}
		}
		for q, v := range piece {
			piece[q] = kernel.Canonical(v)
		}
	}
}
