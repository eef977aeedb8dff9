package search

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/fathom-train/fathom/compute/random"
	"github.com/fathom-train/fathom/compute/supernet"
)

// Field is one thing to choose: the width of a table or, with Levels, which of its
// rows are kept.
type Field struct {
	Name string `json:"name"`
	// Rows are all its rows, Kept those above the pruning threshold: only they are
	// stored after the search.
	Rows int64 `json:"rows"`
	Kept int64 `json:"kept"`
	// Choices are the widths it may get, ascending. The last one is its width in
	// the supernet.
	Choices []int `json:"choices"`
	// Levels are what choices 1, 2, ... mean when it is about rows: the last one
	// keeps all that are above the threshold.
	Levels []Level `json:"levels,omitempty"`
	// Variance is the mean square of every dimension of the kept rows, Gates what a
	// supernet with soft gates learned: both may be empty.
	Variance []float64 `json:"-"`
	Gates    []float32 `json:"-"`
	// Worth, when it is not nil, ranks the dimensions: a width keeps so many of those
	// worth most, not the first ones.
	Worth []float64 `json:"-"`
}

// ranked are the dimensions in the order in which a field keeps them; of equal ones
// the first comes first.
func (f Field) ranked() []int {
	order := make([]int, len(f.Worth))
	for d := range order {
		order[d] = d
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(f.Worth[b], f.Worth[a]) })
	return order
}

// Level says which rows of a table are kept, of those that its pruning threshold
// leaves: those whose importance is above a number.
type Level struct {
	Kept  int64   `json:"kept"`
	Above float32 `json:"above"`
}

// Space is what can be chosen: the widths of all tables, and behind them, when rows
// are chosen too, the levels of all tables.
type Space struct {
	Fields []Field `json:"fields"`
	// Clusters are the groups of samples with dimensions of their own; empty without.
	Clusters []Cluster `json:"-"`
}

// Tables is the number of tables.
func (s Space) Tables() int {
	n := len(s.Fields)
	if n > 0 && s.Fields[n-1].Levels != nil {
		n /= 2
	}
	return n
}

// Widths are a candidate's, by table.
func (s Space) Widths(c Candidate) []int { return c.Widths()[:s.Tables()] }

// Dims are the dimensions that a candidate keeps, ascending, by table; nil: the first
// ones, as many as its width.
func (s Space) Dims(c Candidate) [][]int {
	if len(s.Fields) == 0 || s.Fields[0].Worth == nil {
		return nil
	}
	all := make([][]int, s.Tables())
	for t := range all {
		all[t] = slices.Sorted(slices.Values(s.Fields[t].ranked()[:c.Width(t)]))
	}
	return all
}

// Masks are the gates of the clusters' centres as numbers, 1 for open ones, one cluster
// behind the other, size in all.
func (s Space) Masks(size int) []float32 {
	open := make([]float32, size)
	for i, c := range s.Clusters {
		n := size / len(s.Clusters)
		supernet.Unpack(open[i*n:(i+1)*n], c.Open)
	}
	return open
}

// Level tells which rows of a table a candidate keeps.
func (s Space) Level(c Candidate, table int) Level {
	if at := s.Tables() + table; at < len(s.Fields) {
		return s.Fields[at].Levels[c.Width(at)-1]
	}
	return Level{Kept: s.Fields[table].Kept, Above: all}
}

// all is below every importance.
const all = -1

// Order is what workers are told to score.
func (s Space) Order(candidates []Candidate, share float64) Order {
	o := Order{Share: share, Clusters: s.Clusters}
	for _, c := range candidates {
		o.Candidates = append(o.Candidates, NewCandidate(s.Widths(c)))
		if dims := s.Dims(c); dims != nil {
			o.Dims = append(o.Dims, dims)
		}
		if s.Tables() == len(s.Fields) {
			continue
		}
		above := make([]float32, s.Tables())
		for t := range above {
			above[t] = s.Level(c, t).Above
		}
		o.Above = append(o.Above, above)
	}
	return o
}

// Validate reports all faults.
func (s Space) Validate() error {
	var faults []error
	if len(s.Fields) == 0 {
		faults = append(faults, errors.New("the search space has no fields"))
	}
	for _, f := range s.Fields {
		switch {
		case len(f.Choices) == 0:
			faults = append(faults, fmt.Errorf("field %s has no width to choose", f.Name))
		case f.Choices[0] < 0 || f.Choices[len(f.Choices)-1] > math.MaxUint16:
			faults = append(faults, fmt.Errorf("field %s: widths %v are not in [0, %d]", f.Name, f.Choices, math.MaxUint16))
		case f.Levels != nil && len(f.Levels) != len(f.Choices):
			faults = append(faults, fmt.Errorf("field %s has %d levels and %d choices", f.Name, len(f.Levels), len(f.Choices)))
		case f.Kept < 0 || f.Kept > f.Rows:
			faults = append(faults, fmt.Errorf("field %s keeps %d of %d rows", f.Name, f.Kept, f.Rows))
		}
		for i := 1; i < len(f.Choices); i++ {
			if f.Choices[i] <= f.Choices[i-1] {
				faults = append(faults, fmt.Errorf("field %s: widths %v do not ascend", f.Name, f.Choices))
				break
			}
		}
	}
	return errors.Join(faults...)
}

// Contains tells whether every width is one of its field's choices.
func (s Space) Contains(c Candidate) bool {
	if c.Fields() != len(s.Fields) {
		return false
	}
	for f := range s.Fields {
		if !slices.Contains(s.Fields[f].Choices, c.Width(f)) {
			return false
		}
	}
	return true
}

// Parameters is the exact number of embedding weights that a candidate keeps.
func (s Space) Parameters(c Candidate) int64 {
	kept := make([]int64, s.Tables())
	for t := range kept {
		kept[t] = s.Level(c, t).Kept
	}
	return supernet.Parameters(kept, s.Widths(c))
}

// Bytes is the memory of those weights.
func (s Space) Bytes(c Candidate) int64 { return supernet.BytesPerWeight * s.Parameters(c) }

// FullParameters are those of the supernet: all rows at their full width. Budgets
// that are fractions are fractions of it.
func (s Space) FullParameters() int64 {
	var sum int64
	for _, f := range s.Fields[:s.Tables()] {
		sum += f.Rows * int64(f.Choices[len(f.Choices)-1])
	}
	return sum
}

// Smallest has the least width everywhere, Largest the greatest.
func (s Space) Smallest() Candidate {
	return s.pick(func(f Field) int { return f.Choices[0] })
}

// Largest is the supernet without its pruned rows.
func (s Space) Largest() Candidate {
	return s.pick(func(f Field) int { return f.Choices[len(f.Choices)-1] })
}

func (s Space) pick(width func(f Field) int) Candidate {
	w := make([]int, len(s.Fields))
	for f := range w {
		w[f] = width(s.Fields[f])
	}
	return NewCandidate(w)
}

// AtMost returns the largest choice of every table's width that is not above the
// one in widths, or the smallest choice when all are. All rows are kept.
func (s Space) AtMost(widths []float64) Candidate {
	w := s.Largest().Widths()
	for f, field := range s.Fields[:s.Tables()] {
		w[f] = field.Choices[0]
		for _, c := range field.Choices {
			if float64(c) <= widths[f] {
				w[f] = c
			}
		}
	}
	return NewCandidate(w)
}

// draws is a sequence of random numbers, each used once.
type draws struct {
	stream, next uint64
}

func (d *draws) below(n int) int {
	d.next++
	return int(random.Below(d.stream, d.next, uint64(n)))
}

func (d *draws) unit() float64 {
	d.next++
	return random.Unit64(random.Word(d.stream, d.next))
}

// random draws a candidate within the limit: uniform widths, drawn again until
// they fit; after rejectionsMax they are narrowed until they do.
func (s Space) random(d *draws, limit int64) Candidate {
	var c Candidate
	for range rejectionsMax {
		c = s.pick(func(f Field) int { return f.Choices[d.below(len(f.Choices))] })
		if s.Parameters(c) <= limit {
			return c
		}
	}
	return s.fit(c, d, limit)
}

// rejectionsMax bounds the uniform draws of one candidate. It is small, because
// narrowing costs little and a tight budget rejects nearly all of them.
const rejectionsMax = 4

// fit narrows random fields, one choice at a time, until the candidate is within
// the limit. Fields with many rows are no more likely than others.
func (s Space) fit(c Candidate, d *draws, limit int64) Candidate {
	for s.Parameters(c) > limit {
		f := d.below(len(s.Fields))
		field := s.Fields[f]
		at := slices.Index(field.Choices, c.Width(f))
		if at == 0 || field.Kept == 0 {
			continue // there is another one: the smallest candidate fits
		}
		c = c.With(f, field.Choices[at-1])
	}
	return c
}
