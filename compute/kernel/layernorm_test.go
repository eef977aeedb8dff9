package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// shifted returns n rows of m numbers, each row with a mean of its own that may
// be far from zero.
func shifted(r *rand.Rand, n, m int) []float32 {
	x := make([]float32, 0, n*m)
	for range n {
		mean := r.NormFloat64() * []float64{0, 1, 100}[r.IntN(3)]
		for range m {
			x = append(x, float32(mean+r.NormFloat64()))
		}
	}
	return x
}

func within(t *testing.T, what string, got float32, want, bound float64) {
	t.Helper()
	if e := math.Abs(float64(got) - want); !(e <= bound) {
		t.Fatalf("%s is %v, want %v: off by %g, at most %g", what, got, want, e, bound)
	}
}

// roundingsOf is what the bounds of rows of m elements are multiples of.
func roundingsOf(m int) float64 { return (float64(m)/16 + 10) * unit }

func TestLayerNormRowsIsWithinItsBound(t *testing.T) {
	const epsilon = 1e-5
	r := rand.New(rand.NewPCG(34, 0))
	for range 200 {
		n, m := 1+r.IntN(3), 1+r.IntN(1030)
		x, gamma, beta := shifted(r, n, m), shifted(r, 1, m), shifted(r, 1, m)
		got := samePaths(t, fmt.Sprintf("%d x %d", n, m), [][]float32{make([]float32, n*m), make([]float32, n*m), make([]float32, n), x, gamma, beta},
			func(b [][]float32) { LayerNormRows(b[0], b[1], b[2], b[3], b[4], b[5], epsilon) })
		for i := range n {
			row := x[i*m : (i+1)*m]
			var mean, magnitude, variance float64
			for _, v := range row {
				mean, magnitude = mean+float64(v)/float64(m), magnitude+math.Abs(float64(v))/float64(m)
			}
			for _, v := range row {
				variance += (float64(v) - mean) * (float64(v) - mean) / float64(m)
			}
			sd := math.Sqrt(variance + epsilon)
			for j, v := range row {
				g, b := float64(gamma[j]), float64(beta[j])
				hat, context := (float64(v)-mean)/sd, fmt.Sprintf("%d x %d: element %d", n, m, i*m+j)
				bound := roundingsOf(m) * (magnitude/sd*(1+math.Abs(hat)) + math.Abs(hat))
				within(t, context+" of xhat", got[1][i*m+j], hat, bound)
				within(t, context+" of y", got[0][i*m+j], hat*g+b, bound*math.Abs(g)+2*unit*(math.Abs(hat*g)+math.Abs(b)))
			}
		}
	}
}

func TestLayerNormRowsGradIsWithinItsBound(t *testing.T) {
	r := rand.New(rand.NewPCG(35, 0))
	for range 200 {
		n, m := 1+r.IntN(3), 1+r.IntN(1030)
		context := fmt.Sprintf("%d x %d", n, m)
		dy, hat, gamma, inverse := shifted(r, n, m), shifted(r, n, m), shifted(r, 1, m), shifted(r, 1, n)
		got := samePaths(t, context, [][]float32{make([]float32, n*m), make([]float32, m), make([]float32, m), dy, hat, inverse, gamma},
			func(b [][]float32) { LayerNormRowsGrad(b[0], b[1], b[2], b[3], b[4], b[5], b[6]) })
		dgamma, size := make([]float64, m), make([]float64, m)
		for i := range n {
			var mean, meanSize, slope, slopeSize float64
			for j := range m {
				d, h := float64(dy[i*m+j]), float64(hat[i*m+j])
				g := d * float64(gamma[j])
				mean, meanSize = mean+g/float64(m), meanSize+math.Abs(g)/float64(m)
				slope, slopeSize = slope+g*h/float64(m), slopeSize+math.Abs(g*h)/float64(m)
				dgamma[j], size[j] = dgamma[j]+d*h, size[j]+math.Abs(d*h)
			}
			for j := range m {
				h, inv := float64(hat[i*m+j]), float64(inverse[i])
				g := float64(dy[i*m+j]) * float64(gamma[j])
				bound := roundingsOf(m) * math.Abs(inv) * (math.Abs(g) + meanSize + math.Abs(h)*slopeSize)
				within(t, fmt.Sprintf("%s: element %d of dx", context, i*m+j), got[0][i*m+j], (g-mean-h*slope)*inv, bound)
			}
		}
		for j := range m {
			within(t, fmt.Sprintf("%s: dgamma[%d]", context, j), got[1][j], dgamma[j], float64(n+1)*unit*size[j])
		}
	}
}

func TestSoftmaxRowsGradIsWithinItsBound(t *testing.T) {
	r := rand.New(rand.NewPCG(36, 0))
	for range 200 {
		n, m := 1+r.IntN(3), 1+r.IntN(1030)
		dy, y := shifted(r, n, m), shifted(r, n, m)
		SoftmaxRows(y, m)
		got := samePaths(t, fmt.Sprintf("%d x %d", n, m), [][]float32{dy, y}, func(b [][]float32) { SoftmaxRowsGrad(b[0], b[1], m) })
		for i := range n {
			var dot, size float64
			for j := i * m; j < (i+1)*m; j++ {
				p := float64(y[j]) * float64(dy[j])
				dot, size = dot+p, size+math.Abs(p)
			}
			for j := i * m; j < (i+1)*m; j++ {
				w, d := float64(y[j]), float64(dy[j])
				within(t, fmt.Sprintf("%d x %d: element %d", n, m, j), got[0][j], w*(d-dot), roundingsOf(m)*w*(math.Abs(d)+size)+0x1p-149)
			}
		}
	}
}
