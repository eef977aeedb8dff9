package kernel

import "fmt"

// lanes is the number of partial sums of every reduction. Lane j takes the
// elements whose index is j modulo lanes, ascending, from +0. The lanes are
// added as a tree: halves of 8, 4, 2 and 1. Every path does exactly this.
const lanes = 16

// Dot returns the sum of x[i]*y[i].
func Dot(x, y []float32) float32 {
	check("Dot", len(x), len(y))
	if SIMD() && len(x) > 0 {
		return Canonical(dotVector(&x[0], &y[0], len(x)))
	}
	y = y[:len(x)]
	var s [lanes]float32
	for ; len(x) >= lanes; x, y = x[lanes:], y[lanes:] {
		xs, ys := (*[lanes]float32)(x), (*[lanes]float32)(y)
		for j := range s {
			s[j] += float32(xs[j] * ys[j])
		}
	}
	for j, v := range x {
		s[j] += float32(v * y[j])
	}
	return tree(&s)
}

// SumSquares returns the sum of x[i]*x[i].
func SumSquares(x []float32) float32 { return Dot(x, x) }

// Sum returns the sum of x[i].
func Sum(x []float32) float32 {
	if SIMD() && len(x) > 0 {
		return Canonical(sumVector(&x[0], len(x)))
	}
	var s [lanes]float32
	for ; len(x) >= lanes; x = x[lanes:] {
		xs := (*[lanes]float32)(x)
		for j := range s {
			s[j] += xs[j]
		}
	}
	for j, v := range x {
		s[j] += v
	}
	return tree(&s)
}

// tree adds the lanes in the fixed order of every reduction.
func tree(s *[lanes]float32) float32 {
	for width := lanes / 2; width > 0; width /= 2 {
		for j := range width {
			s[j] += s[j+width]
		}
	}
	return Canonical(s[0])
}

// check panics unless two slices of one call have the same length.
func check(name string, n, m int) {
	if n != m {
		mismatch(name, n, m)
	}
}

//go:noinline
func mismatch(name string, n, m int) {
	panic(fmt.Sprintf("compute/kernel: BUG: %s of slices of lengths %d and %d", name, n, m))
}
