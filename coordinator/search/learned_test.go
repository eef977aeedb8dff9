package search

import (
	"math"
	"slices"
	"testing"
)

// learnedSpace has four fields of equal size and widths up to 8.
func learnedSpace(set func(f *Field, at int)) Space {
	var s Space
	for f := range 4 {
		field := Field{Name: "f", Rows: 100, Kept: 100, Choices: upTo(8)}
		set(&field, f)
		s.Fields = append(s.Fields, field)
	}
	return s
}

// ard keeps the dimensions that vary, those in front of them, and of equal ones
// those that cost least.
func TestRelevantDimensionsAreKept(t *testing.T) {
	t.Parallel()
	relevant := [][]int{{0, 1, 2}, {}, {5}, {0}} // dimensions
	s := learnedSpace(func(f *Field, at int) {
		f.Variance = make([]float64, 8)
		for d := range f.Variance {
			f.Variance[d] = 1e-6
			if slices.Contains(relevant[at], d) {
				f.Variance[d] = 1
			}
		}
	})
	want := NewCandidate([]int{3, 1, 6, 1})
	if got := ard(s, s.Parameters(want)); got[0] != want {
		t.Errorf("within what is relevant: %v, want %v", got[0], want)
	}
	s.Fields[0].Kept, s.Fields[0].Rows = 10_000, 10_000
	if got := ard(s, 10_000+100*(1+6+1)); got[0] != NewCandidate([]int{1, 1, 6, 1}) {
		t.Errorf("with an expensive field: %v", got[0])
	}
}

func TestSoftWidthsAreScaledIntoTheLimit(t *testing.T) {
	t.Parallel()
	soft := []float32{8.1, 3.6, 2, 0.2}
	s := learnedSpace(func(f *Field, at int) { f.Gates = []float32{soft[at]} })
	if got, want := dnis(s, math.MaxInt64)[0], NewCandidate([]int{8, 4, 2, 1}); got != want {
		t.Errorf("without a limit: %v, want %v", got, want)
	}
	got := dnis(s, 800)[0]
	if s.Parameters(got) > 800 || s.Parameters(got) < 600 || !slices.IsSortedFunc(got.Widths(), func(a, b int) int { return b - a }) {
		t.Errorf("within 800 weights: %v with %d", got, s.Parameters(got))
	}
}

func TestTheMostProbableWidthsAreChosenAtTheLowestPrice(t *testing.T) {
	t.Parallel()
	likely := []int{8, 4, 2, 1}
	s := learnedSpace(func(f *Field, at int) {
		f.Gates = make([]float32, 8)
		for c := range f.Gates {
			f.Gates[c] = -float32(max(c+1, likely[at]) - min(c+1, likely[at]))
		}
	})
	if got, want := autodim(s, math.MaxInt64)[0], NewCandidate(likely); got != want {
		t.Errorf("without a limit: %v, want %v", got, want)
	}
	got := autodim(s, 1000)[0]
	if s.Parameters(got) > 1000 {
		t.Errorf("within 1000 weights: %v with %d", got, s.Parameters(got))
	}
	if _, err := New(Config{Strategy: AutoDim}, learnedSpace(func(*Field, int) {})); err == nil {
		t.Error("a supernet without gates was accepted")
	}
}
