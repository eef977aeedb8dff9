package gemm

import "math"

// The loops of this file are the fused multiply-adds of the portable path,
// eight chains side by side, because one alone would wait for every rounding.
// They are kernel.FMA's fast path written out: a call per multiply-add would
// take longer than all the rest. Where kernel.FMA would take its slow path
// (a sum that could be rounded twice: see there) they give up, having changed
// nothing, and the caller computes the chains with kernel.FMA. With arbitrary
// numbers that happens once in 2^29 sums.

const (
	tieMask = 1<<29 - 1
	tie     = 1 << 28
	tiny    = (1023-126)<<53 - 1<<53
)

// chains2x4 continues the chains upper and lower over k columns of the strips a
// (two rows of it) and b (four columns), and reports whether it could.
func chains2x4(k int, a, b []float32, upper, lower *[4]float32) bool {
	s0, s1, s2, s3 := float64(upper[0]), float64(upper[1]), float64(upper[2]), float64(upper[3])
	t0, t1, t2, t3 := float64(lower[0]), float64(lower[1]), float64(lower[2]), float64(lower[3])
	for p := 0; ; {
		x0, x1 := float64(a[0]), float64(a[1])
		y0, y1, y2, y3 := float64(b[0]), float64(b[1]), float64(b[2]), float64(b[3])
		s0 += float64(x0 * y0)
		if u := math.Float64bits(s0); u&tieMask == tie || u<<1-1<<53 < tiny {
			return false
		}
		s0 = float64(float32(s0))
		s1 += float64(x0 * y1)
		if u := math.Float64bits(s1); u&tieMask == tie || u<<1-1<<53 < tiny {
			return false
		}
		s1 = float64(float32(s1))
		s2 += float64(x0 * y2)
		if u := math.Float64bits(s2); u&tieMask == tie || u<<1-1<<53 < tiny {
			return false
		}
		s2 = float64(float32(s2))
		s3 += float64(x0 * y3)
		if u := math.Float64bits(s3); u&tieMask == tie || u<<1-1<<53 < tiny {
			return false
		}
		s3 = float64(float32(s3))
		t0 += float64(x1 * y0)
		if u := math.Float64bits(t0); u&tieMask == tie || u<<1-1<<53 < tiny {
			return false
		}
		t0 = float64(float32(t0))
		t1 += float64(x1 * y1)
		if u := math.Float64bits(t1); u&tieMask == tie || u<<1-1<<53 < tiny {
			return false
		}
		t1 = float64(float32(t1))
		t2 += float64(x1 * y2)
		if u := math.Float64bits(t2); u&tieMask == tie || u<<1-1<<53 < tiny {
			return false
		}
		t2 = float64(float32(t2))
		t3 += float64(x1 * y3)
		if u := math.Float64bits(t3); u&tieMask == tie || u<<1-1<<53 < tiny {
			return false
		}
		t3 = float64(float32(t3))
		if p++; p == k {
			break
		}
		a, b = a[tileM:], b[tileN:]
	}
	*upper = [4]float32{float32(s0), float32(s1), float32(s2), float32(s3)}
	*lower = [4]float32{float32(t0), float32(t1), float32(t2), float32(t3)}
	return true
}

// chains1x8 continues the chains c over k elements of x and eight columns of
// the rows of b, which are stride apart, and reports whether it could.
func chains1x8(k int, x, b []float32, stride int, c *[8]float32) bool {
	s0, s1, s2, s3 := float64(c[0]), float64(c[1]), float64(c[2]), float64(c[3])
	s4, s5, s6, s7 := float64(c[4]), float64(c[5]), float64(c[6]), float64(c[7])
	for p := 0; ; {
		x0, y := float64(x[p]), (*[8]float32)(b)
		s0 += float64(x0 * float64(y[0]))
		if u := math.Float64bits(s0); u&tieMask == tie || u<<1-1<<53 < tiny {
			return false
		}
		s0 = float64(float32(s0))
		s1 += float64(x0 * float64(y[1]))
		if u := math.Float64bits(s1); u&tieMask == tie || u<<1-1<<53 < tiny {
			return false
		}
		s1 = float64(float32(s1))
		s2 += float64(x0 * float64(y[2]))
		if u := math.Float64bits(s2); u&tieMask == tie || u<<1-1<<53 < tiny {
			return false
		}
		s2 = float64(float32(s2))
		s3 += float64(x0 * float64(y[3]))
		if u := math.Float64bits(s3); u&tieMask == tie || u<<1-1<<53 < tiny {
			return false
		}
		s3 = float64(float32(s3))
		s4 += float64(x0 * float64(y[4]))
		if u := math.Float64bits(s4); u&tieMask == tie || u<<1-1<<53 < tiny {
			return false
		}
		s4 = float64(float32(s4))
		s5 += float64(x0 * float64(y[5]))
		if u := math.Float64bits(s5); u&tieMask == tie || u<<1-1<<53 < tiny {
			return false
		}
		s5 = float64(float32(s5))
		s6 += float64(x0 * float64(y[6]))
		if u := math.Float64bits(s6); u&tieMask == tie || u<<1-1<<53 < tiny {
			return false
		}
		s6 = float64(float32(s6))
		s7 += float64(x0 * float64(y[7]))
		if u := math.Float64bits(s7); u&tieMask == tie || u<<1-1<<53 < tiny {
			return false
		}
		s7 = float64(float32(s7))
		if p++; p == k {
			break
		}
		b = b[stride:]
	}
	*c = [8]float32{float32(s0), float32(s1), float32(s2), float32(s3), float32(s4), float32(s5), float32(s6), float32(s7)}
	return true
}
