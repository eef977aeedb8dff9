package search

import (
	"slices"

	"github.com/fathom-train/fathom/compute/random"
)

// evolution is OptEmbed's search (Lyu et al. 2022, section 3.4): the archive of
// the best candidates carries over, half of every generation are crossovers of
// two parents from it, field by field, the other half mutations of one. Children
// that break the budget are narrowed until they keep it.
//
// With Config.Pareto the parents are the front of size and AUC instead. With
// strategy guided every child is the most promising of several, as judged by a
// regression on all trials so far (the idea of BOSHNAS, Tuli et al. 2022).
type evolution struct {
	cfg        Config
	space      Space
	limit      int64
	generation int
	archive    Archive
	all        []Trial // for the front and the regression
	seen       map[Candidate]bool
	model      *regression // of all trials; nil when it is to be fitted anew
	// first run one after the other before the first generation, which they seed.
	first []Strategy
}

func newEvolution(cfg Config, space Space, limit int64) *evolution {
	e := &evolution{cfg: cfg, space: space, limit: limit, archive: Archive{Size: cfg.Archive}, seen: map[Candidate]bool{}}
	if cfg.SeedSensitivity {
		e.first = append(e.first, newSensitivity(space, limit))
	}
	if cfg.SeedRelevance {
		e.first = append(e.first, &fixed{candidates: ard(space, limit)})
	}
	return e
}

// Ask implements Strategy.
func (e *evolution) Ask() []Candidate {
	for len(e.first) > 0 {
		if c := e.first[0].Ask(); len(c) > 0 {
			return c
		}
		e.first = e.first[1:]
	}
	if e.generation == e.cfg.Generations {
		return nil
	}
	e.generation++
	d := &draws{stream: random.Stream(e.cfg.Seed, random.Search, uint64(e.generation), 0, 0)}
	var children []Candidate
	add := func(child func() Candidate) {
		c := e.fresh(child)
		e.seen[c] = true
		children = append(children, c)
	}
	if len(e.parents()) == 0 {
		children = append(children, uniform(e.space, e.limit))
	}
	for len(children) < e.cfg.Population {
		if parents := e.parents(); len(parents) == 0 {
			add(func() Candidate { return e.space.random(d, e.limit) })
		} else if len(children) < e.cfg.Population/2 {
			add(func() Candidate { return e.crossover(parents, d) })
		} else {
			add(func() Candidate { return e.mutate(parents, d) })
		}
	}
	return children
}

// Finalists implements Strategy.
func (e *evolution) Finalists(trials []Trial) []Trial {
	if len(e.first) > 0 {
		return e.first[0].Finalists(trials)
	}
	chosen := promising(trials, e.limit)
	if e.cfg.Pareto {
		chosen = append(chosen, partFront(trials, e.limit)...)
	}
	return chosen
}

// Tell implements Strategy.
func (e *evolution) Tell(trials []Trial) {
	if len(e.first) > 0 {
		e.first[0].Tell(trials)
	}
	for _, t := range trials {
		e.seen[t.Candidate] = true
	}
	e.all, e.model = append(e.all, trials...), nil
	e.archive.Add(within(trials, e.limit)...)
}

// parents are what children are made from.
func (e *evolution) parents() []Trial {
	if e.cfg.Pareto {
		return Front(within(e.all, e.limit))
	}
	return e.archive.Trials
}

// Numbers of draws: triesMax to find a child that was not seen, guidesMax
// children that the regression chooses from.
const (
	triesMax  = 16
	guidesMax = 16
)

// fresh returns a child that was not asked for before, if it finds one soon.
func (e *evolution) fresh(child func() Candidate) Candidate {
	var options []Candidate
	want := 1
	if e.cfg.Strategy == Guided && len(e.all) > 0 {
		want = guidesMax
	}
	var c Candidate
	for range triesMax * want {
		if c = child(); !e.seen[c] && !slices.Contains(options, c) {
			if options = append(options, c); len(options) == want {
				break
			}
		}
	}
	switch len(options) {
	case 0:
		return c
	case 1:
		return options[0]
	}
	if e.model == nil {
		e.model = regress(e.space, e.all)
	}
	return e.model.best(options)
}

// crossover takes every field from one of two parents.
func (e *evolution) crossover(parents []Trial, d *draws) Candidate {
	a, b := parents[d.below(len(parents))].Candidate, parents[d.below(len(parents))].Candidate
	w := a.Widths()
	for f := range w {
		if d.below(2) == 1 {
			w[f] = b.Width(f)
		}
	}
	return e.space.fit(NewCandidate(w), d, e.limit)
}

// mutate draws fields of a copy of a parent anew, each with the probability of
// the configuration.
func (e *evolution) mutate(parents []Trial, d *draws) Candidate {
	w := parents[d.below(len(parents))].Candidate.Widths()
	for f, field := range e.space.Fields {
		if d.unit() < e.cfg.Mutation {
			w[f] = field.Choices[d.below(len(field.Choices))]
		}
	}
	return e.space.fit(NewCandidate(w), d, e.limit)
}
