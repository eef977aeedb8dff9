package gemm

import "github.com/fathom-train/fathom/compute/kernel"

// tile computes the first rows and cols of one [tileM, tileN] tile from strips
// of k columns; the rest of the tile in c becomes meaningless.
func tile(rows, cols, k int, a, b, c []float32, ldc int, load bool) {
	_, _, _ = a[k*tileM-1], b[k*tileN-1], c[(tileM-1)*ldc+tileN-1]
	if kernel.SIMD() {
		tileVector(k, &a[0], &b[0], &c[0], ldc, load)
		return
	}
	tilePortable(rows, cols, k, a, b, c, ldc, load)
}

// tilePortable is the definition of tile: every element is the chain of fused
// multiply-adds over its row and column, from 0 or, with load, from c.
func tilePortable(rows, cols, k int, a, b, c []float32, ldc int, load bool) {
	for i := 0; i < rows; i += 2 {
		for j := 0; j < cols; j += 4 {
			upper, lower := (*[4]float32)(c[i*ldc+j:]), (*[4]float32)(c[(i+1)*ldc+j:])
			if !load {
				*upper, *lower = [4]float32{}, [4]float32{}
			}
			if !chains2x4(k, a[i:], b[j:], upper, lower) {
				for q := range 4 {
					for p := range k {
						upper[q] = kernel.FMA(a[p*tileM+i], b[p*tileN+j+q], upper[q])
						lower[q] = kernel.FMA(a[p*tileM+i+1], b[p*tileN+j+q], lower[q])
					}
				}
			}
			for q := range 4 {
				upper[q], lower[q] = kernel.Canonical(upper[q]), kernel.Canonical(lower[q])
			}
		}
	}
}
