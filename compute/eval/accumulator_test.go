package eval

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// sample draws scores, with many ties, and labels.
func sample(t *rapid.T) (scores, labels []float32) {
	n := rapid.IntRange(0, 120).Draw(t, "n")
	levels := rapid.IntRange(1, 40).Draw(t, "levels")
	for range n {
		scores = append(scores, float32(rapid.IntRange(0, levels).Draw(t, "score"))/float32(levels))
		labels = append(labels, float32(rapid.IntRange(0, 1).Draw(t, "label")))
	}
	return scores, labels
}

func accumulate(scores, labels []float32) *Accumulator {
	a := &Accumulator{}
	a.Add(scores, labels, nil)
	return a
}

// naiveAUC counts all pairs.
func naiveAUC(scores, labels []float32) float64 {
	var twice, pairs float64
	for i := range scores {
		for j := range scores {
			if labels[i] != 1 || labels[j] != 0 {
				continue
			}
			pairs++
			switch {
			case scores[i] > scores[j]:
				twice += 2
			case scores[i] == scores[j]:
				twice++
			}
		}
	}
	if pairs == 0 {
		return 0.5
	}
	return twice / (2 * pairs)
}

func naiveLogLoss(scores, labels []float32) float64 {
	var sum float64
	for i, s := range scores {
		p := min(max(float64(s), 1e-7), 1-1e-7)
		if labels[i] == 1 {
			sum -= math.Log(p)
		} else {
			sum -= math.Log1p(-p)
		}
	}
	return sum / float64(max(len(scores), 1))
}

func TestMergeEqualsNaiveCount(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		scores, labels := sample(t)
		got := Merge([]*Accumulator{accumulate(scores, labels)})
		if want := naiveAUC(scores, labels); got.AUC != want {
			t.Fatalf("AUC %v, want %v", got.AUC, want)
		}
		if want := naiveLogLoss(scores, labels); math.Abs(got.LogLoss-want) > 1e-6*want {
			t.Fatalf("log loss %v, want %v", got.LogLoss, want)
		}
		var positives uint64
		for _, y := range labels {
			positives += uint64(y)
		}
		if got.Samples != uint64(len(scores)) || got.Positives != positives || got.Invalid != 0 {
			t.Fatalf("counts %+v", got)
		}
	})
}

func TestMergeOfPartsEqualsWhole(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		scores, labels := sample(t)
		whole := Merge([]*Accumulator{accumulate(scores, labels)})
		var blocks []*Accumulator
		for at := 0; at < len(scores); {
			end := min(at+rapid.IntRange(0, 30).Draw(t, "block"), len(scores))
			block := accumulate(scores[at:end], labels[at:end])
			if rapid.Bool().Draw(t, "over the wire") {
				var err error
				if block, err = Parse(block.Append(nil)); err != nil {
					t.Fatal(err)
				}
			}
			blocks = append(blocks, block)
			at = end
			if len(blocks) > 500 { // many empty blocks in a row
				break
			}
		}
		if len(blocks) > 500 {
			t.Skip()
		}
		parts := Merge(blocks)
		if math.Abs(parts.LogLoss-whole.LogLoss) > 1e-13*whole.LogLoss {
			t.Fatalf("log loss %v of parts, %v of the whole", parts.LogLoss, whole.LogLoss)
		}
		parts.LogLoss = whole.LogLoss
		if diff := cmp.Diff(whole, parts); diff != "" {
			t.Fatal(diff)
		}
		if again := Merge(blocks); again.AUC != parts.AUC || again.Samples != parts.Samples {
			t.Fatal("merge changed its blocks")
		}
	})
}

func TestOneClassAndNoSamples(t *testing.T) {
	for name, labels := range map[string][]float32{"none": {}, "positive": {1, 1}, "negative": {0, 0}} {
		got := Merge([]*Accumulator{{}, accumulate([]float32{0.25, 0.5}[:len(labels)], labels)})
		if got.AUC != 0.5 || math.IsNaN(got.LogLoss) {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if got := Merge(nil); got != (Result{AUC: 0.5}) {
		t.Errorf("no blocks: %+v", got)
	}
}

func TestInvalidScoresAreCountedAndFinite(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	a := accumulate([]float32{nan, inf, -0.5, 1.5, float32(math.Copysign(0, -1)), 0, 1}, []float32{1, 0, 1, 0, 0, 1, 1})
	got := Merge([]*Accumulator{a})
	if got.Invalid != 4 || math.IsNaN(got.LogLoss) || math.IsInf(got.LogLoss, 0) {
		t.Fatalf("%+v", got)
	}
	// Equal zeros tie: as scores {.5+, .5-, .5+, .5-, 0-, 0+, 1+}, 9 of 12 pairs.
	if want := naiveAUC([]float32{.5, .5, .5, .5, 0, 0, 1}, []float32{1, 0, 1, 0, 0, 1, 1}); got.AUC != want {
		t.Fatalf("AUC %v, want %v", got.AUC, want)
	}
}

func TestResetKeepsNothing(t *testing.T) {
	a := accumulate([]float32{0.1, float32(math.NaN())}, []float32{1, 0})
	a.Reset()
	if got := Merge([]*Accumulator{a}); a.Samples() != 0 || got != (Result{AUC: 0.5}) {
		t.Fatalf("after reset: %+v", got)
	}
}

func TestAddPanicsOnUnequalLengths(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Fatal("no panic")
		}
	}()
	(&Accumulator{}).Add([]float32{1}, nil, nil)
}

func TestAreaOfCountsBeyond64Bits(t *testing.T) {
	if got, want := wide(1, 1<<63), math.Ldexp(1.5, 64); got != want {
		t.Fatalf("wide = %v, want %v", got, want)
	}
}

func TestLogarithmIsAccurate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x := rapid.Float64Range(clamp, 1).Draw(t, "x")
		if got, want := logarithm(x), math.Log(x); math.Abs(got-want) > 4e-16*math.Abs(want) {
			t.Fatalf("log(%v) = %v, want %v", x, got, want)
		}
	})
	for _, x := range []float64{clamp, 1 - clamp, 1, 0.5, math.Sqrt2 / 2, math.Nextafter(1, 0)} {
		if got, want := logarithm(x), math.Log(x); math.Abs(got-want) > 4e-16*math.Abs(want) {
			t.Errorf("log(%v) = %v, want %v", x, got, want)
		}
	}
}

func BenchmarkMerge(b *testing.B) {
	const n = 1 << 20
	scores, labels := make([]float32, n), make([]float32, n)
	for i := range scores {
		scores[i] = float32(i*7919%n) / n
		labels[i] = float32(i & 1)
	}
	blocks := []*Accumulator{accumulate(scores, labels)}
	for b.Loop() {
		Merge(blocks)
	}
	b.ReportMetric(n*float64(b.N)/b.Elapsed().Seconds(), "samples/s")
}

// naiveGAUC averages the AUCs of the groups, weighted by their samples.
func naiveGAUC(scores, labels []float32, groups []uint64) (mean float64, samples uint64) {
	var sum float64
	for g := range uint64(10) {
		var s, l []float32
		var positives int
		for i := range scores {
			if groups[i] == g {
				s, l, positives = append(s, scores[i]), append(l, labels[i]), positives+int(labels[i])
			}
		}
		if positives > 0 && positives < len(l) {
			sum += float64(len(l)) * naiveAUC(s, l)
			samples += uint64(len(l))
		}
	}
	return sum / float64(max(samples, 1)), samples
}

func TestGroupsAreComparedWithinThemselves(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		scores, labels := sample(t)
		groups := rapid.SliceOfN(rapid.Uint64Range(0, 9), len(scores), len(scores)).Draw(t, "groups")
		whole := &Accumulator{}
		whole.Add(scores, labels, groups)
		got := Merge([]*Accumulator{whole})
		mean, samples := naiveGAUC(scores, labels, groups)
		if math.Abs(got.GAUC-mean) > 1e-12 || got.GroupedSamples != samples {
			t.Fatalf("GAUC %v of %d samples, want %v of %d", got.GAUC, got.GroupedSamples, mean, samples)
		}
		if plain := Merge([]*Accumulator{accumulate(scores, labels)}); got.AUC != plain.AUC || got.LogLoss != plain.LogLoss || got.Samples != plain.Samples {
			t.Fatalf("with groups %+v, without %+v", got, plain)
		}
		// The same in two blocks that travelled.
		cut := rapid.IntRange(0, len(scores)).Draw(t, "cut")
		var blocks []*Accumulator
		for _, r := range [][2]int{{0, cut}, {cut, len(scores)}} {
			a := &Accumulator{}
			a.Add(scores[r[0]:r[1]], labels[r[0]:r[1]], groups[r[0]:r[1]])
			parsed, err := Parse(a.Append(nil))
			if err != nil {
				t.Fatal(err)
			}
			blocks = append(blocks, parsed)
		}
		if parts := Merge(blocks); parts.GAUC != got.GAUC || parts.GroupedSamples != got.GroupedSamples || parts.AUC != got.AUC {
			t.Fatalf("in parts %+v, whole %+v", parts, got)
		}
	})
}
