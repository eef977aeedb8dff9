package gemm

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/fathom-train/fathom/compute/kernel"
)

// Every element is k roundings of a sum away from the exact product: compared
// with float64 on every path and every way that Gemm may go.
func TestGemmIsWithinItsBound(t *testing.T) {
	rng := rand.New(rand.NewPCG(41, 0))
	for _, s := range [][3]int{{1, 70, 1000}, {70, 1, 1000}, {50, 64, 80}, {64, 64, 300}, {33, 47, 500}, {130, 200, 700}} {
		m, n, k := s[0], s[1], s[2]
		a, b := matrix(rng, m, k, k), matrix(rng, k, n, n)
		want, size := make([]float64, m*n), make([]float64, m*n)
		for i := range m {
			for j := range n {
				for p := range k {
					v := float64(a[i*k+p]) * float64(b[p*n+j])
					want[i*n+j] += v
					size[i*n+j] += math.Abs(v)
				}
			}
		}
		for _, path := range kernel.Paths() {
			restore, err := kernel.SetPath(path)
			if err != nil {
				t.Fatal(err)
			}
			c := make([]float32, m*n)
			Gemm(false, false, m, n, k, a, k, b, n, c, n, false)
			restore()
			for i := range c {
				if e, most := math.Abs(float64(c[i])-want[i]), float64(k)*0x1p-24*size[i]; e > most {
					t.Fatalf("%s, %v: element %d is off by %g, at most %g", path, s, i, e, most)
				}
			}
		}
	}
}
