package dataset

import (
	"math"
	"strconv"

	"github.com/fathom-train/fathom/compute/kernel"
	"github.com/fathom-train/fathom/shard"
)

// weight returns the weight of a numeric value: the value itself or its
// signed logarithm. ok is false when it does not fit a float32.
func (f *field) weight(x float64) (w float32, ok bool) {
	w = float32(x)
	if f.transform == transformLog {
		if w < 0 {
			w = -kernel.Log1p(-w)
		} else {
			w = kernel.Log1p(w)
		}
	}
	return w, !math.IsInf(float64(w), 0)
}

// bucket returns the category of a numeric value: floor(ln(x)^2) for x > 2,
// as the preprocessing of Criteo does it, and floor(x) otherwise. The result is
// integral; it need not fit an int64.
//
// The logarithm is our own with a fixed sequence of correctly rounded
// operations, so a value at a boundary falls on the same side everywhere.
func bucket(x float64) float64 {
	if x > 2 {
		l := ln(x)
		return math.Floor(l * l)
	}
	return math.Floor(x)
}

// bucketKey returns the key of a bucket: that of its decimal text.
func bucketKey(h shard.Hasher, b float64) shard.Key {
	if b >= -1<<53 && b <= 1<<53 {
		return h.Int(int64(b))
	}
	var buf [400]byte
	return h.Bytes(strconv.AppendFloat(buf[:0], b, 'f', -1, 64))
}

// appendFloatText appends the text a float has as a category: its shortest
// decimal form without exponent, so that 3.0 is "3".
func appendFloatText(dst []byte, x float64, bits int) []byte {
	return strconv.AppendFloat(dst, x, 'f', -1, bits)
}

// ln returns the natural logarithm of x > 0, after FreeBSD's e_log.c, within
// 1 ulp. Unlike math.Log it is never replaced by assembly, and the conversions
// keep the compiler from fusing a product with a sum: same bits everywhere.
func ln(x float64) float64 {
	const (
		ln2Hi = 6.93147180369123816490e-01
		ln2Lo = 1.90821492927058770002e-10
		l1    = 6.666666666666735130e-01
		l2    = 3.999999999940941908e-01
		l3    = 2.857142874366239149e-01
		l4    = 2.222219843214978396e-01
		l5    = 1.818357216161805012e-01
		l6    = 1.531383769920937332e-01
		l7    = 1.479819860511658591e-01
	)
	f1, ki := math.Frexp(x)
	if f1 < math.Sqrt2/2 {
		f1 *= 2
		ki--
	}
	f := f1 - 1
	k := float64(ki)
	s := f / (2 + f)
	s2 := float64(s * s)
	s4 := float64(s2 * s2)
	t1 := float64(s2 * (l1 + float64(s4*(l3+float64(s4*(l5+float64(s4*l7)))))))
	t2 := float64(s4 * (l2 + float64(s4*(l4+float64(s4*l6)))))
	r := t1 + t2
	hfsq := float64(0.5 * float64(f*f))
	return float64(k*ln2Hi) - ((hfsq - (float64(s*(hfsq+r)) + float64(k*ln2Lo))) - f)
}

// exp returns e**x for |x| < 700, after FreeBSD's e_exp.c, within 1 ulp; same
// bits everywhere, as ln, if the argument is rounded: exp(float64(a*b)).
func exp(x float64) float64 {
	const (
		ln2Hi = 6.93147180369123816490e-01
		ln2Lo = 1.90821492927058770002e-10
		log2e = 1.44269504088896338700e+00
		p1    = 1.66666666666666657415e-01
		p2    = -2.77777777770155933842e-03
		p3    = 6.61375632143793436117e-05
		p4    = -1.65339022054652515390e-06
		p5    = 4.13813679705723846039e-08
	)
	half := 0.5
	if x < 0 {
		half = -0.5
	}
	k := int(float64(log2e*x) + half)
	hi := x - float64(float64(k)*ln2Hi)
	lo := float64(float64(k) * ln2Lo)
	r := hi - lo
	t := float64(r * r)
	c := r - float64(t*(p1+float64(t*(p2+float64(t*(p3+float64(t*(p4+float64(t*p5)))))))))
	y := 1 - ((lo - float64(r*c)/(2-c)) - hi)
	return math.Ldexp(y, k)
}
