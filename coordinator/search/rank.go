package search

import (
	"math"
	"slices"
)

// Spectrum returns the eigenvalues of a symmetric matrix, largest first, that is
// given by its lower triangle, row by row. They come from Jacobi's rotations.
func Spectrum(triangle []float64) []float64 {
	n := int(math.Sqrt(float64(2 * len(triangle))))
	a := make([][]float64, n)
	for i := range a {
		a[i] = make([]float64, n)
	}
	for i, k := 0, 0; i < n; i++ {
		for j := 0; j <= i; j, k = j+1, k+1 {
			a[i][j], a[j][i] = triangle[k], triangle[k]
		}
	}
	const sweeps = 30
	for range sweeps {
		off, diagonal := 0.0, 0.0
		for i := range n {
			diagonal += a[i][i] * a[i][i]
			for j := range i {
				off += a[i][j] * a[i][j]
			}
		}
		if off <= 1e-20*diagonal {
			break
		}
		for p := range n {
			for q := range p {
				rotate(a, p, q)
			}
		}
	}
	values := make([]float64, n)
	for i := range values {
		values[i] = max(0, a[i][i])
	}
	slices.SortFunc(values, func(x, y float64) int {
		if x > y {
			return -1
		}
		return 1
	})
	return values
}

// rotate makes element (p, q) zero.
func rotate(a [][]float64, p, q int) {
	if a[p][q] == 0 {
		return
	}
	theta := (a[q][q] - a[p][p]) / (2 * a[p][q])
	t := 1 / (math.Abs(theta) + math.Sqrt(theta*theta+1))
	if theta < 0 {
		t = -t
	}
	c := 1 / math.Sqrt(t*t+1)
	s := t * c
	for k := range a {
		x, y := a[k][p], a[k][q]
		a[k][p], a[k][q] = c*x-s*y, s*x+c*y
	}
	for k := range a {
		x, y := a[p][k], a[q][k]
		a[p][k], a[q][k] = c*x-s*y, s*x+c*y
	}
}

// EffectiveRank is the number of dimensions that rows with this spectrum use:
// the exponential of the entropy of its shares (Roy and Vetterli 2007). It is 0
// without any.
func EffectiveRank(spectrum []float64) float64 {
	total := 0.0
	for _, v := range spectrum {
		total += v
	}
	if total <= 0 {
		return 0
	}
	entropy := 0.0
	for _, v := range spectrum {
		if p := v / total; p > 0 {
			entropy -= p * math.Log(p)
		}
	}
	return math.Exp(entropy)
}
