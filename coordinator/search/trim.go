package search

import (
	"cmp"
	"slices"
)

// trim follows another strategy and gives away the width that buys nothing: a
// strategy that is judged by its score alone has no reason to narrow a useless
// field as long as the budget allows it. Each round measures what narrowing
// single fields of the winner costs, then scores combinations of what cost
// least. Whatever stays within the tolerance of the best score may win.
type trim struct {
	Strategy
	space     Space
	limit     int64
	tolerance float64

	all    []Trial // by the strategy and by trimming
	rounds int
	over   bool // the strategy has finished
	// base is the winner being narrowed, probes what was tried; combined tells
	// that their combinations were asked for.
	base     Trial
	probes   []Candidate
	combined bool
}

// Bounds of trimming.
const (
	trimRounds   = 4
	combinations = 12
)

// Ask implements Strategy.
func (t *trim) Ask() []Candidate {
	if !t.over {
		if c := t.Strategy.Ask(); len(c) > 0 {
			return c
		}
		t.over = true
	}
	if t.probes != nil && !t.combined {
		t.combined = true
		if c := t.combine(); len(c) > 0 {
			return c
		}
	}
	winner := smallestWithin(within(t.all, t.limit), t.tolerance)
	if t.rounds == trimRounds || t.rounds > 0 && winner.Candidate == t.base.Candidate {
		return nil
	}
	t.rounds++
	t.base, t.probes, t.combined = winner, nil, false
	for f, field := range t.space.Fields {
		at := slices.Index(field.Choices, winner.Candidate.Width(f))
		for _, i := range slices.Compact([]int{0, at / 2, at - 1}) {
			if i >= 0 && i < at {
				t.probes = append(t.probes, winner.Candidate.With(f, field.Choices[i]))
			}
		}
	}
	return t.probes
}

// Finalists implements Strategy: the costs of single steps are differences, for
// which the part of the split does; their combinations may win.
func (t *trim) Finalists(trials []Trial) []Trial {
	switch {
	case !t.over:
		return t.Strategy.Finalists(trials)
	case t.combined:
		return trials
	}
	return nil
}

// Tell implements Strategy.
func (t *trim) Tell(trials []Trial) {
	t.all = append(t.all, trials...)
	if !t.over {
		t.Strategy.Tell(trials)
	}
}

// combine narrows the winner step by step in the order of what the steps cost by
// themselves, and returns candidates spread over the way.
func (t *trim) combine() []Candidate {
	score := map[Candidate]float64{}
	for _, tr := range t.all {
		score[tr.Candidate] = tr.screenAUC()
	}
	cost := func(c Candidate) float64 { return t.base.screenAUC() - score[c] }
	order := slices.Clone(t.probes)
	slices.SortStableFunc(order, func(a, b Candidate) int { return cmp.Compare(cost(a), cost(b)) })
	w := t.base.Candidate.Widths()
	var way []Candidate
	for _, c := range order {
		if cost(c) > t.tolerance {
			break
		}
		for f := range w {
			w[f] = min(w[f], c.Width(f))
		}
		way = append(way, NewCandidate(w))
	}
	if len(way) <= combinations {
		return way
	}
	spread := make([]Candidate, combinations)
	for i := range spread {
		spread[i] = way[(i+1)*len(way)/combinations-1]
	}
	return spread
}
