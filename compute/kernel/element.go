package kernel

import "math"

// vector is how many elements the element-wise vector code takes at a time;
// what is left over goes through the portable loop, with the same operations.
const vector = 8

// nan is the one NaN the package returns, 0x7fc00000.
var nan = math.Float32frombits(0x7fc00000)

// Canonical returns x, or the one NaN of this package if x is any NaN.
// Processors disagree on the bits of the NaN an operation makes or passes on.
func Canonical(x float32) float32 {
	if x != x {
		return nan
	}
	return x
}

// Axpy adds alpha*x[i] to y[i].
func Axpy(alpha float32, x, y []float32) {
	check("Axpy", len(x), len(y))
	n := 0
	if SIMD() && len(x) >= vector {
		n = len(x) &^ (vector - 1)
		axpyVector(alpha, &x[0], &y[0], n)
	}
	for ; n < len(x); n++ {
		y[n] = Canonical(y[n] + float32(alpha*x[n]))
	}
}

// Scale multiplies x by alpha.
func Scale(alpha float32, x []float32) {
	if SIMD() && len(x) >= vector {
		scaleVector(alpha, &x[0], len(x))
		return
	}
	for i, v := range x {
		x[i] = Canonical(v * alpha)
	}
}

// Add adds x to dst.
func Add(dst, x []float32) {
	check("Add", len(dst), len(x))
	n := 0
	if SIMD() && len(x) >= vector {
		n = len(x) &^ (vector - 1)
		addVector(&dst[0], &x[0], n)
	}
	for ; n < len(x); n++ {
		dst[n] = Canonical(dst[n] + x[n])
	}
}

// Mul sets dst[i] to x[i]*y[i].
func Mul(dst, x, y []float32) {
	check("Mul", len(dst), len(x))
	check("Mul", len(dst), len(y))
	n := 0
	if SIMD() && len(x) >= vector {
		n = len(x) &^ (vector - 1)
		mulVector(&dst[0], &x[0], &y[0], n)
	}
	for ; n < len(x); n++ {
		dst[n] = Canonical(x[n] * y[n])
	}
}

// AddBias adds bias [m] to every row of dst [n, m].
func AddBias(dst []float32, n, m int, bias []float32) {
	check("AddBias", len(dst), n*m)
	check("AddBias", len(bias), m)
	if m == 1 {
		b := bias[0]
		for i, v := range dst {
			dst[i] = Canonical(v + b)
		}
		return
	}
	for i := range n {
		Add(dst[i*m:(i+1)*m], bias)
	}
}

// ReLU sets dst[i] to x[i] where that is positive, else to 0. A NaN stays one:
// hiding it would let training go on with a broken model.
func ReLU(dst, x []float32) {
	check("ReLU", len(dst), len(x))
	n := 0
	if SIMD() && len(x) >= vector {
		n = len(x) &^ (vector - 1)
		reluVector(&dst[0], &x[0], n)
	}
	for ; n < len(x); n++ {
		v := x[n]
		u := math.Float32bits(v) // an integer compiles to a conditional move
		if v <= 0 {
			u = 0
		}
		dst[n] = Canonical(math.Float32frombits(u))
	}
}

// ReLUGrad sets dx[i] to dy[i] where y[i], the output of ReLU, is positive, to
// 0 elsewhere.
func ReLUGrad(dx, dy, y []float32) {
	check("ReLUGrad", len(dx), len(dy))
	check("ReLUGrad", len(dx), len(y))
	n := 0
	if SIMD() && len(y) >= vector {
		n = len(y) &^ (vector - 1)
		reluGradVector(&dx[0], &dy[0], &y[0], n)
	}
	for ; n < len(y); n++ {
		u := math.Float32bits(dy[n])
		if !(y[n] > 0) {
			u = 0
		}
		dx[n] = Canonical(math.Float32frombits(u))
	}
}
