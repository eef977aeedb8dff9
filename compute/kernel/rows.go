package kernel

// The kernels of this file take whole matrices, row-major, so that one call
// covers work which would be too little for a call per row.

// SumRows adds the rows of x [n, len(sum)] to sum, in ascending order.
func SumRows(sum, x []float32) {
	m := len(sum)
	if m == 0 {
		check("SumRows", len(x), 0)
		return
	}
	n := len(x) / m
	check("SumRows", len(x), n*m)
	if m == 1 {
		total := sum[0]
		for _, v := range x {
			total += v
		}
		sum[0] = Canonical(total)
		return
	}
	done := 0
	if SIMD() && m >= vector && n > 0 {
		done = m &^ (vector - 1)
		sumRowsVector(&sum[0], &x[0], n, m, done)
	}
	for j := done; j < m; j++ {
		total := sum[j]
		for at := j; at < len(x); at += m {
			total += x[at]
		}
		sum[j] = Canonical(total)
	}
}

// PairsGrad sets dx[i] to alpha*(s[i]-x[i]), or adds that to it: the gradient
// of the pairs of a factorization machine.
func PairsGrad(dx, x, s []float32, alpha float32, add bool) {
	check("PairsGrad", len(dx), len(x))
	check("PairsGrad", len(dx), len(s))
	n := 0
	if SIMD() && len(x) >= vector {
		n = len(x) &^ (vector - 1)
		if add {
			pairsGradAddVector(&dx[0], &x[0], &s[0], alpha, n)
		} else {
			pairsGradVector(&dx[0], &x[0], &s[0], alpha, n)
		}
	}
	for ; n < len(x); n++ {
		g := float32(alpha * (s[n] - x[n]))
		if add {
			g = dx[n] + g
		}
		dx[n] = Canonical(g)
	}
}

// GatherRows copies for every i the row rows[index[i]*stride:] of width
// elements to out [len(index), width].
func GatherRows(out []float32, width int, rows []float32, stride int, index []int32) {
	check("GatherRows", len(out), len(index)*width)
	if width == 1 {
		for i, r := range index {
			out[i] = rows[int(r)*stride]
		}
		return
	}
	if SIMD() && width >= vector && len(index) > 0 {
		checkIndex(index, len(rows), stride, width)
		gatherVector(&out[0], width, &rows[0], stride, &index[0], len(index))
		return
	}
	for i, r := range index {
		copy(out[i*width:(i+1)*width], rows[int(r)*stride:int(r)*stride+width])
	}
}

// ScatterRows adds every row of x [len(index), width] to the width elements at
// rows[index[i]*stride:], in ascending order of i.
func ScatterRows(rows []float32, stride int, x []float32, width int, index []int32) {
	check("ScatterRows", len(x), len(index)*width)
	if width == 1 {
		for i, r := range index {
			at := int(r) * stride
			rows[at] = Canonical(rows[at] + x[i])
		}
		return
	}
	if SIMD() && width >= vector && len(index) > 0 {
		checkIndex(index, len(rows), stride, width)
		scatterVector(&rows[0], stride, &x[0], width, &index[0], len(index))
		return
	}
	for i, r := range index {
		row, src := rows[int(r)*stride:int(r)*stride+width], x[i*width:(i+1)*width]
		for j, v := range src {
			row[j] = Canonical(row[j] + v)
		}
	}
}

// checkIndex panics unless every row of an index lies in a slice of n elements.
func checkIndex(index []int32, n, stride, width int) {
	var top uint32
	for _, r := range index {
		top = max(top, uint32(r)) // a negative one becomes huge
	}
	if int(top)*stride+width > n {
		mismatch("rows", n, int(top)*stride+width)
	}
}
