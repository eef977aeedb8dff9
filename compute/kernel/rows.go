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
	top, done := uint32(0), 0
	if SIMD() && len(index) >= vector {
		done = len(index) &^ (vector - 1)
		top = maxVector(&index[0], done)
	}
	for _, r := range index[done:] {
		top = max(top, uint32(r)) // a negative one becomes huge
	}
	if int(top)*stride+width > n {
		mismatch("rows", n, int(top)*stride+width)
	}
}

// Singles returns how many of the ranges offsets[i] .. offsets[i+1] from the
// first on hold exactly one element each, of weight 1; weights may be nil.
func Singles(offsets []int32, weights []float32) int {
	n, first := len(offsets)-1, offsets[0]
	i := 0
	if weights != nil {
		weights = weights[first:]
		if n > len(weights) {
			n = len(weights) // what follows is empty
		}
	}
	if SIMD() && n >= vector {
		whole := n &^ (vector - 1)
		if weights == nil {
			i = runVector(&offsets[0], whole)
		} else {
			i = min(runVector(&offsets[0], whole), onesVector(&weights[0], whole))
		}
	}
	for ; i < n; i++ {
		if offsets[i+1] != first+int32(i)+1 || weights != nil && weights[i] != 1 {
			break
		}
	}
	return i
}

// AddReLU sets dst[i] to dst[i]+x[i] where that is positive, else to 0, with a
// NaN staying one: the bias and the activation of a layer in one pass.
func AddReLU(dst, x []float32) {
	check("AddReLU", len(dst), len(x))
	n := 0
	if SIMD() && len(x) >= vector {
		n = len(x) &^ (vector - 1)
		addReLUVector(&dst[0], &x[0], n)
	}
	for ; n < len(x); n++ {
		v := dst[n] + x[n]
		if v <= 0 {
			v = 0
		}
		dst[n] = Canonical(v)
	}
}

// ActivationGrad sets dx[i] to dy[i]*scale where y[i] is positive, to 0
// elsewhere: the gradient of ReLU and of a dropout that multiplies by scale,
// both of which y[i] has gone through.
func ActivationGrad(dx, dy, y []float32, scale float32) {
	check("ActivationGrad", len(dx), len(dy))
	check("ActivationGrad", len(dx), len(y))
	n := 0
	if SIMD() && len(y) >= vector {
		n = len(y) &^ (vector - 1)
		activationGradVector(&dx[0], &dy[0], &y[0], scale, n)
	}
	for ; n < len(y); n++ {
		g := float32(0)
		if y[n] > 0 {
			g = dy[n] * scale
		}
		dx[n] = Canonical(g)
	}
}

// rowsOf returns n where x is [n, m], and how many columns of it the vector
// code takes; the rest goes through the portable loops.
func rowsOf(name string, x []float32, m int) (n, columns int) {
	if m == 0 {
		check(name, len(x), 0)
		return 0, 0
	}
	n = len(x) / m
	check(name, len(x), n*m)
	if SIMD() && n > 0 {
		columns = m &^ (vector - 1)
	}
	return n, columns
}

// SumSquaresRows adds (x-mean)^2 of the rows of x [n, len(sum)] to sum, in
// ascending order.
func SumSquaresRows(sum, x, mean []float32) {
	m := len(sum)
	n, done := rowsOf("SumSquaresRows", x, m)
	check("SumSquaresRows", len(mean), m)
	if done > 0 {
		sumSquaresRowsVector(&sum[0], &x[0], n, m, done, &mean[0])
	}
	for j := done; j < m; j++ {
		total := sum[j]
		for at := j; at < len(x); at += m {
			d := x[at] - mean[j]
			total += float32(d * d)
		}
		sum[j] = Canonical(total)
	}
}

// Norm has one value per column for a normalisation of rows.
type Norm struct {
	Mean, Inverse, Gamma, Beta []float32
}

// Normalize sets every row of y [n, m] to (x-mean)*inverse*gamma + beta, and
// with relu what is not positive of that to 0, except for NaN.
func (c *Norm) Normalize(y, x []float32, relu bool) {
	m := len(c.Mean)
	n, done := rowsOf("Normalize", x, m)
	check("Normalize", len(y), len(x))
	check("Normalize", m+m+m, len(c.Inverse)+len(c.Gamma)+len(c.Beta))
	if done > 0 {
		normalizeVector(&y[0], &x[0], n, m, done, &c.Mean[0], &c.Inverse[0], &c.Gamma[0], &c.Beta[0], relu)
	}
	for at := 0; done < m && at < len(x); at += m {
		for j := done; j < m; j++ {
			v := float32(float32((x[at+j]-c.Mean[j])*c.Inverse[j])*c.Gamma[j]) + c.Beta[j]
			if relu && v <= 0 {
				v = 0
			}
			y[at+j] = Canonical(v)
		}
	}
}

// GradSums adds the rows of dy [n, m] to dbeta and those of dy*xhat to dgamma,
// in ascending order, where xhat is (x-mean)*inverse.
func (c *Norm) GradSums(dgamma, dbeta, dy, x []float32) {
	m := len(c.Mean)
	n, done := rowsOf("GradSums", x, m)
	check("GradSums", len(dy), len(x))
	check("GradSums", m+m+m, len(c.Inverse)+len(dgamma)+len(dbeta))
	if done > 0 {
		gradSumsVector(&dgamma[0], &dbeta[0], &dy[0], &x[0], n, m, done, &c.Mean[0], &c.Inverse[0])
	}
	for j := done; j < m; j++ {
		gamma, beta := dgamma[j], dbeta[j]
		for at := j; at < len(x); at += m {
			beta += dy[at]
			gamma += float32(dy[at] * float32((x[at]-c.Mean[j])*c.Inverse[j]))
		}
		dgamma[j], dbeta[j] = Canonical(gamma), Canonical(beta)
	}
}

// InputGrad sets every row of dx [n, m] to (xhat*slope + shift + dy)*scale,
// where xhat is (x-mean)*inverse.
func (c *Norm) InputGrad(dx, dy, x, slope, shift, scale []float32) {
	m := len(c.Mean)
	n, done := rowsOf("InputGrad", x, m)
	check("InputGrad", len(dy), len(x))
	check("InputGrad", len(dx), len(x))
	check("InputGrad", 4*m, len(c.Inverse)+len(slope)+len(shift)+len(scale))
	if done > 0 {
		inputGradVector(&dx[0], &dy[0], &x[0], n, m, done, &c.Mean[0], &c.Inverse[0], &slope[0], &shift[0], &scale[0])
	}
	for at := 0; done < m && at < len(x); at += m {
		for j := done; j < m; j++ {
			normal := float32((x[at+j] - c.Mean[j]) * c.Inverse[j])
			dx[at+j] = Canonical((float32(normal*slope[j]) + shift[j] + dy[at+j]) * scale[j])
		}
	}
}
