package gemm

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/fathom-train/fathom/compute/kernel"
)

func TestEpilogueGivesTheBitsOfSeparateCalls(t *testing.T) {
	defer SetThreads(1)
	rng := rand.New(rand.NewPCG(8, 0))
	for _, s := range [][3]int{{1, 1, 1}, {1, 70, 5}, {5, 1, 9}, {7, 17, 0}, {130, 33, 20}, {13, 1100, 450}, {300, 90, 61}, {123, 64, 16}, {121, 17, 30}, {246, 128, 416}, {6, 16, 3}} {
		m, n, k := s[0], s[1], s[2]
		a, b, bias := matrix(rng, m, k, k), matrix(rng, k, n, n), matrix(rng, 1, n, n)
		spoil(rng, a, 2, awkward)
		for _, e := range []Epilogue{{}, {Bias: bias}, {ReLU: true}, {Bias: bias, ReLU: true}} {
			want := make([]float32, m*n)
			Gemm(false, false, m, n, k, a, k, b, n, want, n, false)
			if e.Bias != nil {
				kernel.AddBias(want, m, n, bias)
			}
			if e.ReLU {
				kernel.ReLU(want, want)
			}
			for _, path := range kernel.Paths() {
				for _, threads := range []int{1, 3} {
					SetThreads(threads)
					restore, _ := kernel.SetPath(path)
					got := make([]float32, m*n)
					GemmWith(false, false, m, n, k, a, k, b, n, got, n, e)
					restore()
					for i := range want {
						if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
							t.Fatalf("%v on %s, bias %v, relu %v, %d threads: element %d is %v, want %v",
								s, path, e.Bias != nil, e.ReLU, threads, i, got[i], want[i])
						}
					}
				}
			}
		}
	}
}

func TestEpilogueRefusesAWrongBias(t *testing.T) {
	defer func() {
		if r := fmt.Sprint(recover()); r != "gemm: BUG: bias of 3 for 2 columns" {
			t.Errorf("panic %q", r)
		}
	}()
	x := make([]float32, 4)
	GemmWith(false, false, 2, 2, 2, x, 2, x, 2, x, 2, Epilogue{Bias: make([]float32, 3)})
}
