package random

import (
	"math"
	"math/bits"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The numbers are part of the format: with other ones every model differs.
func TestNumbersAreFixed(t *testing.T) {
	t.Parallel()
	s := Stream(42, Dropout, 1, 2, 3)
	got := []uint64{s, Word(s, 0), Word(s, 1), Below(s, 5, 1000), Permute(s, 1000, 7), Permute(s, 1<<20, 7)}
	want := []uint64{7907285252218913869, 9408043653771082038, 15799144521667283943, 939, 465, 879477}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	var n [3]float32
	Init{Kind: Normal, Scale: 0.01}.Fill(n[:], s)
	if diff := cmp.Diff([3]float32{0.0071754456, 0.014049835, -0.011641845}, n); diff != "" {
		t.Errorf("normal (-want +got)\n%s", diff)
	}
}

func TestStreamsOfDistinctNamesDiffer(t *testing.T) {
	t.Parallel()
	seen := map[uint64][5]uint64{}
	for i := range uint64(4) {
		for _, p := range []Purpose{InitRow, InitDense, Dropout, ShuffleBlocks, ShuffleWindow, Synth, Teacher} {
			for abc := range uint64(64) {
				name := [5]uint64{i, uint64(p), abc & 3, abc >> 2 & 3, abc >> 4}
				s := Stream(i, p, name[2], name[3], name[4])
				if other, ok := seen[s]; ok {
					t.Fatalf("streams %v and %v are both %#x", name, other, s)
				}
				seen[s] = name
			}
		}
	}
}

// Words of one stream, and the first words of neighbouring streams, look
// random: flipping any bit of the counter flips about half of the word's.
func TestWordsAvalanche(t *testing.T) {
	t.Parallel()
	for b := range 64 {
		var within, across int
		for i := range uint64(400) {
			within += bits.OnesCount64(Word(9, i) ^ Word(9, i^1<<b))
			across += bits.OnesCount64(Word(Stream(i, InitRow, 0, 0, 0), 0) ^ Word(Stream(i, InitRow, 0, 1<<b, 0), 0))
		}
		for name, flips := range map[string]int{"within": within, "across": across} {
			if mean := float64(flips) / 400; math.Abs(mean-32) > 1.2 {
				t.Errorf("%s a stream, counter bit %d flips %.2f bits on average, want 32", name, b, mean)
			}
		}
	}
}

func TestUnitIsExactAndBelowOne(t *testing.T) {
	t.Parallel()
	if u := Unit(math.MaxUint64); u != 1-0x1p-24 {
		t.Errorf("Unit of all ones is %v", u)
	}
	if u := Unit64(math.MaxUint64); u != 1-0x1p-53 {
		t.Errorf("Unit64 of all ones is %v", u)
	}
	if Unit(0) != 0 || Unit64(0) != 0 || Unit(1<<40) != 0x1p-24 || Unit64(1<<11) != 0x1p-53 {
		t.Error("the lowest steps are not 2^-24 and 2^-53")
	}
}

func TestBelowIsUniform(t *testing.T) {
	t.Parallel()
	const n, draws = 10, 100_000
	var counts [n]int
	for i := range uint64(draws) {
		counts[Below(77, i, n)]++
	}
	for v, c := range counts {
		if math.Abs(float64(c)-draws/n) > 5*math.Sqrt(draws/n) {
			t.Errorf("%d came %d times of %d", v, c, draws)
		}
	}
}

func TestPermuteIsABijection(t *testing.T) {
	t.Parallel()
	for _, n := range []uint64{1, 2, 3, 4, 5, 7, 8, 9, 31, 100, 257, 4096, 10_007} {
		for stream := range uint64(5) {
			seen := make([]bool, n)
			for i := range n {
				j := Permute(stream, n, i)
				if j >= n || seen[j] {
					t.Fatalf("stream %d, n %d: %d goes to %d, outside or taken", stream, n, i, j)
				}
				seen[j] = true
			}
		}
	}
	if j := Permute(3, math.MaxUint64, math.MaxUint64-1); j == math.MaxUint64 {
		t.Errorf("the largest domain: %d", j)
	}
}

// Every element goes to every place about equally often, also in the small
// domains where a Feistel network is weakest.
func TestPermuteIsUniformOverStreams(t *testing.T) {
	t.Parallel()
	const streams = 20_000
	for _, n := range []uint64{2, 3, 5, 8, 13} {
		counts := make([]int, n*n)
		for s := range uint64(streams) {
			stream := Stream(1, ShuffleWindow, s, 0, 0)
			for i := range n {
				counts[i*n+Permute(stream, n, i)]++
			}
		}
		mean := float64(streams) / float64(n)
		for k, c := range counts {
			if math.Abs(float64(c)-mean) > 6*math.Sqrt(mean) {
				t.Errorf("n %d: %d went to %d in %d of %d streams", n, k/int(n), k%int(n), c, streams)
			}
		}
	}
}

func TestImpossibleArgumentsPanic(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]func(){
		"Below 0":         func() { Below(1, 2, 0) },
		"Permute outside": func() { Permute(1, 5, 5) },
		"Fill unknown":    func() { Init{Kind: "cauchy"}.Fill(make([]float32, 1), 1) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s did not panic", name)
				}
			}()
			f()
		}()
	}
}

func TestFillFromContinuesFill(t *testing.T) {
	t.Parallel()
	for _, i := range []Init{{}, {Constant, 2}, {Uniform, 0.5}, {Normal, 0.1}} {
		var whole [20]float32
		i.Fill(whole[:], 123)
		part := make([]float32, 7)
		i.FillFrom(part, 123, 9)
		if diff := cmp.Diff(whole[9:16], part); diff != "" {
			t.Errorf("%+v (-Fill +FillFrom)\n%s", i, diff)
		}
	}
}

func TestDistributionsHaveTheirMoments(t *testing.T) {
	t.Parallel()
	const n = 200_000
	for _, c := range []struct {
		init               Init
		mean, std, largest float64
	}{
		{Init{}, 0, 0, 0},
		{Init{Constant, -3}, -3, 0, 3},
		{Init{Uniform, 0.5}, 0, 0.5 / math.Sqrt(3), 0.5},
		{Init{Normal, 0.1}, 0, 0.1, 0.6},
	} {
		x := make([]float32, n)
		c.init.Fill(x, Stream(5, InitDense, 0, 0, 0))
		var sum, sum2, largest float64
		for _, v := range x {
			sum += float64(v)
			sum2 += float64(v) * float64(v)
			largest = max(largest, math.Abs(float64(v)))
		}
		mean := sum / n
		std := math.Sqrt(max(0, sum2/n-mean*mean))
		if math.Abs(mean-c.mean) > 5*c.std/math.Sqrt(n) || math.Abs(std-c.std) > 0.01*c.std || largest > c.largest {
			t.Errorf("%+v: mean %v, standard deviation %v, largest %v, want %v, %v, at most %v",
				c.init, mean, std, largest, c.mean, c.std, c.largest)
		}
	}
}

// The tails decide whether Irwin and Hall's sum may stand in for a normal one:
// beyond three standard deviations it has a fifth less.
func TestNormalHasNormalTails(t *testing.T) {
	t.Parallel()
	const n = 400_000
	var beyond [4]int
	for i := range uint64(n) {
		x := math.Abs(float64(normal(99, i)))
		for k := 1; k < 4 && x > float64(k); k++ {
			beyond[k]++
		}
	}
	for k, want := range []float64{1: 0.3173, 2: 0.0455, 3: 0.0027} {
		if got := float64(beyond[k]) / n; k > 0 && math.Abs(got-want) > 0.25*want {
			t.Errorf("share beyond %d standard deviations: %v, want about %v", k, got, want)
		}
	}
}

func TestInitValidate(t *testing.T) {
	t.Parallel()
	inf := float32(math.Inf(1))
	for _, c := range []struct {
		init Init
		want string
	}{
		{Init{}, ""}, {Init{Normal, 0.1}, ""}, {Init{Uniform, 0}, ""}, {Init{Constant, -1}, ""},
		{Init{"gauss", 1}, "kind: unknown"}, {Init{Normal, -1}, "scale: -1 is negative"},
		{Init{Uniform, inf}, "not a finite"}, {Init{Constant, inf - inf}, "not a finite"},
		{Init{"", 1}, "kind: missing"},
	} {
		err := c.init.Validate()
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.init, err, c.want)
		}
	}
}

func BenchmarkPermute(b *testing.B) {
	for i := uint64(0); b.Loop(); i++ {
		Permute(3, 1<<20-1, i%(1<<20-1))
	}
}

func BenchmarkFillNormal16(b *testing.B) {
	var x [16]float32
	for b.Loop() {
		Init{Kind: Normal, Scale: 0.01}.Fill(x[:], 7)
	}
}
