package search

import "math"

// regression predicts the AUC of a candidate from its widths: a ridge regression
// on width, its logarithm and whether there is any, for every field. It only has
// to rank candidates.
type regression struct {
	space Space
	coef  []float64
}

// ridge is the penalty of the coefficients; features are of order one, and AUC
// differences of order 1e-3.
const ridge = 1e-2

// features of a candidate: a constant, then three for every field.
func (r *regression) features(c Candidate) []float64 {
	x := []float64{1}
	for f, field := range r.space.Fields {
		top := float64(max(1, field.Choices[len(field.Choices)-1]))
		w := float64(c.Width(f))
		some := 0.0
		if w > 0 {
			some = 1
		}
		x = append(x, w/top, math.Log2(1+w)/math.Log2(1+top), some)
	}
	return x
}

// regress fits the trials.
func regress(space Space, trials []Trial) *regression {
	r := &regression{space: space}
	n := 1 + 3*len(space.Fields)
	a := make([][]float64, n) // normal equations
	for i := range a {
		a[i] = make([]float64, n)
		a[i][i] = ridge
	}
	a[0][0] = 1e-9
	b := make([]float64, n)
	for _, t := range trials {
		x := r.features(t.Candidate)
		for i, v := range x {
			// Conversions keep products and sums apart on every machine.
			b[i] += float64(v * t.screenAUC())
			for j := range i + 1 {
				a[i][j] += float64(v * x[j])
			}
		}
	}
	r.coef = solve(a, b)
	return r
}

// solve solves a x = b for a symmetric positive definite a, of which the lower
// half is given, by Cholesky's decomposition. It works in place.
func solve(a [][]float64, b []float64) []float64 {
	n := len(b)
	for i := range n {
		for j := range i + 1 {
			sum := a[i][j]
			for k := range j {
				sum -= float64(a[i][k] * a[j][k])
			}
			if i == j {
				a[i][i] = math.Sqrt(max(sum, 1e-12))
			} else {
				a[i][j] = sum / a[j][j]
			}
		}
	}
	for i := range n {
		for k := range i {
			b[i] -= float64(a[i][k] * b[k])
		}
		b[i] /= a[i][i]
	}
	for i := n - 1; i >= 0; i-- {
		for k := i + 1; k < n; k++ {
			b[i] -= float64(a[k][i] * b[k])
		}
		b[i] /= a[i][i]
	}
	return b
}

// best returns the candidate with the highest prediction, the first of equals.
func (r *regression) best(options []Candidate) Candidate {
	best, at := math.Inf(-1), 0
	for i, c := range options {
		sum := 0.0
		for k, v := range r.features(c) {
			sum += float64(v * r.coef[k])
		}
		if sum > best {
			best, at = sum, i
		}
	}
	return options[at]
}
