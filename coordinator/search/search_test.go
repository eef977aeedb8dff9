package search

import (
	"encoding/json"
	"errors"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// upTo lists the widths 1 to d.
func upTo(d int) []int {
	w := make([]int, d)
	for i := range w {
		w[i] = i + 1
	}
	return w
}

// testSpace has fields of very different sizes, more fields than dimensions.
func testSpace() Space {
	var s Space
	for f := range 12 {
		rows := int64(10) << f
		field := Field{Name: "f" + strconv.Itoa(f), Rows: rows, Kept: rows - int64(f), Choices: upTo(8)}
		for d := range 8 {
			field.Variance = append(field.Variance, 1/float64(1+d+f%3))
			field.Gates = append(field.Gates, float32(8-f%7)-float32(d))
		}
		s.Fields = append(s.Fields, field)
	}
	return s
}

// planted scores candidates as a supernet with planted widths would: a field
// gains up to its planted width, nothing beyond, and noise decides among equals.
func planted(s Space, c Candidate) Score {
	auc := 0.7
	for f := range s.Fields {
		want := []int{1, 1, 2, 8, 4, 1}[f%6]
		missing := float64(max(0, want-c.Width(f)))
		auc -= 0.004 * missing * (1 + 0.2*float64(f%4))
	}
	noise := 0.0
	for i := range c.Fields() {
		noise += math.Sin(float64(c.Width(i)*(i+3)) * 12.9898)
	}
	auc += 1e-5 * noise
	return Score{AUC: auc, LogLoss: 1 - auc}
}

// roughly is a score on a part of the split: another one, with noise.
func roughly(s Score, c Candidate) Score {
	n := 0.0
	for f := range c.Fields() {
		n += math.Sin(float64(c.Width(f)*(f+7)) * 78.233)
	}
	s.AUC += -0.01 + 3e-4*n/math.Sqrt(float64(c.Fields()))
	return s
}

// finish runs a search to its end.
func finish(t *testing.T, s *Search) {
	t.Helper()
	for c := s.Ask(); len(c) > 0; c = s.Ask() {
		tell(t, s)
	}
}

func tell(t *testing.T, s *Search) {
	t.Helper()
	var scores []Score
	for _, c := range s.Ask() {
		score := planted(s.Space(), c)
		if s.Share() < 1 {
			score = roughly(score, c)
		}
		scores = append(scores, score)
	}
	if err := s.Tell(scores); err != nil {
		t.Fatal(err)
	}
}

func begin(t *testing.T, cfg Config, space Space) *Search {
	t.Helper()
	s, err := New(cfg, space)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func everyStrategy(t *testing.T, f func(t *testing.T, cfg Config)) {
	for _, name := range Strategies() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f(t, Config{Strategy: name, Seed: 5, Generations: 8, Budget: Budget{Fraction: 0.3}})
		})
	}
	t.Run("seeded", func(t *testing.T) {
		t.Parallel()
		f(t, Config{Seed: 5, Generations: 8, Budget: Budget{Fraction: 0.3}, SeedSensitivity: true, SeedRelevance: true})
	})
	t.Run("trimmed, not screened", func(t *testing.T) {
		t.Parallel()
		f(t, Config{Strategy: Guided, Seed: 5, Generations: 8, Budget: Budget{Fraction: 0.3}, Tolerance: 0.001, Screen: 1})
	})
	t.Run("trimmed", func(t *testing.T) {
		t.Parallel()
		f(t, Config{Strategy: Guided, Seed: 5, Generations: 8, Budget: Budget{Fraction: 0.3}, Tolerance: 0.001})
	})
	t.Run("pareto", func(t *testing.T) {
		t.Parallel()
		f(t, Config{Seed: 5, Generations: 8, Pareto: true, Tolerance: 0.001})
	})
}

func TestCandidatesKeepTheBudgetAndComeOnce(t *testing.T) {
	t.Parallel()
	everyStrategy(t, func(t *testing.T, cfg Config) {
		s := begin(t, cfg, testSpace())
		finish(t, s)
		seen := map[Candidate]bool{}
		for _, tr := range s.Trials() {
			if seen[tr.Candidate] {
				t.Errorf("candidate %v was scored twice", tr.Candidate)
			}
			seen[tr.Candidate] = true
			if tr.Parameters != s.Space().Parameters(tr.Candidate) {
				t.Errorf("candidate %v has %d parameters, reported %d", tr.Candidate, s.Space().Parameters(tr.Candidate), tr.Parameters)
			}
			probes := cfg.Strategy == Sensitivity || cfg.SeedSensitivity
			if tr.Parameters > s.Limit() && !(probes && tr.Generation == 1) {
				t.Errorf("candidate %v has %d parameters, the limit is %d", tr.Candidate, tr.Parameters, s.Limit())
			}
		}
		if best, ok := s.Best(); !ok || best.Parameters > s.Limit() {
			t.Errorf("the winner %v has %d parameters, the limit is %d", best.Candidate, best.Parameters, s.Limit())
		}
	})
}

// Section 1.6 of the reference's defects: sorted candidates were paired with
// unsorted scores.
func TestScoreAndCandidateAreNeverMispaired(t *testing.T) {
	t.Parallel()
	everyStrategy(t, func(t *testing.T, cfg Config) {
		s := begin(t, cfg, testSpace())
		finish(t, s)
		for _, tr := range s.Trials() {
			want := planted(s.Space(), tr.Candidate)
			if tr.Part != nil && *tr.Part != roughly(want, tr.Candidate) {
				t.Fatalf("candidate %v has score %v on the part", tr.Candidate, *tr.Part)
			}
			if tr.Partial {
				want = *tr.Part
			}
			if tr.Score != want {
				t.Fatalf("candidate %v has score %v, want %v", tr.Candidate, tr.Score, want)
			}
		}
		if e, ok := s.strategy.(*evolution); ok {
			for _, tr := range e.archive.Trials {
				if tr.Score != planted(s.Space(), tr.Candidate) {
					t.Fatalf("in the archive, candidate %v has another's score", tr.Candidate)
				}
			}
		}
	})
}

// Defects 1 and 2: mutation edited its parent in place, and without elitism the
// best candidate was lost.
func TestTheBestIsNeverLostOrMutated(t *testing.T) {
	t.Parallel()
	s := begin(t, Config{Seed: 1, Budget: Budget{Fraction: 0.4}}, testSpace())
	var best Trial
	for len(s.Ask()) > 0 {
		tell(t, s)
		now, ok := s.Best()
		if !ok {
			continue // the first generation is screened
		}
		if best.Candidate.Fields() > 0 && compare(now, best) > 0 {
			t.Fatalf("generation %d: the best fell from %v to %v", s.Generation(), best, now)
		}
		for _, tr := range s.Trials() {
			if !tr.Partial && tr.Score.AUC > now.Score.AUC {
				t.Fatalf("generation %d: %v is better than the best", s.Generation(), tr)
			}
		}
		if e := s.strategy.(*evolution); len(e.archive.Trials) == 0 || e.archive.Trials[0] != now || len(e.archive.Trials) > 15 {
			t.Fatalf("generation %d: the archive of %d does not begin with the best", s.Generation(), len(e.archive.Trials))
		}
		best = now
	}
}

func TestAChangedCopyLeavesTheCandidateAlone(t *testing.T) {
	t.Parallel()
	widths := []int{1, 2, 3}
	c := NewCandidate(widths)
	widths[0] = 9
	c.Widths()[1] = 9
	d := c.With(2, 9)
	if c != NewCandidate([]int{1, 2, 3}) || d != NewCandidate([]int{1, 2, 9}) {
		t.Errorf("candidates are %v and %v", c, d)
	}
}

// Defect 3: the cut point was drawn from the dimensions, not the fields, so most
// fields were never exchanged. Defect 4: parents were the first eleven only.
func TestCrossoverMixesAllFieldsOfTheWholeArchive(t *testing.T) {
	t.Parallel()
	space := testSpace()
	e := newEvolution(Config{}.WithDefaults(), space, math.MaxInt64)
	for i := range 15 {
		w := make([]int, len(space.Fields))
		for f := range w {
			w[f] = 1 + i%8
		}
		w[0] = 1 + i/8 // so that all parents differ
		c := NewCandidate(w)
		e.archive.Add(Trial{Candidate: c, Score: Score{AUC: 0.5 + float64(i)/100}})
	}
	if len(e.archive.Trials) != 15 {
		t.Fatalf("archive of %d", len(e.archive.Trials))
	}
	d := &draws{stream: 77}
	mixed := make([]map[int]bool, len(space.Fields))
	clones, children := 0, 2000
	for range children {
		c := e.crossover(e.parents(), d)
		different := map[int]bool{}
		for f := 1; f < c.Fields(); f++ {
			if mixed[f] == nil {
				mixed[f] = map[int]bool{}
			}
			mixed[f][c.Width(f)] = true
			different[c.Width(f)] = true
		}
		if len(different) == 1 {
			clones++
		}
	}
	for f := 1; f < len(mixed); f++ {
		if len(mixed[f]) != 8 {
			t.Errorf("field %d gets only %d of 8 widths from the parents", f, len(mixed[f]))
		}
	}
	// Two draws of one parent, or of parents that agree: about 1 in 8.
	if clones > children/4 {
		t.Errorf("%d of %d children are clones", clones, children)
	}
}

// Defect 5: the mutation's range left out width 1.
func TestMutationReachesEveryWidthOfEveryField(t *testing.T) {
	t.Parallel()
	space := testSpace()
	e := newEvolution(Config{}.WithDefaults(), space, math.MaxInt64)
	parent := []Trial{{Candidate: space.Largest()}}
	d := &draws{stream: 5}
	reached := map[[2]int]int{}
	changed := 0
	const children = 4000
	for range children {
		c := e.mutate(parent, d)
		for f := range c.Fields() {
			reached[[2]int{f, c.Width(f)}]++
			if c.Width(f) != 8 {
				changed++
			}
		}
	}
	for f := range space.Fields {
		for _, w := range space.Fields[f].Choices {
			if reached[[2]int{f, w}] == 0 {
				t.Errorf("field %d never gets width %d", f, w)
			}
		}
	}
	// A field is drawn anew with probability 0.1 and then differs 7 times in 8.
	want := 0.1 * 7 / 8 * children * 12
	if math.Abs(float64(changed)-want) > 5*math.Sqrt(want) {
		t.Errorf("%d fields changed, want about %.0f", changed, want)
	}
}

// Defect 6: the count used the index of the last dimension, one too few.
func TestParameterCountIsExact(t *testing.T) {
	t.Parallel()
	s := Space{Fields: []Field{{Name: "a", Rows: 10, Kept: 7, Choices: upTo(4)}, {Name: "b", Rows: 5, Kept: 5, Choices: []int{0, 4}}}}
	if got := s.Parameters(NewCandidate([]int{1, 0})); got != 7 {
		t.Errorf("%d parameters", got)
	}
	if got := s.Bytes(NewCandidate([]int{4, 4})); got != 4*(28+20) {
		t.Errorf("%d bytes", got)
	}
	if got := s.FullParameters(); got != 60 {
		t.Errorf("%d parameters in full", got)
	}
}

func TestBudgetIsExactAndInfeasibleOnesNameTheSmallest(t *testing.T) {
	t.Parallel()
	s := testSpace()
	least := s.Parameters(s.Smallest())
	for _, b := range []Budget{{Params: least}, {Bytes: 4 * least}} {
		search, err := New(Config{Budget: b, Strategy: Random}, s)
		if err != nil {
			t.Fatalf("the smallest candidate's own budget %+v: %v", b, err)
		}
		if c := search.Ask(); len(c) != 1 || c[0] != s.Smallest() {
			t.Errorf("budget %+v: candidates %v, want the smallest alone", b, c)
		}
	}
	for _, b := range []Budget{{Params: least - 1}, {Bytes: 4*least - 1}, {Fraction: 0.01}} {
		_, err := New(Config{Budget: b}, s)
		if !errors.Is(err, ErrInfeasible) || !strings.Contains(err.Error(), "params: "+strconv.FormatInt(least, 10)) {
			t.Errorf("budget %+v: %v", b, err)
			continue
		}
		fraction, _ := strconv.ParseFloat(regexp.MustCompile(`fraction: ([0-9.]+)`).FindStringSubmatch(err.Error())[1], 64)
		if _, err := (Budget{Fraction: fraction}).Limit(s); err != nil {
			t.Errorf("the fraction that was named: %v", err)
		}
	}
}

func TestFaultsAreNamed(t *testing.T) {
	t.Parallel()
	good := testSpace()
	bad := Space{Fields: []Field{{Name: "a", Rows: 1, Kept: 2, Choices: []int{1}}, {Name: "b"}, {Name: "c", Choices: []int{2, 2}}}}
	for want, err := range map[string]error{
		"strategy: \"x\" is none of": second(New(Config{Strategy: "x"}, good)),
		"give one of":                second(New(Config{Budget: Budget{Bytes: 1, Params: 1}}, good)),
		"fraction: 2 is not":         second(New(Config{Budget: Budget{Fraction: 2}}, good)),
		"generations: -1":            second(New(Config{Generations: -1}, good)),
		"keeps 2 of 1 rows":          second(New(Config{}, bad)),
		"b has no width":             second(New(Config{}, bad)),
		"do not ascend":              second(New(Config{}, bad)),
		"has no fields":              second(New(Config{}, Space{})),
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

func second(_ *Search, err error) error { return err }

// A search that is interrupted after any generation, stored and resumed goes the
// same way to the same winner.
func TestResumedSearchIsTheSameSearch(t *testing.T) {
	t.Parallel()
	everyStrategy(t, func(t *testing.T, cfg Config) {
		whole := begin(t, cfg, testSpace())
		finish(t, whole)
		for s := begin(t, cfg, testSpace()); len(s.Ask()) > 0; tell(t, s) {
			stored, err := json.Marshal(s.Trials())
			if err != nil {
				t.Fatal(err)
			}
			var trials []Trial
			if err := json.Unmarshal(stored, &trials); err != nil {
				t.Fatal(err)
			}
			r, err := Resume(cfg, testSpace(), trials)
			if err != nil {
				t.Fatal(err)
			}
			if r.Share() != s.Share() {
				t.Fatalf("generation %d: a share of %v, resumed %v", s.Generation(), s.Share(), r.Share())
			}
			if diff := cmp.Diff(s.Ask(), r.Ask(), cmp.AllowUnexported(Candidate{})); diff != "" {
				t.Fatalf("generation %d is another one\n%s", s.Generation(), diff)
			}
			finish(t, r)
			if diff := cmp.Diff(whole.Trials(), r.Trials(), cmp.AllowUnexported(Candidate{})); diff != "" {
				t.Fatalf("resumed in generation %d (-whole +resumed)\n%s", s.Generation(), diff)
			}
		}
		a, _ := whole.Best()
		if other := begin(t, Config{Strategy: cfg.Strategy, Seed: cfg.Seed + 1, Generations: cfg.Generations, Budget: cfg.Budget}, testSpace()); cfg.Strategy == Evolution {
			if _, err := Resume(Config{Seed: 99, Budget: cfg.Budget}, testSpace(), whole.Trials()); err == nil {
				t.Error("trials of another search were taken")
			}
			_ = other
		}
		if a.Candidate.Fields() == 0 {
			t.Error("no winner")
		}
	})
}

func TestAskIsRepeatableAndTellIsChecked(t *testing.T) {
	t.Parallel()
	s := begin(t, Config{}, testSpace())
	if diff := cmp.Diff(s.Ask(), s.Ask(), cmp.AllowUnexported(Candidate{})); diff != "" {
		t.Error(diff)
	}
	if err := s.Tell(nil); err == nil {
		t.Error("too few scores were taken")
	}
	bad := make([]Score, len(s.Ask()))
	bad[1].AUC = math.NaN()
	if err := s.Tell(bad); err == nil {
		t.Error("a score that is no number was taken")
	}
	if len(s.Trials()) != 0 {
		t.Error("refused scores left trials")
	}
}

// The search does what it is for: it gives fields their planted widths, within a
// budget, and beats the baselines.
func TestEvolutionFindsPlantedWidths(t *testing.T) {
	t.Parallel()
	space := testSpace()
	score := map[string]float64{}
	var winner Trial
	for _, cfg := range []Config{
		{Strategy: Evolution}, {Strategy: Guided}, {Strategy: Random}, {Strategy: Sensitivity}, {Strategy: Uniform}, {Strategy: MDE},
		{Strategy: Evolution, SeedSensitivity: true, Tolerance: 2e-4},
	} {
		cfg.Budget, cfg.Seed = Budget{Fraction: 0.35}, 3
		s := begin(t, cfg, space)
		finish(t, s)
		best, _ := s.Best()
		name := cfg.Strategy
		if cfg.SeedSensitivity {
			name, winner = "seeded", best
		}
		score[name] = best.Score.AUC
	}
	t.Logf("%v; winner %v", score, winner.Candidate)
	for _, baseline := range []string{Random, Uniform, MDE} {
		for _, strategy := range []string{Evolution, Guided, Sensitivity, "seeded"} {
			if score[strategy] <= score[baseline] {
				t.Errorf("%s reaches %v, the baseline %s %v", strategy, score[strategy], baseline, score[baseline])
			}
		}
	}
	for f := range space.Fields {
		want := []int{1, 1, 2, 8, 4, 1}[f%6]
		if got := winner.Candidate.Width(f); want == 1 && got > 2 {
			t.Errorf("the useless field %d is %d wide", f, got)
		}
	}
}

// Screening scores most candidates on a part only, never lets one of them win,
// never scores a candidate twice on the same rows, and finds about as good a
// winner.
func TestScreeningSparesTheHopeless(t *testing.T) {
	t.Parallel()
	for _, strategy := range []string{Evolution, Guided, Random} {
		best := map[float64]Trial{}
		for _, screen := range []float64{1, 0.25} {
			cfg := Config{Strategy: strategy, Seed: 5, Budget: Budget{Fraction: 0.3}, Screen: screen}
			s := begin(t, cfg, testSpace())
			asked, whole := map[Candidate]float64{}, 0
			for c := s.Ask(); len(c) > 0; c = s.Ask() {
				for _, one := range c {
					if asked[one] >= s.Share() {
						t.Fatalf("%s: %v is asked for again on %v of the rows", strategy, one, s.Share())
					}
					asked[one] = s.Share()
				}
				if s.Share() == 1 {
					whole += len(c)
				}
				tell(t, s)
			}
			best[screen], _ = s.Best()
			if best[screen].Partial {
				t.Errorf("%s: %v won by a part of the rows", strategy, best[screen].Candidate)
			}
			report := s.Report(nil)
			if report.Scored != len(asked) || report.Scored-report.Screened != whole {
				t.Errorf("%s: %d candidates, %d given up, but %d and %d were asked for", strategy, report.Scored, report.Screened, len(asked), whole)
			}
			if n := len(asked); screen < 1 && (whole > n/3 || whole < n/5) {
				t.Errorf("%s: %d of %d candidates were scored on all rows", strategy, whole, n)
			}
		}
		if lost := best[1].Score.AUC - best[0.25].Score.AUC; lost > 0.002 {
			t.Errorf("%s loses an AUC of %v by screening", strategy, lost)
		}
	}
}

func TestRankCorrelation(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a, b []int
		want float64
	}{
		{[]int{1, 2, 3, 4}, []int{10, 20, 30, 40}, 1},
		{[]int{1, 2, 3, 4}, []int{4, 3, 2, 1}, -1},
		{[]int{0, 0, 1, 2, 4, 8}, []int{1, 2, 1, 4, 4, 8}, 0.8508410},
		{[]int{1, 1, 1}, []int{1, 2, 3}, 0},
	} {
		if got := rankCorrelation(c.a, c.b); math.Abs(got-c.want) > 1e-6 {
			t.Errorf("%v and %v: %v, want %v", c.a, c.b, got, c.want)
		}
	}
}

func TestFrontHasNothingDominated(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var trials []Trial
		for i := range rapid.IntRange(0, 30).Draw(t, "n") {
			trials = append(trials, Trial{Candidate: NewCandidate([]int{i}),
				Parameters: rapid.Int64Range(0, 8).Draw(t, "size"), Score: Score{AUC: float64(rapid.IntRange(0, 8).Draw(t, "auc"))}})
		}
		front := Front(trials)
		for _, tr := range trials {
			covered := slices.ContainsFunc(front, func(f Trial) bool { return f.Parameters <= tr.Parameters && f.Score.AUC >= tr.Score.AUC })
			if !covered {
				t.Fatalf("%v is in no relation to the front %v", tr, front)
			}
		}
		for i := 1; i < len(front); i++ {
			if front[i].Parameters <= front[i-1].Parameters || front[i].Score.AUC <= front[i-1].Score.AUC {
				t.Fatalf("the front does not ascend: %v", front)
			}
		}
	})
}

func TestRandomCandidatesFitAnyFeasibleBudget(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var s Space
		for f := range rapid.IntRange(1, 6).Draw(t, "fields") {
			rows := rapid.Int64Range(0, 1000).Draw(t, "rows")
			first := rapid.IntRange(0, 2).Draw(t, "first")
			s.Fields = append(s.Fields, Field{Name: strconv.Itoa(f), Rows: rows, Kept: rapid.Int64Range(0, rows).Draw(t, "kept"), Choices: []int{first, first + 2, first + 5}})
		}
		least := s.Parameters(s.Smallest())
		limit := least + rapid.Int64Range(0, 5000).Draw(t, "more")
		d := &draws{stream: rapid.Uint64().Draw(t, "stream")}
		for range 5 {
			if c := s.random(d, limit); !s.Contains(c) || s.Parameters(c) > limit {
				t.Fatalf("candidate %v of %d parameters, limit %d", c, s.Parameters(c), limit)
			}
		}
		for name, c := range map[string]Candidate{"uniform": uniform(s, limit), "mde": mde(s, limit)} {
			if !s.Contains(c) || s.Parameters(c) > limit {
				t.Fatalf("%s gives %v of %d parameters, limit %d", name, c, s.Parameters(c), limit)
			}
		}
	})
}

func TestCandidateJSON(t *testing.T) {
	t.Parallel()
	c := NewCandidate([]int{0, 1, 300})
	b, err := json.Marshal(c)
	if err != nil || string(b) != "[0,1,300]" {
		t.Fatalf("%s, %v", b, err)
	}
	var back Candidate
	if err := json.Unmarshal(b, &back); err != nil || back != c {
		t.Errorf("%v, %v", back, err)
	}
	if err := json.Unmarshal([]byte("[70000]"), &back); err == nil {
		t.Error("a width of 70000 was taken")
	}
	if c.String() != "0 1 300" {
		t.Error(c.String())
	}
}
