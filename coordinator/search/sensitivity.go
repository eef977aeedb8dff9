package search

import (
	"slices"
)

// sensitivity narrows one field at a time and measures what it costs: one
// generation with every field at every narrower choice, the others at their full
// width, whatever the budget. From the costs it makes candidates that keep the
// budget greedily, by cost per weight saved, and scores them.
//
// It is a closed form given the measurements, so it makes a seed for evolution,
// and what `fathom search explain` shows.
type sensitivity struct {
	space Space
	limit int64
	stage int
	// base is what single fields are narrowed from; probes are the narrowed ones.
	base   Candidate
	probes []probe
	told   map[Candidate]Trial
}

// probe is one field at one narrower choice.
type probe struct {
	field, choice int
	candidate     Candidate
}

func newSensitivity(space Space, limit int64) *sensitivity {
	s := &sensitivity{space: space, limit: limit, base: space.Largest(), told: map[Candidate]Trial{}}
	for f, field := range space.Fields {
		for i, w := range field.Choices {
			if w < s.base.Width(f) {
				s.probes = append(s.probes, probe{f, i, s.base.With(f, w)})
			}
		}
	}
	return s
}

// Ask implements Strategy.
func (s *sensitivity) Ask() []Candidate {
	s.stage++
	switch s.stage {
	case 1:
		c := []Candidate{s.base}
		for _, p := range s.probes {
			c = append(c, p.candidate)
		}
		return c
	case 2:
		return s.greedy()
	}
	return nil
}

// Finalists implements Strategy: costs are differences, so the part of the split
// does for all that is narrowed; what is combined may win.
func (s *sensitivity) Finalists(trials []Trial) []Trial {
	if s.stage == 1 {
		return trials[:1]
	}
	return trials
}

// Tell implements Strategy.
func (s *sensitivity) Tell(trials []Trial) {
	for _, t := range trials {
		s.told[t.Candidate] = t
	}
}

// cost is the AUC lost when a field is narrowed to a choice; what costs nothing,
// or seems to help, costs nothing.
func (s *sensitivity) cost(field, width int) float64 {
	if width >= s.base.Width(field) {
		return 0
	}
	return max(0, s.told[s.base].screenAUC()-s.told[s.base.With(field, width)].screenAUC())
}

// greedySizes are the shares of the limit that candidates are made for.
var greedySizes = []float64{1, 0.75, 0.5, 0.35, 0.25, 0.15, 0.1, 0.05}

// greedy narrows from the base, always what costs least per weight saved, and
// takes the candidate at several sizes.
func (s *sensitivity) greedy() []Candidate {
	var made []Candidate
	w := s.base.Widths()
	most := min(s.limit, s.space.Parameters(s.base))
	for _, share := range greedySizes {
		target := int64(float64(most) * share)
		for s.space.Parameters(NewCandidate(w)) > target {
			f, to, ok := s.cheapest(w)
			if !ok {
				break
			}
			w[f] = to
		}
		if c := NewCandidate(w); s.space.Parameters(c) <= s.limit && !slices.Contains(made, c) {
			made = append(made, c)
		}
	}
	return made
}

// cheapest finds the narrowing with the least cost per weight saved. Several
// choices are looked at, because the next one may cost more than those behind.
func (s *sensitivity) cheapest(w []int) (field, width int, ok bool) {
	least := 0.0
	from := NewCandidate(w)
	for f, v := range s.space.Fields {
		for _, to := range v.Choices {
			saved := float64(s.space.Parameters(from) - s.space.Parameters(from.With(f, to)))
			if saved <= 0 {
				continue
			}
			ratio := (s.cost(f, to) - s.cost(f, w[f]) + costFloor) / saved
			if !ok || ratio < least {
				field, width, least, ok = f, to, ratio, true
			}
		}
	}
	return field, width, ok
}

// costFloor keeps noise in the costs from deciding: among narrowings that cost
// nothing, the one that saves most comes first.
const costFloor = 1e-6
