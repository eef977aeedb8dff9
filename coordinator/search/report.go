package search

// Report is a search as it is shown.
type Report struct {
	Strategy   string `json:"strategy"`
	Generation int    `json:"generation"`
	// Generations is how many were asked for; trimming and sensitivity add some.
	Generations int  `json:"generations"`
	Finished    bool `json:"finished"`
	// Scored is the number of different candidates.
	Scored int `json:"scored"`
	// LimitParameters is the budget; FullParameters are those of the supernet.
	LimitParameters int64         `json:"limit_parameters,omitempty"`
	FullParameters  int64         `json:"full_parameters"`
	Best            *Trial        `json:"best,omitempty"`
	Fields          []FieldReport `json:"fields"`
	Front           []Trial       `json:"front,omitempty"`
	// Trials are all of them, when the search is finished.
	Trials []Trial `json:"trials,omitempty"`
	// Passes counts how often a part of the validation split was pulled; each
	// serves several candidates. CPUSeconds is the time of servers and workers for
	// the supernet and for the search.
	Passes     int64              `json:"passes"`
	CPUSeconds map[string]float64 `json:"cpu_seconds,omitempty"`
}

// FieldReport is one table of a Report.
type FieldReport struct {
	Name string `json:"name"`
	Rows int64  `json:"rows"`
	Kept int64  `json:"kept"`
	// Threshold is the pruning threshold, 0 without pruning.
	Threshold float32 `json:"threshold,omitempty"`
	// Width is that of the best candidate, Full that of the supernet.
	Width int `json:"width"`
	Full  int `json:"full"`
	// EffectiveRank is the number of dimensions its kept rows use.
	EffectiveRank float64 `json:"effective_rank,omitempty"`
}

// Report describes the search and its survey.
func (s *Search) Report(survey *Survey) Report {
	r := Report{Strategy: s.cfg.Strategy, Generation: s.generation, Generations: s.cfg.Generations, Finished: len(s.open) == 0,
		Scored: len(s.trials), FullParameters: s.space.FullParameters(), Front: s.Front()}
	if s.limit < r.FullParameters {
		r.LimitParameters = s.limit
	}
	best, found := s.Best()
	if found {
		r.Best = &best
	}
	for f, field := range s.space.Fields {
		of := FieldReport{Name: field.Name, Rows: field.Rows, Kept: field.Kept, Full: field.Choices[len(field.Choices)-1]}
		if found {
			of.Width = best.Candidate.Width(f)
		}
		if survey != nil {
			if len(survey.Thresholds) > f {
				of.Threshold = survey.Thresholds[f]
			}
			if g := survey.Tables[f].Gram; len(g) > 0 {
				of.EffectiveRank = EffectiveRank(Spectrum(g))
			}
		}
		r.Fields = append(r.Fields, of)
	}
	if r.Finished {
		r.Trials = s.Trials()
	}
	return r
}
