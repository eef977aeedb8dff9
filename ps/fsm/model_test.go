package fsm

import (
	"math"
	"math/rand/v2"
	"testing"
)

func TestUsableFindsTheFirstGradientThatIsNot(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(3, 4))
	below := math.Nextafter32(1<<51, 0)
	for _, bad := range []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1)), 1 << 51, -(1 << 51), math.MaxFloat32} {
		for n := range 70 {
			g := make([]float32, n)
			for i := range g {
				g[i] = []float32{below, -below, 1, -1e-40, 0}[random.IntN(5)]
			}
			want := -1
			if n > 0 && random.IntN(4) > 0 {
				want = random.IntN(n)
				g[want] = bad
				g[want+random.IntN(n-want)] = bad
			}
			if got := usable(g); got != want {
				t.Fatalf("usable(%v) is %d, want %d", g, got, want)
			}
		}
	}
}
