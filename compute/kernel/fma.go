package kernel

import "math"

// FMA returns a*b + c rounded once, as the hardware instruction does. The
// product of two float32 is exact in float64, so only the sum is rounded
// before the final rounding to float32; that double rounding can go wrong
// only when the first result is a tie of the second, or when the result is
// subnormal. Those rare cases take the slow way.
func FMA(a, b, c float32) float32 {
	s := float64(a)*float64(b) + float64(c)
	if u := math.Float64bits(s); u&0x1fffffff != 0x10000000 && u&0x7ff0000000000000 >= 0x3810000000000000 {
		return float32(s)
	}
	return fmaSlow(a, b, c)
}

// fmaSlow rounds the sum to odd before rounding it to float32, which makes two
// roundings equal to one.
//
//go:noinline
func fmaSlow(a, b, c float32) float32 {
	p, q := float64(a)*float64(b), float64(c)
	s := p + q
	if s == 0 || math.IsInf(s, 0) || math.IsNaN(s) {
		return float32(s)
	}
	// The error of the sum, exactly (Knuth's two-sum).
	z := s - p
	e := (p - (s - z)) + (q - z)
	u := math.Float64bits(s)
	if e != 0 && u&1 == 0 {
		if (e > 0) == (s > 0) {
			u++
		} else {
			u--
		}
	}
	return float32(math.Float64frombits(u))
}
