package eval

import "math"

// Coefficients of FreeBSD's e_log.c: an even polynomial for
// (log(1+s) - log(1-s))/s - 2 on |s| < 0.1716, good to 2^-58.45.
const (
	log1 = 6.666666666666735130e-01
	log2 = 3.999999999940941908e-01
	log3 = 2.857142874366239149e-01
	log4 = 2.222219843214978396e-01
	log5 = 1.818357216161805012e-01
	log6 = 1.531383769920937332e-01
	log7 = 1.479819860511658591e-01

	ln2High = 6.93147180369123816490e-01
	ln2Low  = 1.90821492927058770002e-10
)

// logarithm returns log(x) for a normal, positive x. It is the algorithm of
// FreeBSD's e_log.c with every product rounded before it is added (a plain
// assignment would still allow a fused multiply-add), so that the
// result has the same bits on every machine, which math.Log has not. Its error
// is below 2 units in the last place.
func logarithm(x float64) float64 {
	bits := math.Float64bits(x)
	exponent := int(bits>>52) - 1023
	m := math.Float64frombits(bits&(1<<52-1) | 1023<<52) // [1, 2)
	if m > math.Sqrt2 {
		m /= 2
		exponent++
	}
	k, f := float64(exponent), m-1
	s := f / (2 + f)
	s2 := float64(s * s)
	s4 := float64(s2 * s2)
	odd := float64(s4*log6) + log4
	odd = float64(s4 * (float64(s4*odd) + log2))
	even := float64(s4*log7) + log5
	even = float64(s4*even) + log3
	even = float64(s2 * (float64(s4*even) + log1))
	half := float64(0.5 * f * f)
	tail := float64(s*(half+(odd+even))) + float64(k*ln2Low)
	return float64(k*ln2High) - ((half - tail) - f)
}
