package kernel

import "fmt"

// Dot returns the sum of x[i]*y[i].
func Dot(x, y []float32) float32 {
	check("Dot", len(x), len(y))
	var s [lanes]float32
	n := 0
	if SIMD() && len(x) >= lanes {
		n = len(x) &^ (lanes - 1)
		dotLanes(&s, &x[0], &y[0], n)
	}
	for ; n+lanes <= len(x); n += lanes {
		xs, ys := x[n:n+lanes], y[n:n+lanes]
		for j := range s {
			s[j] += float32(xs[j] * ys[j])
		}
	}
	for j := 0; n < len(x); j, n = j+1, n+1 {
		s[j] += float32(x[n] * y[n])
	}
	return tree(&s)
}

// SumSquares returns the sum of x[i]*x[i].
func SumSquares(x []float32) float32 { return Dot(x, x) }

// Sum returns the sum of x[i].
func Sum(x []float32) float32 {
	var s [lanes]float32
	n := 0
	if SIMD() && len(x) >= lanes {
		n = len(x) &^ (lanes - 1)
		sumLanes(&s, &x[0], n)
	}
	for ; n+lanes <= len(x); n += lanes {
		xs := x[n : n+lanes]
		for j := range s {
			s[j] += xs[j]
		}
	}
	for j := 0; n < len(x); j, n = j+1, n+1 {
		s[j] += x[n]
	}
	return tree(&s)
}

func check(name string, lengths ...int) {
	for _, n := range lengths[1:] {
		if n != lengths[0] {
			panic(fmt.Sprintf("kernel: BUG: %s of slices of lengths %v", name, lengths))
		}
	}
}
