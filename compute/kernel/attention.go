package kernel

import "math"

// softmaxChunk is about how many elements SoftmaxRows takes through its three
// passes at a time.
const softmaxChunk = 2048

// SoftmaxRows replaces every row of x [.., width] by its softmax: e^(v-top) of
// every element v, top being the largest, divided by (multiplied by the inverse
// of) their sum. A row with a NaN or +Inf becomes NaN throughout. The relative
// error is at most (2*max|v-top| + width/16 + 8) * 2^-24, but the absolute one
// of results below 2^-126 is one of their last bits.
func SoftmaxRows(x []float32, width int) {
	if width == 0 {
		check("SoftmaxRows", len(x), 0)
		return
	}
	check("SoftmaxRows", len(x)%width, 0)
	step := max(1, softmaxChunk/width) * width
	for ; len(x) > 0; x = x[min(step, len(x)):] {
		part := x[:min(step, len(x))]
		for at := 0; at < len(part); at += width {
			lower(part[at : at+width])
		}
		ExpSlice(part, part)
		for at := 0; at < len(part); at += width {
			row := part[at : at+width]
			Scale(1/Sum(row), row)
		}
	}
}

// lower subtracts the largest element of a row from all. Where there is a NaN,
// paths may differ in what is subtracted, but all of the row ends as NaN.
func lower(row []float32) {
	if SIMD() && len(row) >= vector {
		lowerVector(&row[0], len(row))
		return
	}
	top := row[0]
	for _, v := range row[1:] {
		if v > top {
			top = v
		}
	}
	for j, v := range row {
		row[j] = v - top
	}
}

// SoftmaxRowsGrad turns the gradient g of the softmax y [.., width] into that
// of its input, in place: dx = y * (dy - y . dy). The error of an element is at
// most (width/16 + 10) * 2^-24 * y*(|dy| + sum of |y*dy|), and a subnormal's
// last bit.
func SoftmaxRowsGrad(g, y []float32, width int) {
	check("SoftmaxRowsGrad", len(g), len(y))
	if width == 0 {
		check("SoftmaxRowsGrad", len(y), 0)
		return
	}
	check("SoftmaxRowsGrad", len(y)%width, 0)
	for at := 0; at < len(y); at += width {
		gs, ys := g[at:at+width], y[at:at+width]
		dot := Dot(gs, ys)
		if SIMD() && width >= vector {
			softmaxGradVector(&gs[0], &ys[0], dot, width)
			continue
		}
		for j, v := range ys {
			gs[j] = Canonical(v * (gs[j] - dot))
		}
	}
}

// LayerNormRows normalises every row of x [n, len(gamma)] by its own mean and
// (biased) variance, which leaves xhat, with 1/sqrt(variance+epsilon) in
// inverse [n], and sets y to xhat*gamma + beta. y and x may be the same. With a
// the mean of |x| in the row times its inverse, the error of an element of xhat
// is at most e = (m/16 + 10) * 2^-24 * (a*(1+|xhat|) + |xhat|), and that of y at
// most e*|gamma| + 2^-23 * (|xhat*gamma| + |beta|).
func LayerNormRows(y, xhat, inverse, x, gamma, beta []float32, epsilon float32) {
	m := len(gamma)
	check("LayerNormRows", len(x), len(inverse)*m)
	check("LayerNormRows", len(xhat), len(x))
	check("LayerNormRows", len(y), len(x))
	check("LayerNormRows", len(beta), m)
	whole := 0
	if SIMD() {
		whole = m &^ (vector - 1)
	}
	for i := range inverse {
		at := i * m
		in, hat, out := x[at:at+m], xhat[at:at+m], y[at:at+m]
		mean := Sum(in) / float32(m)
		if whole > 0 {
			subtractVector(&hat[0], &in[0], mean, whole)
		}
		for j := whole; j < m; j++ {
			hat[j] = Canonical(in[j] - mean)
		}
		variance := SumSquares(hat) / float32(m)
		inv := Canonical(1 / float32(math.Sqrt(float64(variance+epsilon))))
		inverse[i] = inv
		if whole > 0 {
			layerNormVector(&out[0], &hat[0], inv, &gamma[0], &beta[0], whole)
		}
		for j := whole; j < m; j++ {
			h := Canonical(hat[j] * inv)
			hat[j], out[j] = h, Canonical(float32(h*gamma[j])+beta[j])
		}
	}
}

// LayerNormRowsGrad adds to dgamma and dbeta and overwrites dx, given dy and
// what LayerNormRows left; dx and dy may be the same. With g = gamma*dy:
//
//	dx = (g - mean(g) - xhat*mean(g*xhat)) * inverse
//
// The error of an element of dx is at most (m/16 + 10) * 2^-24 * inverse times
// |g| + mean(|g|) + |xhat|*mean(|g*xhat|), that of dgamma (n+1) * 2^-24 times the
// sum of |dy*xhat|.
func LayerNormRowsGrad(dx, dgamma, dbeta, dy, xhat, inverse, gamma []float32) {
	m := len(gamma)
	check("LayerNormRowsGrad", len(dy), len(inverse)*m)
	check("LayerNormRowsGrad", len(xhat), len(dy))
	check("LayerNormRowsGrad", len(dx), len(dy))
	check("LayerNormRowsGrad", len(dgamma), m)
	SumRows(dbeta, dy)
	whole := 0
	if SIMD() {
		whole = m &^ (vector - 1)
	}
	for i, inv := range inverse {
		at := i * m
		d, hat, out := dy[at:at+m], xhat[at:at+m], dx[at:at+m]
		if whole > 0 {
			gammaGradVector(&dgamma[0], &out[0], &d[0], &hat[0], &gamma[0], whole)
		}
		for j := whole; j < m; j++ {
			dgamma[j] = Canonical(dgamma[j] + float32(d[j]*hat[j]))
			out[j] = Canonical(d[j] * gamma[j])
		}
		mean, slope := Sum(out)/float32(m), Dot(out, hat)/float32(m)
		if whole > 0 {
			layerNormGradVector(&out[0], &hat[0], mean, slope, inv, whole)
		}
		for j := whole; j < m; j++ {
			out[j] = Canonical((out[j] - mean - float32(hat[j]*slope)) * inv)
		}
	}
}
