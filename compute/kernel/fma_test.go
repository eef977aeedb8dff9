package kernel

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
)

// exactFMA computes a*b+c in unlimited precision and rounds once.
func exactFMA(a, b, c float32) float32 {
	p := float64(a) * float64(b)
	if s := p + float64(c); s != s || math.IsInf(s, 0) {
		return Canonical(float32(s))
	}
	x := new(big.Float).SetPrec(1000).SetFloat64(p)
	y := new(big.Float).SetPrec(1000).SetFloat64(float64(c))
	x.Add(x, y)
	if x.Sign() == 0 {
		return float32(p + float64(c)) // the sign of a zero is IEEE's rule, not big's
	}
	f, _ := x.Float32()
	return f
}

func checkFMA(t *testing.T, a, b, c float32) {
	t.Helper()
	want := math.Float32bits(exactFMA(a, b, c))
	if got := math.Float32bits(FMA(a, b, c)); got != want {
		t.Fatalf("FMA(%x, %x, %x) = %#x, want %#x", a, b, c, got, want)
	}
	if got := math.Float32bits(fmaSlow(a, b, c)); got != want {
		t.Fatalf("fmaSlow(%x, %x, %x) = %#x, want %#x", a, b, c, got, want)
	}
}

// Each case is rounded wrongly by float32(float64(a)*float64(b) + float64(c)).
func TestFMARoundsOnceWhereTwiceDiffers(t *testing.T) {
	for _, c := range [][3]float32{
		{1 + 0x1p-23, (1 - 0x1p-23) * 0x1p-24, 1 + 0x1p-23}, // just below a tie
		{0x1p-40, 0x1p-40, 1 + 0x1p-23},                     // no tie: control
		{1 + 0x1p-23, 0x1p-24 + 0x1p-47, 1},                 // just above a tie
		{0x1.fffffep0, 0x1p-24, 1 + 0x1p-23},                // near a tie
		{0x1p-75, 0x1.000002p-75, 0x1p-126 - 0x1p-149},      // subnormal sum
		{0x1p-75, -0x1.000002p-75, 0x1p-127},
		{0x1p-100, 0x1p-100, 0x1p-149},
		{0x1p-75, 0x1p-75, 0},           // a tie with zero: exact
		{0x1p-75, 0x1.000002p-75, 0},    // just above it
		{0x1p-75, -0x1.000002p-75, 0},   // and below
		{0x1p64, 0x1p64, -0x1p104},      // overflow
		{0x1p64, 0x1.fffffep63, 0x1p80}, // just no overflow
		{0, 1, 0}, {0, -1, 0}, {0, 1, float32(math.Copysign(0, -1))},
	} {
		checkFMA(t, c[0], c[1], c[2])
		checkFMA(t, -c[0], c[1], c[2])
		checkFMA(t, c[0], c[1], -c[2])
	}
}

func TestFMAEqualsExactArithmetic(t *testing.T) {
	const seed = 11
	r := rand.New(rand.NewPCG(seed, 0))
	next := awkward(r)
	wrong := 0
	for range 150_000 {
		checkFMA(t, next(), next(), next())

		// (1+e)(1-e) is 1 less something float64 loses beside c, so that the
		// sum looks like a tie: half a unit of c, almost.
		e := float32(r.IntN(64)) * 0x1p-23
		a, b := 1+e, (1-e)*0x1p-24
		c := 1 + float32(r.IntN(1<<23))*0x1p-23
		scale := float32(math.Ldexp(1, -r.IntN(140)))
		checkFMA(t, a, b*scale, c*scale)
		checkFMA(t, a, -b*scale, c*scale)
		if twice := float32(float64(a)*float64(b*scale) + float64(c*scale)); twice != FMA(a, b*scale, c*scale) {
			wrong++
		}
	}
	if wrong < 100 {
		t.Errorf("only %d of the cases need the slow way: the test has lost its grip", wrong)
	}
}

func FuzzFMA(f *testing.F) {
	f.Add(uint32(0x3f800001), uint32(0x33800000), uint32(0x3f800000))
	f.Fuzz(func(t *testing.T, a, b, c uint32) {
		checkFMA(t, math.Float32frombits(a), math.Float32frombits(b), math.Float32frombits(c))
	})
}

func BenchmarkFMA(b *testing.B) {
	x := float32(0)
	for b.Loop() {
		x = FMA(x, 0.5, 0.25)
	}
}
