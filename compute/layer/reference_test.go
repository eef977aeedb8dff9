package layer

import (
	"fmt"
	"math"
	"testing"

	"github.com/fathom-train/fathom/compute/kernel"
	"github.com/fathom-train/fathom/compute/random"
)

// The references below are the definitions, written without any thought of
// speed in float64; gradients are their central differences.

// values returns n reproducible numbers around zero.
func values(seed uint64, n int) []float32 {
	x := make([]float32, n)
	random.Init{Kind: "normal", Scale: 1}.Fill(x, random.Stream(seed, random.InitDense, 1, 2, 3))
	return x
}

func wide(x []float32) []float64 {
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = float64(v)
	}
	return y
}

// numeric returns the gradient of f with respect to x, which f must read.
func numeric(f func() float64, x []float64) []float64 {
	const h = 1e-6
	g := make([]float64, len(x))
	for i, v := range x {
		x[i] = v + h
		up := f()
		x[i] = v - h
		g[i] = (up - f()) / (2 * h)
		x[i] = v
	}
	return g
}

// near fails the test unless got and want agree to float32 accuracy.
func near(t *testing.T, what string, got []float32, want []float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d elements, want %d", what, len(got), len(want))
	}
	var scale = 0.1
	for _, w := range want {
		scale = max(scale, math.Abs(w))
	}
	for i, w := range want {
		if !(math.Abs(float64(got[i])-w) <= 2e-5*scale) {
			t.Fatalf("%s[%d] = %v, want %v", what, i, got[i], w)
		}
	}
}

// dot weighs an output, to make one number of it whose gradient is weights.
func dot(weights []float32, y []float64) float64 {
	var sum float64
	for i, v := range y {
		sum += float64(weights[i]) * v
	}
	return sum
}

func linearReference(x, w, b []float64, n, in, out int) []float64 {
	y := make([]float64, n*out)
	for i := range n {
		for o := range out {
			y[i*out+o] = b[o]
			for k := range in {
				y[i*out+o] += x[i*in+k] * w[o*in+k]
			}
		}
	}
	return y
}

func moments(x []float64, n, width, column int) (mean, variance float64) {
	for i := range n {
		mean += x[i*width+column] / float64(n)
	}
	for i := range n {
		d := x[i*width+column] - mean
		variance += d * d / float64(n)
	}
	return mean, variance
}

func normReference(x, gamma, beta []float64, n, width int) []float64 {
	y := make([]float64, len(x))
	for j := range width {
		mean, variance := moments(x, n, width, j)
		for i := range n {
			y[i*width+j] = (x[i*width+j]-mean)/math.Sqrt(variance+1e-5)*gamma[j] + beta[j]
		}
	}
	return y
}

func fmReference(x []float64, n, fields, dim int) []float64 {
	y := make([]float64, n)
	for i := range n {
		for f := range fields {
			for g := range f {
				for d := range dim {
					y[i] += x[(i*fields+f)*dim+d] * x[(i*fields+g)*dim+d]
				}
			}
		}
	}
	return y
}

// everyPath runs f on every instruction set of this machine; f returns what it
// computed, which must have the same bits on all of them.
func everyPath(t *testing.T, f func() [][]float32) {
	t.Helper()
	var want [][]float32
	for _, path := range kernel.Paths() {
		restore, err := kernel.SetPath(path)
		if err != nil {
			t.Fatal(err)
		}
		got := f()
		restore()
		if want == nil {
			want = got
			continue
		}
		for k := range want {
			equalBits(t, fmt.Sprintf("path %s: result %d", path, k), got[k], want[k])
		}
	}
}

func equalBits(t *testing.T, what string, got, want []float32) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d elements, want %d", what, len(got), len(want))
	}
	for i := range want {
		if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
			t.Fatalf("%s[%d] = %x, want %x", what, i, math.Float32bits(got[i]), math.Float32bits(want[i]))
		}
	}
}

// panics fails the test unless f panics.
func panics(t *testing.T, what string, f func()) {
	t.Helper()
	defer func() {
		if recover() == nil {
			t.Errorf("%s: no panic", what)
		}
	}()
	f()
}
