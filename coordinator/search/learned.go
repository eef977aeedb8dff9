package search

import (
	"cmp"
	"fmt"
	"math"
	"slices"
)

// Strategies that read the widths off the supernet: off its rows or off the gates
// it learned. They propose one candidate at the limit and some smaller ones, so
// that a tolerance has something to choose from.

// learned reports a space that lacks what its strategy reads.
func learned(cfg Config, s Space) error {
	for _, f := range s.Fields[:s.Tables()] {
		gates := map[string]int{DNIS: 1, IHAS: 1, AutoDim: len(f.Choices)}[cfg.Strategy]
		if f.Worth != nil {
			gates = f.Choices[len(f.Choices)-1]
		}
		switch {
		case gates > 0 && s.Tables() < len(s.Fields):
			return fmt.Errorf("strategy %s learns widths, it cannot choose rows", cfg.Strategy)
		case len(f.Gates) < gates:
			return fmt.Errorf("field %s has %d gates, strategy %s reads %d", f.Name, len(f.Gates), cfg.Strategy, gates)
		case (cfg.Strategy == ARD || cfg.Strategy == PEP || cfg.SeedRelevance) && len(f.Variance) < f.Choices[len(f.Choices)-1]:
			return fmt.Errorf("field %s has the variance of %d dimensions, of %d", f.Name, len(f.Variance), f.Choices[len(f.Choices)-1])
		}
	}
	return nil
}

// sizes are the limits that candidates are made for.
func sizes(s Space, limit int64) []int64 {
	most := min(limit, s.Parameters(s.Largest()))
	var all []int64
	for _, share := range greedySizes {
		all = append(all, int64(float64(most)*share))
	}
	return all
}

// ard keeps the dimensions of the rows that vary most, per weight they cost, as
// automatic relevance determination does with the axes of a latent space (Saha et
// al. 2025; without the sensitivities, which are taken to be equal). A dimension
// with a relevant one behind it stays, too, because widths are prefixes; those of
// which nothing is left, behind soft thresholds, go whatever the limit.
func ard(s Space, limit int64) []Candidate {
	type step struct {
		field, width int
		worth        float64
	}
	var steps []step
	for f, field := range s.Fields[:s.Tables()] {
		below := field.Choices[0]
		for _, w := range field.Choices[1:] {
			gain := 0.0
			for _, v := range field.Variance[min(below, len(field.Variance)):min(w, len(field.Variance))] {
				gain += v
			}
			steps = append(steps, step{f, w, gain / float64(max(1, field.Kept*int64(w-below)))})
			below = w
		}
		// What is behind carries what is in front of it.
		for i := len(steps) - 2; i >= 0 && steps[i].field == f; i-- {
			steps[i].worth = max(steps[i].worth, steps[i+1].worth)
		}
	}
	slices.SortStableFunc(steps, func(a, b step) int { return cmp.Compare(b.worth, a.worth) })
	var made []Candidate
	for _, most := range sizes(s, limit) {
		c := s.AtMost(make([]float64, s.Tables())) // the least widths, all rows
		for _, st := range steps {
			if next := c.With(st.field, max(st.width, c.Width(st.field))); st.worth > 0 && s.Parameters(next) <= most {
				c = next
			}
		}
		made = add(made, c)
	}
	return made
}

// add appends a candidate that is not there yet.
func add(made []Candidate, c Candidate) []Candidate {
	if slices.Contains(made, c) {
		return made
	}
	return append(made, c)
}

// dnis reads what is kept off soft gates: widths off those of prefixes, or single
// dimensions off those of dimensions, which ihas has, too: there a gate is the share of
// the samples that have the dimension open.
func dnis(s Space, limit int64) []Candidate {
	if s.Fields[0].Worth != nil {
		return dimensions(s, limit)
	}
	return prefixes(s, limit)
}

// dimensions keeps, of all fields, what is worth most with the gates multiplied in:
// above one threshold, the lowest that keeps the limit (DNIS prunes single weights so,
// here a weight has the threshold of its field and dimension). Dimensions whose gate is
// closed are worth nothing and go whatever the limit.
func dimensions(s Space, limit int64) []Candidate {
	var thresholds []float64
	for _, f := range s.Fields {
		thresholds = append(thresholds, f.Worth...)
	}
	slices.Sort(thresholds)
	at := func(scale float64) Candidate { // the larger, the more is kept
		least := thresholds[int(math.Round((1-scale)*float64(len(thresholds)-1)))]
		widths := make([]float64, len(s.Fields))
		for f, field := range s.Fields {
			for _, v := range field.Worth {
				if v > 0 && v >= least {
					widths[f]++
				}
			}
		}
		return s.AtMost(widths)
	}
	var made []Candidate
	for _, most := range sizes(s, min(limit, s.Parameters(at(1)))) {
		made = add(made, bisect(s, most, at, 0, 1))
	}
	return made
}

// prefixes reads the widths off soft prefix gates (DNIS, Cheng et al. 2020, in its
// structured form): all are scaled by the same factor, the largest that keeps the
// limit.
func prefixes(s Space, limit int64) []Candidate {
	at := func(scale float64) Candidate {
		widths := make([]float64, len(s.Fields))
		for f, field := range s.Fields {
			widths[f] = math.Round(scale * float64(field.Gates[0]))
		}
		return s.AtMost(widths)
	}
	most := sizes(s, limit)
	if c := at(1); s.Parameters(c) <= limit {
		// What was learned needs no more.
		most = sizes(s, s.Parameters(c))
	}
	var made []Candidate
	for _, limit := range most {
		made = add(made, bisect(s, limit, at, 0, 1))
	}
	return made
}

// autodim reads the widths off learned probabilities: of every field the most
// probable one. A limit is kept by a price per weight, the lowest that does.
func autodim(s Space, limit int64) []Candidate {
	at := func(scale float64) Candidate {
		price := math.Exp(-40*scale) - math.Exp(-40) // 0 at scale 1
		return s.pick(func(f Field) int {
			best, chosen := math.Inf(-1), f.Choices[0]
			for c, w := range f.Choices {
				// The earlier, narrower one of equals.
				if v := float64(f.Gates[c]) - price*float64(f.Kept)*float64(w); v > best {
					best, chosen = v, w
				}
			}
			return chosen
		})
	}
	var made []Candidate
	for _, most := range sizes(s, min(limit, s.Parameters(at(1)))) {
		made = add(made, bisect(s, most, at, 0, 1))
	}
	return made
}

// bisect returns the candidate at the largest scale in [lo, hi] that keeps a
// limit; sizes grow with the scale. None keeps it: the smallest candidate.
func bisect(s Space, limit int64, at func(scale float64) Candidate, lo, hi float64) Candidate {
	if c := at(hi); s.Parameters(c) <= limit {
		return c
	}
	best := s.Smallest()
	for range 50 {
		mid := (lo + hi) / 2
		if c := at(mid); s.Parameters(c) <= limit {
			best, lo = c, mid
		} else {
			hi = mid
		}
	}
	return best
}
