package search

import (
	"cmp"
	"slices"
	"strings"
)

// Score is the quality of a candidate on the validation split.
type Score struct {
	AUC     float64 `json:"auc"`
	LogLoss float64 `json:"log_loss"`
}

// Trial is a candidate that was scored.
type Trial struct {
	Candidate Candidate `json:"widths"`
	Score     Score     `json:"score"`
	// Part is its score on a part of the split, which screens candidates; nil
	// without screening. Partial tells that there is no other: Score is the same,
	// and the trial cannot win.
	Part       *Score `json:"part,omitempty"`
	Partial    bool   `json:"partial,omitempty"`
	Parameters int64  `json:"parameters"`
	// Generation is the one that asked for it first, from 1.
	Generation int `json:"generation"`
}

// screenAUC is what trials of all kinds can be compared by: the AUC on the part
// that all were scored on, which without screening is the whole.
func (t Trial) screenAUC() float64 {
	if t.Part != nil {
		return t.Part.AUC
	}
	return t.Score.AUC
}

// Lost is how much AUC a candidate loses against another, on what both were
// scored on.
func Lost(from, to Trial) float64 {
	if from.Partial || to.Partial {
		return from.screenAUC() - to.screenAUC()
	}
	return from.Score.AUC - to.Score.AUC
}

// LogLossGained is by how much a candidate's log loss is above another's, on what
// both were scored on.
func LogLossGained(from, to Trial) float64 {
	if from.Partial || to.Partial {
		if from.Part != nil {
			from.Score = *from.Part
		}
		if to.Part != nil {
			to.Score = *to.Part
		}
	}
	return to.Score.LogLoss - from.Score.LogLoss
}

// compare orders trials, better ones first: by AUC, then log loss, then size,
// then the widths themselves, so that no two candidates are equal.
func compare(a, b Trial) int {
	return cmp.Or(
		cmp.Compare(b.Score.AUC, a.Score.AUC),
		cmp.Compare(a.Score.LogLoss, b.Score.LogLoss),
		cmp.Compare(a.Parameters, b.Parameters),
		strings.Compare(a.Candidate.widths, b.Candidate.widths))
}

// within returns the trials that keep a limit and were scored on the whole split.
func within(trials []Trial, limit int64) []Trial {
	var kept []Trial
	for _, t := range trials {
		if t.Parameters <= limit && !t.Partial {
			kept = append(kept, t)
		}
	}
	return kept
}

// Archive keeps the best distinct trials it has seen, best first.
type Archive struct {
	Size   int
	Trials []Trial
}

// Add takes trials in.
func (a *Archive) Add(trials ...Trial) {
	for _, t := range trials {
		if at, found := slices.BinarySearchFunc(a.Trials, t, compare); !found {
			a.Trials = slices.Insert(a.Trials, at, t)
		}
	}
	if len(a.Trials) > a.Size {
		a.Trials = a.Trials[:a.Size]
	}
}

// Front is the Pareto front of size and AUC: trials that no other one beats in
// one without being worse in the other. Sizes ascend. Partial ones are left out.
func Front(trials []Trial) []Trial {
	sorted := slices.Clone(trials)
	slices.SortFunc(sorted, func(a, b Trial) int {
		return cmp.Or(cmp.Compare(a.Parameters, b.Parameters), compare(a, b))
	})
	var front []Trial
	for _, t := range sorted {
		if t.Partial {
			continue
		}
		if n := len(front); n == 0 || t.Score.AUC > front[n-1].Score.AUC {
			front = append(front, t)
		}
	}
	return front
}

// smallestWithin returns the smallest trial whose AUC is at most tolerance below
// the best; trials must not be empty.
func smallestWithin(trials []Trial, tolerance float64) Trial {
	best := slices.MinFunc(trials, compare)
	if tolerance <= 0 {
		return best
	}
	chosen := best
	for _, t := range trials {
		if t.Score.AUC < best.Score.AUC-tolerance {
			continue
		}
		if c := cmp.Compare(t.Parameters, chosen.Parameters); c < 0 || c == 0 && compare(t, chosen) < 0 {
			chosen = t
		}
	}
	return chosen
}
