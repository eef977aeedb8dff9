package trainer

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/fathom-train/fathom/compute/kernel"
)

// gradientMax is the magnitude from which on a shard refuses a gradient: its
// square could overflow in an optimizer.
const gradientMax = 1 << 51

// recordsNamed is how many offending records a NumericalError names.
const recordsNamed = 5

// NumericalError reports a loss, a gradient or a score that is not a number, or
// too large to be one of a training that works. What caused it was not pushed.
type NumericalError struct {
	Step uint64
	Lane int
	// What is at fault, such as "the loss".
	What  string
	Value float64
	// Field is where the largest value of the samples at fault stands, FieldValue
	// what multiplies its row in the first of them.
	Field      string
	FieldValue float32
	// Samples is how many of the lane's are at fault, Of how many it has; Records
	// tells where the first of them are.
	Samples, Of int
	Records     []string
}

// Error names step, lane, field and records, and what can be done.
func (e *NumericalError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "step %d lane %d: %s is %v", e.Step, e.Lane, e.What, e.Value)
	if e.Samples > 0 {
		fmt.Fprintf(&b, ", because of %d of %d samples", e.Samples, e.Of)
	}
	if e.Field != "" {
		fmt.Fprintf(&b, ", first in field %q (value %g)", e.Field, e.FieldValue)
	}
	if len(e.Records) > 0 {
		fmt.Fprintf(&b, " of %s", strings.Join(e.Records, ", "))
		if e.Samples > len(e.Records) {
			b.WriteString(", ...")
		}
	}
	b.WriteString("; lower the learning rate, or check the field for extreme values (transform: log helps against them)")
	return b.String()
}

// guardLoss returns an error when the loss of the slot is no number.
func (t *Trainer) guardLoss(ctx context.Context, s *slot, logits []float32) error {
	if !math.IsNaN(s.lossSum) && !math.IsInf(s.lossSum, 0) {
		return nil
	}
	return t.blame(ctx, s, "the loss", s.lossSum, t.input, false, func(sample int) bool { return !usable(logits[sample]) })
}

// guardGradients returns an error when the slot has a gradient that a shard
// would refuse, so that it can be told which samples it is from.
func (t *Trainer) guardGradients(ctx context.Context, s *slot) error {
	for i := range s.ddense {
		if x, ok := unusable(s.ddense[i]); ok {
			return t.blame(ctx, s, fmt.Sprintf("a gradient of tensor %q", t.names[i]), float64(x), t.input, false, nil)
		}
	}
	for i := range s.tables {
		if x, ok := unusable(s.tables[i].grads); ok {
			return t.blame(ctx, s, fmt.Sprintf("a gradient of table %q", t.plan.Tables[i].Name), float64(x), t.dInput, true, nil)
		}
	}
	return nil
}

func usable(x float32) bool { return float64(x) > -gradientMax && float64(x) < gradientMax }

// unusable returns the first element that is not usable. The sum of squares is
// fast, and small when all elements are.
func unusable(v []float32) (float32, bool) {
	if q := kernel.SumSquares(v); q >= 0 && float64(q) < float64(gradientMax)*gradientMax {
		return 0, false
	}
	i := slices.IndexFunc(v, func(x float32) bool { return !usable(x) })
	if i < 0 {
		return 0, false
	}
	return v[i], true
}

// blame makes the error: it looks for the samples that bad names or whose part
// of x, by column [n, fields*width], is not usable, else for the one with the
// largest part. weighted multiplies it with the weight of the data.
func (t *Trainer) blame(ctx context.Context, s *slot, what string, value float64, x [][]float32, weighted bool, bad func(sample int) bool) error {
	e := &NumericalError{Step: s.step, Lane: s.lane, What: what, Value: value, Of: s.data.N}
	type cell struct {
		sample, field int
		size          float64
	}
	cells := make([]cell, s.data.N)
	var guilty []cell
	for i := range cells {
		cells[i] = cell{sample: i}
		for f := range s.data.Fields {
			if size := t.size(s, i, f, x, weighted); f == 0 || size > cells[i].size {
				cells[i].field, cells[i].size = f, size
			}
		}
		if bad != nil && bad(i) || cells[i].size >= gradientMax {
			guilty = append(guilty, cells[i])
		}
	}
	if len(guilty) == 0 {
		guilty = []cell{slices.MaxFunc(cells, func(a, b cell) int { return cmp.Compare(a.size, b.size) })}
	}
	// A layer that mixes samples makes all of them bad; the largest is the cause.
	slices.SortStableFunc(guilty, func(a, b cell) int { return cmp.Compare(b.size, a.size) })
	e.Samples = len(guilty)
	e.Field = t.cfg.Job.Spec.Data.ResolvedFields()[guilty[0].field].Name
	e.FieldValue = s.weight(guilty[0].sample, guilty[0].field)
	for _, g := range guilty[:min(len(guilty), recordsNamed)] {
		where, err := t.train.Locate(ctx, t.cfg.Job.Spec.Train.Seed, s.epoch, s.lo+int64(g.sample))
		if err != nil {
			where = fmt.Sprintf("position %d of epoch %d (%v)", s.lo+int64(g.sample), s.epoch, err)
		}
		e.Records = append(e.Records, where)
	}
	return e
}

// size is the largest magnitude of a sample's field in x; infinite when it is
// not a number.
func (t *Trainer) size(s *slot, sample, field int, x [][]float32, weighted bool) (size float64) {
	for c, col := range t.columns {
		at := (sample*s.data.Fields + field) * col.Width
		for _, v := range x[c][at : at+col.Width] {
			if v != v {
				return math.Inf(1)
			}
			size = max(size, math.Abs(float64(v)))
		}
	}
	if weighted {
		size *= math.Abs(float64(s.weight(sample, field)))
	}
	return size
}

// weight is the largest weight of the values of a sample's field.
func (s *slot) weight(sample, field int) float32 {
	i := sample*s.data.Fields + field
	return slices.MaxFunc(s.data.Weights[s.data.Offsets[i]:s.data.Offsets[i+1]], func(a, b float32) int {
		return cmp.Compare(math.Abs(float64(a)), math.Abs(float64(b)))
	})
}
