package search

import (
	"math"
	"slices"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// rowSpace is testSpace with the rows to choose, too.
func rowSpace() Space {
	s := testSpace()
	for _, f := range s.Fields {
		row := Field{Name: f.Name + " rows", Rows: f.Rows, Kept: f.Kept}
		for i := range int64(4) {
			row.Levels = append(row.Levels, Level{Kept: f.Kept * (i + 1) / 4, Above: float32(3-i) / 8})
			row.Choices = append(row.Choices, int(i)+1)
		}
		s.Fields = append(s.Fields, row)
	}
	return s
}

// Whatever is chosen, the parameters are those of the kept rows times the widths,
// within the budget, and a search that is resumed ends with the same winner.
func TestRowsAreChosenBesideWidths(t *testing.T) {
	t.Parallel()
	everyStrategy(t, func(t *testing.T, cfg Config) {
		space := rowSpace()
		if cfg.Strategy == DNIS || cfg.Strategy == AutoDim || cfg.Strategy == IHAS {
			if _, err := New(cfg, space); err == nil {
				t.Error("a strategy that learns widths was to choose rows")
			}
			return
		}
		s := begin(t, cfg, space)
		fewer := 0
		var halfWay []Trial
		for len(s.Ask()) > 0 {
			tell(t, s)
			if halfWay == nil && len(s.Trials()) > 40 {
				halfWay = s.Trials()
			}
		}
		for _, tr := range s.Trials() {
			var want int64
			for f := range 12 {
				kept := space.Fields[12+f].Levels[tr.Candidate.Width(12+f)-1].Kept
				want += kept * int64(tr.Candidate.Width(f))
				if kept < space.Fields[f].Kept {
					fewer++
				}
			}
			if tr.Parameters != want {
				t.Fatalf("%v has %d parameters, want %d", tr.Candidate, tr.Parameters, want)
			}
		}
		best, ok := s.Best()
		if !ok || best.Parameters > s.Limit() {
			t.Fatalf("winner %v, %v, limit %d", best, ok, s.Limit())
		}
		if searches := slices.Contains([]string{Evolution, Guided, Random, Sensitivity}, s.cfg.Strategy); searches != (fewer > 0) {
			t.Errorf("rows were dropped %d times", fewer)
		}
		r, err := Resume(cfg, space, halfWay)
		if err != nil {
			t.Fatal(err)
		}
		finish(t, r)
		if again, _ := r.Best(); cmp.Diff(best, again, cmp.AllowUnexported(Candidate{})) != "" {
			t.Errorf("resumed: %v, want %v", again, best)
		}
		if of := s.Report(nil); len(of.Fields) != 12 || of.Fields[3].Kept != space.Level(best.Candidate, 3).Kept {
			t.Errorf("the report has %d fields", len(of.Fields))
		}
		o := s.Order([]Candidate{best.Candidate})
		for f, above := range o.Above[0] {
			if want := space.Level(best.Candidate, f).Above; above != want || o.Candidates[0].Width(f) != best.Candidate.Width(f) {
				t.Errorf("field %d is ordered at %v above %v", f, o.Candidates[0], above)
			}
		}
	})
}

// Levels keep exactly the rows above their number, no more than their share, and do
// not depend on how the rows are sharded.
func TestLevelsOfASurvey(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		norms := rapid.SliceOfN(rapid.Float32Range(0, 4), 1, 200).Draw(t, "norms")
		shards := rapid.IntRange(1, 3).Draw(t, "shards")
		always := rapid.Int64Range(0, 1).Draw(t, "always") // rows that are kept whatever their norm
		shares := []float64{0.1, 0.3, 0.5, 0.9, 1}
		survey := func(shards int) *Survey {
			var parts []*Survey
			for range shards {
				parts = append(parts, &Survey{Tables: []TableSurvey{{Classes: map[uint16]int64{}}}})
			}
			for i, n := range norms {
				of := &parts[i%shards].Tables[0]
				of.Rows, of.Kept = of.Rows+1, of.Kept+1
				of.Classes[Class(n)]++
			}
			parts[0].Tables[0].Rows += always
			parts[0].Tables[0].Kept += always
			all, err := Merge(parts)
			if err != nil {
				t.Fatal(err)
			}
			return all
		}
		space, err := survey(shards).Space([]string{"a"}, upTo(4), shares)
		if err != nil {
			t.Fatal(err)
		}
		if err := space.Validate(); err != nil {
			t.Fatal(err)
		}
		if other, _ := survey(1).Space([]string{"a"}, upTo(4), shares); cmp.Diff(space, other) != "" {
			t.Fatalf("%d shards: %s", shards, cmp.Diff(space, other))
		}
		levels := space.Fields[1].Levels
		for i, l := range levels {
			kept := always
			for _, n := range norms {
				if n > l.Above {
					kept++
				}
			}
			if kept != l.Kept || i > 0 && kept <= levels[i-1].Kept || kept == always {
				t.Fatalf("level %d above %v keeps %d rows, says %d", i, l.Above, kept, l.Kept)
			}
		}
		if last := levels[len(levels)-1]; last.Kept != int64(len(norms))+always || space.Tables() != 1 {
			t.Fatalf("the last level keeps %d of %d", last.Kept, len(norms))
		}
		if n := float64(int64(len(norms)) + always); float64(levels[0].Kept) > math.Max(0.9*n, 1) && len(levels) > 1 {
			t.Fatalf("the first of %d levels keeps %d of %v", len(levels), levels[0].Kept, n)
		}
	})
}

func TestSpaceWithoutRowsHasOnlyWidths(t *testing.T) {
	t.Parallel()
	s := testSpace()
	if o := s.Order([]Candidate{s.Largest()}, 1); s.Tables() != len(s.Fields) || o.Above != nil {
		t.Errorf("%d tables of %d fields, rows above %v", s.Tables(), len(s.Fields), o.Above)
	}
	if l := s.Level(s.Smallest(), 2); l.Above >= 0 || l.Kept != s.Fields[2].Kept {
		t.Errorf("table 2 keeps %+v, want all", l)
	}
	if (Space{}).Tables() != 0 {
		t.Error("an empty space has tables: " + strconv.Itoa(Space{}.Tables()))
	}
}
