package search

import (
	"cmp"
	"math"
	"slices"
)

// Report is a search as it is shown.
type Report struct {
	Strategy   string `json:"strategy"`
	Generation int    `json:"generation"`
	// Generations is how many were asked for; trimming and sensitivity add some.
	Generations int  `json:"generations"`
	Finished    bool `json:"finished"`
	// Scored is the number of different candidates; Screened of them were given up
	// after a part of the validation split.
	Scored   int `json:"scored"`
	Screened int `json:"screened,omitempty"`
	// LimitParameters is the budget; FullParameters are those of the supernet.
	LimitParameters int64         `json:"limit_parameters,omitempty"`
	FullParameters  int64         `json:"full_parameters"`
	Best            *Trial        `json:"best,omitempty"`
	Fields          []FieldReport `json:"fields"`
	// Largest is the candidate that keeps all the supernet has.
	Largest Candidate `json:"largest"`
	// Clusters is how many samples each cluster has of those that were grouped, where
	// samples have dimensions of their own (ihas).
	Clusters []int64 `json:"clusters,omitempty"`
	Front    []Trial `json:"front,omitempty"`
	// Trials are all of them, when the search is finished.
	Trials []Trial `json:"trials,omitempty"`
	// PlantedCorrelation is the rank correlation of the widths found with those of
	// the hidden model of generated data; nil for other data.
	PlantedCorrelation *float64 `json:"planted_correlation,omitempty"`
	// Passes counts how often a part of the validation split was pulled; each
	// serves several candidates. CPUSeconds is the time of servers and workers for
	// the supernet and for the search.
	Passes int64 `json:"passes"`
	// Checkpoint is that of the supernet, when it is kept.
	Checkpoint string             `json:"checkpoint,omitempty"`
	CPUSeconds map[string]float64 `json:"cpu_seconds,omitempty"`
}

// FieldReport is one table of a Report.
type FieldReport struct {
	Name string `json:"name"`
	Rows int64  `json:"rows"`
	// Kept are those that the best candidate keeps.
	Kept int64 `json:"kept"`
	// Threshold is the pruning threshold, 0 without pruning.
	Threshold float32 `json:"threshold,omitempty"`
	// Width is that of the best candidate, Full that of the supernet.
	Width int `json:"width"`
	Full  int `json:"full"`
	// Dims are the dimensions that the best candidate keeps, where they are not the
	// first ones.
	Dims []int `json:"dims,omitempty"`
	// EffectiveRank is the number of dimensions its kept rows use.
	EffectiveRank float64 `json:"effective_rank,omitempty"`
	// Planted is its width in the hidden model of generated data.
	Planted *int `json:"planted,omitempty"`
}

// Report describes the search and its survey.
func (s *Search) Report(survey *Survey) Report {
	r := Report{Strategy: s.cfg.Strategy, Generation: s.generation, Generations: s.cfg.Generations, Finished: len(s.open) == 0,
		Scored: len(s.trials), FullParameters: s.space.FullParameters(), Front: s.Front(), Largest: s.space.Largest()}
	if s.limit < r.FullParameters {
		r.LimitParameters = s.limit
	}
	for _, t := range s.trials {
		if t.Partial {
			r.Screened++
		}
	}
	for _, c := range s.space.Clusters {
		r.Clusters = append(r.Clusters, c.Samples)
	}
	best, found := s.Best()
	if found {
		r.Best = &best
	}
	for f, field := range s.space.Fields[:s.space.Tables()] {
		of := FieldReport{Name: field.Name, Rows: field.Rows, Kept: field.Kept, Full: field.Choices[len(field.Choices)-1]}
		if found {
			if dims := s.space.Dims(best.Candidate); dims != nil {
				of.Dims = dims[f]
			}
			of.Width, of.Kept = best.Candidate.Width(f), s.space.Level(best.Candidate, f).Kept
		}
		if survey != nil {
			if len(survey.Thresholds) > f {
				of.Threshold = survey.Thresholds[f]
			}
			if len(survey.Planted) > f {
				of.Planted = &survey.Planted[f]
			}
			if g := survey.Tables[f].Gram; len(g) > 0 {
				of.EffectiveRank = EffectiveRank(Spectrum(g))
			}
		}
		r.Fields = append(r.Fields, of)
	}
	if survey != nil && len(survey.Planted) > 0 && found {
		rho := rankCorrelation(survey.Planted, s.space.Widths(best.Candidate))
		r.PlantedCorrelation = &rho
	}
	if r.Finished {
		r.Trials = s.Trials()
	}
	return r
}

// rankCorrelation is Spearman's: the correlation of the ranks of a and b, where
// equal values share the mean of their ranks. It is 0 when either is constant.
func rankCorrelation(a, b []int) float64 {
	x, y := ranks(a), ranks(b)
	mean := float64(len(a)-1) / 2
	var xy, xx, yy float64
	for i := range x {
		dx, dy := x[i]-mean, y[i]-mean
		xy, xx, yy = xy+dx*dy, xx+dx*dx, yy+dy*dy
	}
	if xx == 0 || yy == 0 {
		return 0
	}
	return xy / math.Sqrt(xx*yy)
}

func ranks(v []int) []float64 {
	order := make([]int, len(v))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(i, j int) int { return cmp.Compare(v[i], v[j]) })
	r := make([]float64, len(v))
	for lo := 0; lo < len(order); {
		hi := lo
		for hi < len(order) && v[order[hi]] == v[order[lo]] {
			hi++
		}
		for _, i := range order[lo:hi] {
			r[i] = float64(lo+hi-1) / 2
		}
		lo = hi
	}
	return r
}
