package search

import (
	"math"
	"reflect"
	"slices"
	"testing"

	"github.com/fathom-train/fathom/compute/exact"
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

// Gates of dimensions: what is kept is the largest of gate times root mean square, in
// any place; a closed gate goes even without a limit.
func TestSingleDimensionsAreChosenByTheirWorth(t *testing.T) {
	t.Parallel()
	survey := &Survey{ByDimension: true}
	gates := [][]float32{{1, 0, 0.5}, {-0.1, 1.2, 0.25}}
	squares := [][]float64{{4, 100, 64}, {9, 1, 16}} // mean squares; worth 2 0 4, 0 1 1
	for i := range gates {
		of := TableSurvey{Rows: 10, Kept: 10, Moments: make([]exact.Sum, 3)}
		for d, v := range squares[i] {
			of.Moments[d].Add(10 * v)
		}
		survey.Tables, survey.Gates = append(survey.Tables, of), append(survey.Gates, gates[i])
	}
	space, err := survey.Space([]string{"a", "b"}, []int{0, 1, 2, 3}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		limit int64
		want  [][]int
	}{
		{math.MaxInt64, [][]int{{0, 2}, {1, 2}}}, {40, [][]int{{0, 2}, {1, 2}}}, {39, [][]int{{0, 2}, nil}}, {19, [][]int{{2}, nil}}, {9, [][]int{nil, nil}},
	} {
		got := dnis(space, c.limit)[0]
		if dims := space.Dims(got); !reflect.DeepEqual(dims, c.want) || space.Parameters(got) > c.limit {
			t.Errorf("within %d weights: dimensions %v, want %v", c.limit, dims, c.want)
		}
		if o := space.Order([]Candidate{got}, 1); !reflect.DeepEqual(o.Dims, [][][]int{c.want}) {
			t.Errorf("workers are told dimensions %v, want %v", o.Dims, c.want)
		}
	}
	s, err := New(Config{Strategy: DNIS, Screen: 1, Budget: Budget{Params: 20}}, space)
	if err != nil {
		t.Fatal(err)
	}
	for open := s.Ask(); len(open) > 0; open = s.Ask() {
		if err := s.Tell(make([]Score, len(open))); err != nil {
			t.Fatal(err)
		}
	}
	if r := s.Report(survey); len(r.Fields[0].Dims) != r.Fields[0].Width {
		t.Errorf("the report has width %d and dimensions %v", r.Fields[0].Width, r.Fields[0].Dims)
	}
	survey.Gates[1] = survey.Gates[1][:1]
	if space, err = survey.Space([]string{"a", "b"}, []int{0, 1, 2, 3}, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := New(Config{Strategy: DNIS}, space); err == nil {
		t.Error("a supernet that lacks gates was accepted")
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
