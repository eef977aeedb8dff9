package exact

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

// big returns the sum as a number of any precision.
func (s *Sum) big() *big.Float {
	n := new(big.Int)
	for i := Words - 1; i >= 0; i-- {
		n.Lsh(n, 64)
		n.Or(n, new(big.Int).SetUint64(s[i]))
	}
	f := new(big.Float).SetPrec(600).SetInt(n)
	return f.SetMantExp(f, unit)
}

func TestSumIsExactInAnyOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		squares := rapid.SliceOfN(rapid.Map(rapid.Float32Range(-0x1p63, 0x1p63), func(x float32) float64 { return float64(x) * float64(x) }), 1, 50).Draw(t, "terms")
		want := new(big.Float).SetPrec(600)
		var s Sum
		for _, x := range squares {
			s.Add(x)
			want.Add(want, new(big.Float).SetPrec(600).SetFloat64(x))
		}
		if s.big().Cmp(want) != 0 {
			t.Fatalf("sum is %v, want %v", s.big(), want)
		}
		r := rand.New(rand.NewPCG(1, uint64(len(squares))))
		parts := make([]Sum, 3)
		for _, i := range r.Perm(len(squares)) {
			parts[r.IntN(3)].Add(squares[i])
		}
		parts[2].Merge(parts[0])
		parts[2].Merge(parts[1])
		if parts[2] != s {
			t.Fatalf("in parts %v, in one %v", parts[2], s)
		}
		got, _ := want.Float64()
		if f := s.Float64(); math.Abs(f-got) > 0x1p-52*got {
			t.Fatalf("as a float64 %v, want %v", f, got)
		}
	})
}

func TestBoundsOfASum(t *testing.T) {
	smallest := float64(math.SmallestNonzeroFloat32)
	for _, c := range []struct {
		x, want float64
	}{
		{0, 0}, {-1, 0}, {1, 1}, {smallest * smallest, smallest * smallest}, {0x1p-400, 0}, {math.SmallestNonzeroFloat64, 0},
		{0x1.8p-320, 0x1p-320}, {math.NaN(), most}, {math.Inf(1), most}, {most, most}, {math.Inf(-1), 0}, {0x1.fffffffffffffp63, 0x1.fffffffffffffp63},
	} {
		var s Sum
		s.Add(c.x)
		if got := s.Float64(); got != c.want {
			t.Errorf("sum of %v is %v, want %v", c.x, got, c.want)
		}
	}
	var s Sum
	for range 1 << 12 {
		s.Add(math.Inf(1))
	}
	if got := s.Float64(); got != most*(1<<12) {
		t.Errorf("many large terms give %v", got)
	}
}

func BenchmarkAdd(b *testing.B) {
	var s Sum
	for b.Loop() {
		s.Add(1.2345e-7)
	}
}
