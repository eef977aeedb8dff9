package search

import (
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/fathom-train/fathom/compute/random"
	"github.com/fathom-train/fathom/compute/supernet"
)

// Field is one table of the space.
type Field struct {
	Name string `json:"name"`
	// Rows are all its rows, Kept those above the pruning threshold: only they are
	// stored after the search.
	Rows int64 `json:"rows"`
	Kept int64 `json:"kept"`
	// Choices are the widths it may get, ascending. The last one is its width in
	// the supernet.
	Choices []int `json:"choices"`
	// Variance is the mean square of every dimension of the kept rows, Gates what a
	// supernet with soft gates learned: both may be empty.
	Variance []float64 `json:"-"`
	Gates    []float32 `json:"-"`
}

// Space is what can be chosen.
type Space struct {
	Fields []Field `json:"fields"`
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
	kept := make([]int64, len(s.Fields))
	for f := range kept {
		kept[f] = s.Fields[f].Kept
	}
	return supernet.Parameters(kept, c.Widths())
}

// Bytes is the memory of those weights.
func (s Space) Bytes(c Candidate) int64 { return supernet.BytesPerWeight * s.Parameters(c) }

// FullParameters are those of the supernet: all rows at their full width. Budgets
// that are fractions are fractions of it.
func (s Space) FullParameters() int64 {
	var sum int64
	for _, f := range s.Fields {
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

// AtMost returns the largest choice of every field that is not above its width
// in widths, or the smallest choice when all are.
func (s Space) AtMost(widths []float64) Candidate {
	w := make([]int, len(s.Fields))
	for f, field := range s.Fields {
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
	w := c.Widths()
	left := s.Parameters(c) - limit
	for left > 0 {
		f := d.below(len(w))
		field := s.Fields[f]
		at := slices.Index(field.Choices, w[f])
		if at == 0 || field.Kept == 0 {
			continue // there is another one: the smallest candidate fits
		}
		left -= field.Kept * int64(w[f]-field.Choices[at-1])
		w[f] = field.Choices[at-1]
	}
	return NewCandidate(w)
}
