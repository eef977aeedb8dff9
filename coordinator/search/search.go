package search

import (
	"errors"
	"fmt"
	"math"
	"slices"
)

// Strategy proposes candidates. It may assume that every generation it asked for
// is told before it asks again.
type Strategy interface {
	// Ask returns the candidates of the next generation; none when it is finished.
	// A candidate may be one that was asked for before, and may break the budget:
	// then it is measured, but cannot win.
	Ask() []Candidate
	// Finalists chooses, among the trials of what Ask returned, those that deserve
	// to be scored on the whole validation split: they were scored on a part of it.
	// It is not called without screening.
	Finalists(trials []Trial) []Trial
	// Tell hands over the trials of what Ask returned, in that order.
	Tell(trials []Trial)
}

// Search runs one strategy over one space.
type Search struct {
	cfg   Config
	space Space
	limit int64

	strategy   Strategy
	trials     []Trial // in the order they were first asked for
	byWidths   map[Candidate]int
	generation int
	asked      []Candidate // of the generation under way
	open       []Candidate // the different ones among them that need a score
	whole      bool        // open are to be scored on the whole split
}

// New checks budget and space and begins a search.
func New(cfg Config, space Space) (*Search, error) {
	cfg = cfg.WithDefaults()
	if err := errors.Join(cfg.Validate(), space.Validate()); err != nil {
		return nil, err
	}
	if err := learned(cfg, space); err != nil {
		return nil, err
	}
	limit, err := cfg.Budget.Limit(space)
	if err != nil {
		return nil, err
	}
	s := &Search{cfg: cfg, space: space, limit: limit, byWidths: map[Candidate]int{}}
	s.strategy = newStrategy(cfg, space, limit)
	if cfg.Tolerance > 0 {
		s.strategy = &trim{Strategy: s.strategy, space: space, limit: limit, tolerance: cfg.Tolerance}
	}
	s.advance()
	return s, nil
}

// newStrategy builds the configured strategy.
func newStrategy(cfg Config, space Space, limit int64) Strategy {
	switch cfg.Strategy {
	case Random:
		return &randomSearch{cfg: cfg, space: space, limit: limit}
	case Sensitivity:
		return newSensitivity(space, limit)
	case Uniform:
		return &fixed{candidates: []Candidate{uniform(space, limit)}}
	case MDE:
		return &fixed{candidates: []Candidate{mde(space, limit)}}
	case ARD, PEP:
		return &fixed{candidates: ard(space, limit)}
	case DNIS, IHAS:
		return &fixed{candidates: dnis(space, limit)}
	case AutoDim:
		return &fixed{candidates: autodim(space, limit)}
	}
	return newEvolution(cfg, space, limit)
}

// advance asks the strategy until a candidate needs a score or it is finished.
// Generations whose candidates are all known cost nothing.
func (s *Search) advance() {
	for {
		s.asked = s.strategy.Ask()
		if len(s.asked) == 0 {
			return
		}
		s.generation++
		for _, c := range s.asked {
			if !s.space.Contains(c) {
				panic(fmt.Sprintf("coordinator/search: BUG: %s proposes %v, outside the space", s.cfg.Strategy, c))
			}
			if _, known := s.byWidths[c]; !known && !slices.Contains(s.open, c) {
				s.open = append(s.open, c)
			}
		}
		if s.whole = s.cfg.Screen >= 1; len(s.open) > 0 || !s.whole && s.finals() {
			return
		}
		s.deliver()
	}
}

// finals opens the finalists of the generation, which is screened; false: all
// have their scores.
func (s *Search) finals() bool {
	s.whole = true
	for _, t := range s.strategy.Finalists(s.told()) {
		if t.Partial && !slices.Contains(s.open, t.Candidate) {
			s.open = append(s.open, t.Candidate)
		}
	}
	return len(s.open) > 0
}

// deliver tells the strategy the generation that has all its scores.
func (s *Search) deliver() { s.strategy.Tell(s.told()) }

// told are the trials of the generation under way.
func (s *Search) told() []Trial {
	told := make([]Trial, len(s.asked))
	for i, c := range s.asked {
		told[i] = s.trials[s.byWidths[c]]
	}
	return told
}

// Ask returns the candidates that need a score now, on Share of the validation
// split: different ones, none of which was scored so before. None means that the
// search is finished. Until Tell it returns the same.
func (s *Search) Ask() []Candidate { return slices.Clone(s.open) }

// Share is the share of the validation rows that what Ask returns is to be scored
// on: with screening, a generation is scored on a part first, then its finalists
// on the whole.
func (s *Search) Share() float64 {
	if s.whole {
		return 1
	}
	return s.cfg.Screen
}

// Order is what workers are told to score candidates of Ask.
func (s *Search) Order(candidates []Candidate) Order { return s.space.Order(candidates, s.Share()) }

// Generation is the number of the generation under way, from 1.
func (s *Search) Generation() int { return s.generation }

// Space returns the space, Limit the most parameters a candidate may have.
func (s *Search) Space() Space { return s.space }

// Limit is the budget in parameters.
func (s *Search) Limit() int64 { return s.limit }

// Tell takes the scores of what Ask returns, in that order.
func (s *Search) Tell(scores []Score) error {
	if len(scores) != len(s.open) {
		return fmt.Errorf("%d scores for %d candidates", len(scores), len(s.open))
	}
	for i, score := range scores {
		if math.IsNaN(score.AUC) || math.IsNaN(score.LogLoss) {
			return fmt.Errorf("the score of candidate %v is not a number", s.open[i])
		}
	}
	if len(scores) == 0 {
		return nil
	}
	s.trials = s.After(scores)
	for i, t := range s.trials {
		s.byWidths[t.Candidate] = i
	}
	s.open = nil
	if !s.whole && s.finals() {
		return nil
	}
	s.deliver()
	s.advance()
	return nil
}

// After returns the trials as they are once these scores are told: what has to be
// stored before.
func (s *Search) After(scores []Score) []Trial {
	trials := slices.Clone(s.trials)
	for i, c := range s.open {
		if at, known := s.byWidths[c]; known { // screened before
			trials[at].Score, trials[at].Partial = scores[i], false
			continue
		}
		t := Trial{Candidate: c, Score: scores[i], Parameters: s.space.Parameters(c), Generation: s.generation}
		if !s.whole {
			part := scores[i]
			t.Part, t.Partial = &part, true
		}
		trials = append(trials, t)
	}
	return trials
}

// Trials returns all trials in the order in which they were asked for.
func (s *Search) Trials() []Trial { return slices.Clone(s.trials) }

// Best returns the winner so far, among the candidates that keep the budget: the
// best one, or the smallest that is at most the tolerance below it.
func (s *Search) Best() (Trial, bool) {
	within := within(s.trials, s.limit)
	if len(within) == 0 {
		return Trial{}, false
	}
	return smallestWithin(within, s.cfg.Tolerance), true
}

// Front is the Pareto front of all trials.
func (s *Search) Front() []Trial { return Front(s.trials) }

// Resume begins a search and tells it the trials of one that was interrupted, as
// Trials or After returned them. Trials that do not belong to this search are an
// error.
func Resume(cfg Config, space Space, trials []Trial) (*Search, error) {
	s, err := New(cfg, space)
	if err != nil {
		return nil, err
	}
	stored := make(map[Candidate]Trial, len(trials))
	for _, t := range trials {
		stored[t.Candidate] = t
	}
	for scores, ok := s.scoresOf(stored); ok; scores, ok = s.scoresOf(stored) {
		if err := s.Tell(scores); err != nil {
			return nil, fmt.Errorf("resume the search: %w", err)
		}
	}
	for i, t := range trials {
		if i >= len(s.trials) || s.trials[i].Candidate != t.Candidate || s.trials[i].Partial != t.Partial {
			return nil, fmt.Errorf("resume the search: stored trial %d, %v, is none that this search asks for there", i, t.Candidate)
		}
	}
	return s, nil
}

// scoresOf finds the scores that are asked for among stored trials; false: not
// all are there.
func (s *Search) scoresOf(stored map[Candidate]Trial) (scores []Score, ok bool) {
	for _, c := range s.open {
		switch t, found := stored[c]; {
		case found && s.whole && !t.Partial:
			scores = append(scores, t.Score)
		case found && !s.whole && t.Part != nil:
			scores = append(scores, *t.Part)
		default:
			return nil, false
		}
	}
	return scores, len(scores) > 0
}
