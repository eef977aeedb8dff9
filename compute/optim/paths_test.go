package optim

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/fathom-train/fathom/compute/kernel"
)

const (
	guard      = float32(-98765.5)
	guardWords = 16
)

// guarded is a slice between guard words, at any alignment.
type guarded struct {
	whole, in []float32
}

func newGuarded(n, offset int, next func() float32) guarded {
	whole := slices.Repeat([]float32{guard}, guardWords+offset+n+guardWords)
	g := guarded{whole, whole[guardWords+offset:][:n:n]}
	for i := range g.in {
		g.in[i] = next()
	}
	return g
}

func (g guarded) clone() guarded {
	whole := slices.Clone(g.whole)
	at := len(whole) - guardWords - len(g.in)
	return guarded{whole, whole[at:][:len(g.in):len(g.in)]}
}

func sameBits(a, b float32) bool { return math.Float32bits(a) == math.Float32bits(b) }

// awkward returns numbers of which some are special, subnormal or of any bits.
func awkward(r *rand.Rand) func() float32 {
	special := []float32{0, float32(math.Copysign(0, -1)), float32(math.Inf(1)), float32(math.Inf(-1)), float32(math.NaN()),
		math.MaxFloat32, -math.MaxFloat32, 1e-45, 0x1p-126, math.Float32frombits(0xff812345)}
	return func() float32 {
		switch r.IntN(16) {
		case 0:
			return special[r.IntN(len(special))]
		case 1:
			return math.Float32frombits(r.Uint32())
		case 2:
			return math.Float32frombits(r.Uint32() & 0x807fffff)
		}
		return float32(r.NormFloat64())
	}
}

// checkUpdate updates n weights on every path and compares all bits with the
// portable one's, those around the slices with what they were.
func checkUpdate(t *testing.T, c Config, n int, step uint64, r *rand.Rand, next func() float32) {
	t.Helper()
	o := mustNew(t, c)
	was := [3]guarded{}
	for i, size := range []int{n, o.Slots(n), n} {
		was[i] = newGuarded(size, r.IntN(guardWords), next)
	}
	s := Step{T: step, Rate: 1, Count: 1 + r.Uint32N(9)}
	if r.IntN(4) == 0 {
		s.Trust = 0.75
	}
	var want [3]guarded
	var wantNorms [2]float32
	for _, path := range kernel.Paths() {
		restore, err := kernel.SetPath(path)
		if err != nil {
			t.Fatal(err)
		}
		got, norms := [3]guarded{was[0].clone(), was[1].clone(), was[2].clone()}, [2]float32{}
		if l, ok := o.(Layerwise); ok {
			norms[0], norms[1] = l.Norms(got[0].in, got[1].in, got[2].in, s)
		}
		o.Update(got[0].in, got[1].in, got[2].in, s)
		restore()
		if path == kernel.Portable {
			want, wantNorms = got, norms
		}
		if !sameBits(norms[0], wantNorms[0]) || !sameBits(norms[1], wantNorms[1]) {
			t.Fatalf("%+v, %d weights on %s: norms %v, want %v", c, n, path, norms, wantNorms)
		}
		for i, name := range []string{"weights", "slots", "gradient"} {
			first := len(was[i].whole) - guardWords - len(was[i].in)
			for j, v := range got[i].whole {
				inside := j >= first && j < first+len(was[i].in) && name != "gradient"
				if !sameBits(v, want[i].whole[j]) || !inside && !sameBits(v, was[i].whole[j]) {
					t.Fatalf("%+v, %d weights on %s: element %d of %s is %v (%#x), want %v, was %v", c, n, path,
						j-first, name, v, math.Float32bits(v), want[i].whole[j], was[i].whole[j])
				}
			}
		}
	}
}

// fuzzed lists the optimizers of everyOptimizer and those whose trust ratios
// reach their bounds.
func fuzzed() []Config {
	return append(slices.Clone(everyOptimizer), Config{Name: LAMB}, Config{Name: LAMB, TrustMin: 2},
		Config{Name: LAMB, TrustFloor: 3e38, TrustMax: 3e38})
}

func TestUpdatesOfAnyLengthHaveTheSameBits(t *testing.T) {
	r := rand.New(rand.NewPCG(41, 0))
	for _, c := range fuzzed() {
		for n := range 131 {
			checkUpdate(t, c, n, 1+r.Uint64N(2000), r, awkward(r))
		}
		for range 20 {
			checkUpdate(t, c, r.IntN(1031), 1+r.Uint64N(2000), r, func() float32 { return float32(r.NormFloat64()) })
		}
	}
}

func FuzzUpdate(f *testing.F) {
	f.Add(uint8(0), uint16(16), uint16(1), uint64(1))
	f.Add(uint8(3), uint16(65), uint16(300), uint64(2))
	f.Fuzz(func(t *testing.T, kind uint8, n, step uint16, seed uint64) {
		all := fuzzed()
		r := rand.New(rand.NewPCG(seed, 42))
		checkUpdate(t, all[int(kind)%len(all)], int(n)%1031, 1+uint64(step), r, awkward(r))
	})
}
