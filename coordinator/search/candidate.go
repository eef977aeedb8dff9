package search

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"strings"
)

// Candidate is one choice per field of a Space: widths, and behind them the levels of
// rows where those are chosen. It is a value: it never changes,
// it can be compared and be the key of a map.
type Candidate struct {
	widths string // two bytes per field, big-endian, so that strings sort as widths do
}

// NewCandidate returns the candidate of these widths, which it copies.
func NewCandidate(widths []int) Candidate {
	b := make([]byte, 0, 2*len(widths))
	for f, w := range widths {
		if w < 0 || w > math.MaxUint16 {
			panic(fmt.Sprintf("coordinator/search: BUG: field %d of a candidate is %d wide", f, w))
		}
		b = binary.BigEndian.AppendUint16(b, uint16(w))
	}
	return Candidate{string(b)}
}

// Fields is the number of fields.
func (c Candidate) Fields() int { return len(c.widths) / 2 }

// Width is the width of field f.
func (c Candidate) Width(f int) int { return int(c.widths[2*f])<<8 | int(c.widths[2*f+1]) }

// Widths returns a new slice of all widths.
func (c Candidate) Widths() []int {
	w := make([]int, c.Fields())
	for f := range w {
		w[f] = c.Width(f)
	}
	return w
}

// With returns the candidate that has another width for field f.
func (c Candidate) With(f, width int) Candidate {
	w := c.Widths()
	w[f] = width
	return NewCandidate(w)
}

// String lists the widths.
func (c Candidate) String() string { return strings.Trim(fmt.Sprint(c.Widths()), "[]") }

// MarshalJSON writes the widths as an array.
func (c Candidate) MarshalJSON() ([]byte, error) { return json.Marshal(c.Widths()) }

// UnmarshalJSON reads what MarshalJSON wrote.
func (c *Candidate) UnmarshalJSON(b []byte) error {
	var w []uint16
	if err := json.Unmarshal(b, &w); err != nil {
		return fmt.Errorf("candidate: %w", err)
	}
	widths := make([]int, len(w))
	for i, v := range w {
		widths[i] = int(v)
	}
	*c = NewCandidate(widths)
	return nil
}
