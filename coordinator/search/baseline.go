package search

import (
	"math"

	"github.com/fathom-train/fathom/compute/random"
)

// fixed proposes given candidates once.
type fixed struct {
	candidates []Candidate
}

// Ask implements Strategy.
func (s *fixed) Ask() []Candidate { return s.candidates }

// Finalists implements Strategy.
func (s *fixed) Finalists(trials []Trial) []Trial { return trials }

// Tell implements Strategy.
func (s *fixed) Tell([]Trial) { s.candidates = nil }

// randomSearch draws every generation at random.
type randomSearch struct {
	cfg        Config
	space      Space
	limit      int64
	generation int
}

// Ask implements Strategy.
func (s *randomSearch) Ask() []Candidate {
	if s.generation == s.cfg.Generations {
		return nil
	}
	s.generation++
	d := &draws{stream: random.Stream(s.cfg.Seed, random.Search, uint64(s.generation), 1, 0)}
	drawn := make([]Candidate, s.cfg.Population)
	for i := range drawn {
		drawn[i] = s.space.random(d, s.limit)
	}
	return drawn
}

// Finalists implements Strategy.
func (s *randomSearch) Finalists(trials []Trial) []Trial { return promising(trials, s.limit) }

// Tell implements Strategy.
func (s *randomSearch) Tell([]Trial) {}

// uniform gives all fields the same width, the largest within the limit.
func uniform(s Space, limit int64) Candidate {
	best := s.Smallest()
	widths := make([]float64, len(s.Fields))
	largest := 0
	for _, f := range s.Fields[:s.Tables()] {
		largest = max(largest, f.Choices[len(f.Choices)-1])
	}
	for w := 1; w <= largest; w++ {
		for f := range widths {
			widths[f] = float64(w)
		}
		if c := s.AtMost(widths); s.Parameters(c) <= limit {
			best = c
		}
	}
	return best
}

// mde is the mixed dimension rule (Ginart et al. 2019): the width of a field
// falls with a power of its rows, d = d0 * (n / n_min)^-power. The power is the
// smallest that keeps the limit, found by bisection.
func mde(s Space, limit int64) Candidate {
	least, top := math.Inf(1), 0
	for _, f := range s.Fields[:s.Tables()] {
		if f.Kept > 0 {
			least = min(least, float64(f.Kept))
		}
		top = max(top, f.Choices[len(f.Choices)-1])
	}
	at := func(power float64) Candidate {
		widths := make([]float64, len(s.Fields))
		for f, field := range s.Fields[:s.Tables()] {
			widths[f] = float64(top) * math.Pow(max(1, float64(field.Kept)/least), -power)
		}
		return s.AtMost(widths)
	}
	lo, hi := 0.0, 64.0
	if c := at(lo); s.Parameters(c) <= limit {
		return c
	}
	if c := at(hi); s.Parameters(c) > limit {
		return uniform(s, limit) // fields of equal size cannot be told apart
	}
	for range 50 {
		if mid := (lo + hi) / 2; s.Parameters(at(mid)) <= limit {
			hi = mid
		} else {
			lo = mid
		}
	}
	return at(hi)
}
