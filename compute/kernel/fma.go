package kernel

import "math"

// FMA returns a*b+c rounded once, as the processors' fused multiply-add does,
// in portable Go.
//
// The product of two float32 is exact in float64, so only the sum is rounded
// twice, to float64 and to float32. That differs from rounding once only if
// the float64 sum is inexact and a tie between two float32 neighbours: its low
// 29 bits are a one and zeros, or it lies where float32 is subnormal and ties
// have other patterns. Those two cases take the slow way.
func FMA(a, b, c float32) float32 {
	s := float64(float64(a)*float64(b)) + float64(c)
	if u := math.Float64bits(s); u&(1<<29-1) == 1<<28 || u<<1-1<<53 < fmaTiny {
		return fmaSlow(a, b, c)
	}
	return Canonical(float32(s))
}

// fmaTiny makes the comparison in FMA true for the non-zero sums below the
// least normal float32, 2^-126. The doubled bits have no sign. Zero, which is
// exact and frequent, wraps around to a large number.
const fmaTiny = (1023-126)<<53 - 1<<53

// fmaSlow is FMA for every input. It rounds the sum to odd (towards zero, with
// the last bit set if anything was lost), which makes the second rounding
// right: float64 has more than two bits beyond float32's.
//
//go:noinline
func fmaSlow(a, b, c float32) float32 {
	p, q := float64(float64(a)*float64(b)), float64(c)
	s := p + q
	if s == 0 || math.IsInf(s, 0) || s != s {
		return Canonical(float32(s))
	}
	// Knuth's two-sum: lost is exactly p+q-s, as nothing overflows in float64.
	z := s - p
	lost := (p - (s - z)) + (q - z)
	u := math.Float64bits(s)
	if lost != 0 && u&1 == 0 {
		if (lost > 0) == (s > 0) {
			u++
		} else {
			u--
		}
	}
	return float32(math.Float64frombits(u))
}
