package kernel

import "math"

// The transcendental functions are polynomials in float64 whose error is below
// 1e-12 of the result, followed by one rounding to float32: they are within
// 0.5001 units in the last place of the true value. Each float64 product that
// is added to something is written float64(...) so that no compiler fuses it.
// The AVX2 code does the same operations in the same order.

const (
	log2e   = 0x1.71547652b82fep+0
	ln2High = 0x1.62e42feep-1 // 32 bits: n*ln2High is exact for |n| < 2^20
	ln2Low  = 0x1.a39ef35793c76p-33
	// roundMagic rounds to an integer when added and subtracted.
	roundMagic = 0x1.8p52
	// expMax bounds the argument of exp64: e^±expMax rounds to 0 or +Inf as a
	// float32 with much room, but stays an ordinary float64.
	expMax = 200
)

// exp64 returns e^x for |x| <= expMax; beyond, it returns e^±expMax. With n the
// integer nearest x/ln(2) and r = x-n*ln(2), that is 2^n times the series of
// e^r up to r^11/11!; at |r| <= ln(2)/2 the next term is 7e-15 of the sum.
func exp64(x float64) float64 {
	if x > expMax {
		x = expMax
	}
	if x < -expMax {
		x = -expMax
	}
	shifted := float64(x*log2e) + roundMagic
	n := shifted - roundMagic
	r := x - float64(n*ln2High)
	r -= float64(n * ln2Low)
	p := float64(r*(1.0/39916800)) + 1.0/3628800
	p = float64(p*r) + 1.0/362880
	p = float64(p*r) + 1.0/40320
	p = float64(p*r) + 1.0/5040
	p = float64(p*r) + 1.0/720
	p = float64(p*r) + 1.0/120
	p = float64(p*r) + 1.0/24
	p = float64(p*r) + 1.0/6
	p = float64(p*r) + 0.5
	p = float64(p*r) + 1
	p = float64(p*r) + 1
	// The low bits of shifted are n: make them the exponent of 2^n.
	scale := math.Float64frombits(math.Float64bits(shifted)<<52 + 1023<<52)
	return float64(p * scale)
}

// Exp returns e^x within 0.5001 units in the last place, subnormal results
// included.
func Exp(x float32) float32 { return Canonical(float32(exp64(float64(x)))) }

// Sigmoid returns 1/(1+e^-x) within 0.5001 units in the last place.
func Sigmoid(x float32) float32 {
	return Canonical(float32(1 / (1 + exp64(-float64(x)))))
}

// tanhSmall is where the quotient of Tanh would begin to cancel.
const tanhSmall = 0x1p-12

// Tanh returns the hyperbolic tangent of x within 0.5001 units in the last place.
func Tanh(x float32) float32 {
	d := float64(x)
	if d < tanhSmall && d > -tanhSmall {
		// The next term of the series is 1e-14 of the sum.
		return float32(d * (1 - float64(float64(d*d)*(1.0/3))))
	}
	e := exp64(float64(2 * d))
	return Canonical(float32((e - 1) / (e + 1)))
}

// ExpSlice sets dst[i] to Exp(x[i]).
func ExpSlice(dst, x []float32) {
	check("ExpSlice", len(dst), len(x))
	i := 0
	if wide() && len(x) >= 2*vector {
		i = len(x) &^ (2*vector - 1)
		expVector512(&dst[0], &x[0], i)
	}
	if n := (len(x) - i) &^ (vector - 1); SIMD() && n > 0 {
		expVector(&dst[i], &x[i], n)
		i += n
	}
	for ; i < len(x); i++ {
		dst[i] = Exp(x[i])
	}
}

// TanhSlice sets dst[i] to Tanh(x[i]).
func TanhSlice(dst, x []float32) {
	check("TanhSlice", len(dst), len(x))
	i := 0
	if SIMD() && len(x) >= vector {
		i = len(x) &^ (vector - 1)
		tanhVector(&dst[0], &x[0], i)
	}
	for ; i < len(x); i++ {
		dst[i] = Tanh(x[i])
	}
}

// SigmoidSlice sets dst[i] to Sigmoid(x[i]).
func SigmoidSlice(dst, x []float32) {
	check("SigmoidSlice", len(dst), len(x))
	i := 0
	if SIMD() && len(x) >= 8 {
		i = len(x) &^ 7
		sigmoidVector(&dst[0], &x[0], i)
	}
	for ; i < len(x); i++ {
		dst[i] = Sigmoid(x[i])
	}
}

// logRatio returns ln((1+f)/(1-f)) for |f| <= 0.172: the series of 2*atanh(f)
// up to f^21/21, whose next term is 1e-17 of the sum.
func logRatio(f float64) float64 {
	s := float64(f * f)
	p := float64(s*(1.0/21)) + 1.0/19
	p = float64(p*s) + 1.0/17
	p = float64(p*s) + 1.0/15
	p = float64(p*s) + 1.0/13
	p = float64(p*s) + 1.0/11
	p = float64(p*s) + 1.0/9
	p = float64(p*s) + 1.0/7
	p = float64(p*s) + 1.0/5
	p = float64(p*s) + 1.0/3
	p = float64(p*s) + 1
	return float64(2*f) * p
}

// log64 returns the natural logarithm of x, within 4 units in the last place
// of a float64: -Inf at 0, NaN below. Subnormal float64 arguments, which no
// float32 becomes, count as zero.
func log64(x float64) float64 {
	switch {
	case x != x || x < 0:
		return math.NaN()
	case x < 0x1p-1022:
		return math.Inf(-1)
	case math.IsInf(x, 1):
		return x
	}
	// x = m * 2^e with m in [sqrt(1/2), sqrt(2)).
	const offset = 0x3ff0000000000000 - 0x3fe6a09e667f3bcd
	u := math.Float64bits(x) + offset
	e := float64(int64(u>>52) - 1023)
	m := math.Float64frombits(u&(1<<52-1) + 0x3fe6a09e667f3bcd)
	l := logRatio((m - 1) / (m + 1))
	return float64(e*ln2High) + (l + float64(e*ln2Low))
}

// Log returns the natural logarithm of x within 0.5001 units in the last
// place: -Inf at 0, NaN below.
func Log(x float32) float32 { return Canonical(float32(log64(float64(x)))) }

// Log1p returns ln(1+x) within 0.5001 units in the last place, also for tiny
// x: -Inf at -1, NaN below.
func Log1p(x float32) float32 {
	d := float64(x)
	if d > -0.29 && d < 0.41 {
		if x == 0 {
			return x // keeps -0
		}
		return float32(logRatio(d / (2 + d)))
	}
	return Canonical(float32(log64(1 + d)))
}
