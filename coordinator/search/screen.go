package search

import (
	"cmp"
	"slices"
)

// Order is what is to be scored: candidates, on a share of the validation rows.
type Order struct {
	Candidates []Candidate `json:"candidates"`
	Share      float64     `json:"share"`
	// Above has for every candidate and table the importance that a row must be above
	// to be seen; empty: all that the pruning thresholds leave are.
	Above [][]float32 `json:"above,omitempty"`
	// Dims has for every candidate and table the dimensions that are seen, ascending;
	// empty: the first ones, as many as the width.
	Dims [][][]int `json:"dims,omitempty"`
	// Clusters are those of the samples, each of which sees the dimensions of its own;
	// empty: all see the same.
	Clusters []Cluster `json:"clusters,omitempty"`
}

// screenKeep is one over the share of the candidates that pass a screening.
const screenKeep = 4

// promising returns the quarter of the trials that did best on the part they were
// scored on, among those that keep a limit.
func promising(trials []Trial, limit int64) []Trial {
	able := slices.DeleteFunc(slices.Clone(trials), func(t Trial) bool { return t.Parameters > limit })
	slices.SortFunc(able, func(a, b Trial) int {
		return cmp.Or(cmp.Compare(b.screenAUC(), a.screenAUC()), compare(a, b))
	})
	return able[:min(len(able), (len(trials)+screenKeep-1)/screenKeep)]
}

// partFront is the Pareto front of size and the score on the part.
func partFront(trials []Trial, limit int64) []Trial {
	able := slices.DeleteFunc(slices.Clone(trials), func(t Trial) bool { return t.Parameters > limit })
	slices.SortFunc(able, func(a, b Trial) int {
		return cmp.Or(cmp.Compare(a.Parameters, b.Parameters), cmp.Compare(b.screenAUC(), a.screenAUC()), compare(a, b))
	})
	var front []Trial
	for _, t := range able {
		if n := len(front); n == 0 || t.screenAUC() > front[n-1].screenAUC() {
			front = append(front, t)
		}
	}
	return front
}
