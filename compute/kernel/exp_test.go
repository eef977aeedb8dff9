package kernel

import (
	"math"
	"math/rand/v2"
	"testing"
)

// ulpError is the distance of got from the true value want, in units in the
// last place of a float32 near want.
func ulpError(got float32, want float64) float64 {
	if want != want {
		if got != got {
			return 0
		}
		return math.Inf(1)
	}
	if float64(got) == want || float32(want) == got && math.IsInf(float64(got), 0) {
		return 0
	}
	_, e := math.Frexp(want)
	ulp := math.Ldexp(1, max(e-24, -149))
	return math.Abs(float64(got)-want) / ulp
}

// specials are the float32 where functions change their ways.
var specials = []float32{
	0, float32(math.Copysign(0, -1)), 1, -1, 0.5, -0.5, 2, -2, 10, -10, 88.72283, 88.72284, 100, -87.33655,
	-103.97, -103.98, -104, 199, 200, 201, -200, 1e-45, -1e-45, 1e-38, -1e-38, 0x1p-126, 0x1p-127, 0x1p-24, -0x1p-24,
	-0.29, 0.41, -0.9999999, 0.70710677, 0.70710683, 1.4142135, 1.4142137, math.MaxFloat32, -math.MaxFloat32,
	float32(math.Inf(1)), float32(math.Inf(-1)), math.Float32frombits(0x7fc00000), math.Float32frombits(0xffc00001),
	math.Float32frombits(0x7f800001),
}

// sweep calls f for the specials and n random numbers: half any bits, half of
// moderate size.
func sweep(n int, f func(x float32)) {
	r := rand.New(rand.NewPCG(1, 2))
	for _, x := range specials {
		f(x)
	}
	for range n / 2 {
		f(math.Float32frombits(r.Uint32()))
		f(float32(r.NormFloat64() * 20))
	}
}

func TestTranscendentalFunctionsAreWithinTheirBound(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		got  func(float32) float32
		want func(float64) float64
	}{
		{"Exp", Exp, math.Exp},
		{"Log", Log, math.Log},
		{"Log1p", Log1p, math.Log1p},
		{"Sigmoid", Sigmoid, func(x float64) float64 { return 1 / (1 + math.Exp(-x)) }},
		{"Tanh", Tanh, math.Tanh},
	} {
		worst, at := 0.0, float32(0)
		sweep(600_000, func(x float32) {
			if e := ulpError(c.got(x), c.want(float64(x))); e > worst {
				worst, at = e, x
			}
			if y := c.got(x); y != y && math.Float32bits(y) != 0x7fc00000 {
				t.Fatalf("%s(%v) is the NaN %#x", c.name, x, math.Float32bits(y))
			}
		})
		if worst > 0.5001 {
			t.Errorf("%s(%v): %v units in the last place off, want at most 0.5001", c.name, at, worst)
		}
		t.Logf("%s: worst %.6f ulp at %v", c.name, worst, at)
	}
}

func TestLog64IsWithinItsBound(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 4))
	for range 300_000 {
		x := math.Exp(r.NormFloat64() * 50)
		if r.IntN(2) == 0 {
			x = 1 + r.NormFloat64()*0.1
		}
		if x <= 0 {
			continue
		}
		got, want := log64(x), math.Log(x)
		ulp := math.Abs(want) * 0x1p-52
		if d := math.Abs(got - want); d > 4*ulp {
			t.Fatalf("log64(%v) = %v, want %v: %.1f ulp", x, got, want, d/ulp)
		}
	}
	for x, want := range map[float64]float64{1: 0, 0: math.Inf(-1), math.Inf(1): math.Inf(1)} {
		if got := log64(x); got != want {
			t.Errorf("log64(%v) = %v, want %v", x, got, want)
		}
	}
	for _, x := range []float64{-1, math.NaN(), math.Inf(-1)} {
		if got := log64(x); got == got {
			t.Errorf("log64(%v) = %v, want NaN", x, got)
		}
	}
}

// The values are part of what makes a training run repeatable: a change of the
// last bit of any of them is a change of every model.
func TestTranscendentalFunctionsKeepTheirBits(t *testing.T) {
	t.Parallel()
	var sum uint64
	mixIn := func(y float32) { sum = (sum ^ uint64(math.Float32bits(y))) * 0x100000001b3 }
	sweep(20_000, func(x float32) {
		mixIn(Exp(x))
		mixIn(Log(x))
		mixIn(Log1p(x))
		mixIn(Sigmoid(x))
	})
	if want := uint64(0xba3fe2cfce5553aa); sum != want {
		t.Errorf("checksum %#x, want %#x", sum, want)
	}
}

func TestSigmoidSliceEqualsSigmoidOnEveryPath(t *testing.T) {
	x := append([]float32(nil), specials...)
	sweep(20_000, func(v float32) { x = append(x, v) })
	for _, path := range Paths() {
		restore, err := SetPath(path)
		if err != nil {
			t.Fatal(err)
		}
		for n := range 70 {
			in, dst := x[n:3*n], make([]float32, 2*n+1)
			dst[2*n] = 42
			SigmoidSlice(dst[:2*n], in)
			compareSigmoid(t, path, dst[:2*n], in)
			if dst[2*n] != 42 {
				t.Fatalf("%s: wrote past the end", path)
			}
		}
		dst := make([]float32, len(x))
		SigmoidSlice(dst, x)
		compareSigmoid(t, path, dst, x)
		restore()
	}
}

func compareSigmoid(t *testing.T, path string, got, in []float32) {
	t.Helper()
	for i, v := range in {
		if want := Sigmoid(v); math.Float32bits(got[i]) != math.Float32bits(want) {
			t.Fatalf("%s: element %d of %d: SigmoidSlice(%v) = %v, want %v", path, i, len(in), v, got[i], want)
		}
	}
}

// BenchmarkFunctions compares the paths of e^x and of what is made of it.
func BenchmarkFunctions(b *testing.B) {
	x := make([]float32, 4096)
	for i := range x {
		x[i] = float32(i-2048) / 256
	}
	dst := make([]float32, len(x))
	for _, f := range []struct {
		name string
		run  func(dst, x []float32)
	}{{"Sigmoid", SigmoidSlice}, {"Exp", ExpSlice}} {
		for _, path := range Paths() {
			b.Run(f.name+"/"+path, func(b *testing.B) {
				restore, _ := SetPath(path)
				defer restore()
				for b.Loop() {
					f.run(dst, x)
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(x)), "ns/element")
			})
		}
	}
}
