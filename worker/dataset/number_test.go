package dataset

import (
	"math"
	"testing"

	"github.com/fathom-train/fathom/compute/random"
	"github.com/fathom-train/fathom/shard"
)

// TestBucket against the definition, at small counts and on both sides of
// every boundary e^sqrt(k) that an integer or a float32 can meet.
func TestBucket(t *testing.T) {
	t.Parallel()
	for x, want := range map[float64]float64{
		-2.5: -3, -1: -1, 0: 0, 0.5: 0, 1: 1, 1.99: 1, 2: 2,
		2.0001: 0, 3: 1, 4: 1, 5: 2, 6: 3, 7: 3, 8: 4, 10: 5, 100: 21, 1000: 47, 65535: 122, 1e6: 190, 1e300: 477170,
	} {
		if got := bucket(x); got != want {
			t.Errorf("bucket(%v) = %v, want %v", x, got, want)
		}
	}
	for k := 1; k < 7000; k++ {
		edge := math.Exp(math.Sqrt(float64(k)))
		if edge <= 2 {
			continue
		}
		// math.Exp and ln are each within an ulp or so of the truth, of an
		// exponent of at most 84: 1e-13 covers both.
		below, above := edge*(1-1e-13), edge*(1+1e-13)
		if got := bucket(below); got != float64(k-1) {
			t.Errorf("bucket(%v), below e^sqrt(%d), is %v", below, k, got)
		}
		if got := bucket(above); got != float64(k) {
			t.Errorf("bucket(%v), above e^sqrt(%d), is %v", above, k, got)
		}
	}
}

// TestBucketBits: buckets of the floats right at the boundaries may be on
// either side of the truth, but are the same on every platform.
func TestBucketBits(t *testing.T) {
	t.Parallel()
	sum := uint64(0)
	for i := range uint64(100_000) {
		x := 2 + float64(random.Word(1, i)>>11)/float64(uint64(1)<<(random.Word(2, i)%50))
		sum = sum*31 + math.Float64bits(ln(x)) + uint64(bucket(x))
		sum = sum*31 + math.Float64bits(exp(-ln(x)*1.1))
	}
	if want := uint64(0x72702635a3efc485); sum != want {
		t.Errorf("the bits changed: %#x, want %#x", sum, want)
	}
}

// TestLogarithmAndExponential against math, which is within 1 ulp itself.
func TestLogarithmAndExponential(t *testing.T) {
	t.Parallel()
	near := func(a, b float64) bool { return math.Abs(a-b) <= 2*math.Abs(math.Nextafter(b, math.Inf(1))-b) }
	for i := range uint64(20_000) {
		x := math.Exp(600 * (2*random.Unit64(random.Word(3, i)) - 1))
		if got := ln(x); !near(got, math.Log(x)) {
			t.Errorf("ln(%v) = %v, want %v", x, got, math.Log(x))
		}
		y := 600 * (2*random.Unit64(random.Word(4, i)) - 1)
		if got := exp(y); !near(got, math.Exp(y)) {
			t.Errorf("exp(%v) = %v, want %v", y, got, math.Exp(y))
		}
	}
}

func TestBucketKeyIsThatOfTheDecimalText(t *testing.T) {
	t.Parallel()
	h := shard.NewHasher("f")
	for x, text := range map[float64]string{-3: "-3", 0: "0", 477170: "477170", -1 << 53: "-9007199254740992", -1e20: "-100000000000000000000"} {
		if bucketKey(h, x) != h.String(text) {
			t.Errorf("key of %v is not that of %s", x, text)
		}
	}
}

func TestNumbersThatDoNotFit(t *testing.T) {
	t.Parallel()
	f := field{}
	if w, ok := f.weight(1e39); ok {
		t.Errorf("1e39 fits a float32 as %v", w)
	}
	f.transform = transformLog
	if w, ok := f.weight(-math.MaxFloat32); !ok || math.Abs(float64(w)+88.722839) > 1e-5 {
		t.Errorf("log of the largest float32 is %v, %v", w, ok)
	}
}
