package dataset

import (
	"fmt"
	"math"
	"slices"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/fathom-train/fathom/compute/random"
)

// sampleWeightMax bounds the weight of one sample.
const sampleWeightMax = 1 << 20

// encodeExtras fills the weights and the groups of the samples.
func (e *encoder) encodeExtras(rec arrow.Record) error {
	e.samples = e.samples[:0]
	if f := e.schema.weight; f != nil {
		if err := e.encodeSamples(f, rec.Column(1+f.col)); err != nil {
			return fmt.Errorf("column %q of the weights: %w", f.column, err)
		}
	}
	if f := e.schema.group; f != nil {
		if _, list := rec.Column(1 + f.col).(array.ListLike); list {
			return fmt.Errorf("column %q of the groups: a sample has one group, not a list", f.column)
		}
		if err := e.encodeField(len(e.schema.fields), f, rec.Column(1+f.col)); err != nil {
			return fmt.Errorf("column %q of the groups: %w", f.column, err)
		}
	}
	return nil
}

// encodeSamples reads the weights of the samples: finite and not negative.
func (e *encoder) encodeSamples(f *field, a arrow.Array) error {
	if d, ok := a.(*array.Dictionary); ok {
		return e.encodeDictSamples(f, d)
	}
	values, err := e.fieldNumbers(f, a)
	if err != nil {
		return err
	}
	e.samples = slices.Grow(e.samples, len(values))[:len(values)]
	for r, v := range values {
		e.samples[r] = float32(v)
		switch {
		case math.IsNaN(v):
			e.fault(r, 1+f.col, "the weight is missing")
		case v < 0 || v > sampleWeightMax:
			e.fault(r, 1+f.col, "weight %v is not in [0, %d]", v, sampleWeightMax)
		}
	}
	return nil
}

// encodeDictSamples reads the weights of the dictionary and looks them up.
func (e *encoder) encodeDictSamples(f *field, a *array.Dictionary) error {
	d := newEncoder(e.schema)
	if err := d.encodeSamples(f, a.Dictionary()); err != nil {
		return err
	}
	wrong := make(map[int]string, len(d.faults))
	for _, ft := range d.faults {
		wrong[ft.row] = ft.msg
	}
	for r := range a.Len() {
		w := float32(0)
		if a.IsNull(r) {
			e.fault(r, 1+f.col, "the weight is missing")
		} else if i := a.GetValueIndex(r); wrong[i] != "" {
			e.fault(r, 1+f.col, "%s", wrong[i])
		} else {
			w = d.samples[i]
		}
		e.samples = append(e.samples, w)
	}
	return nil
}

// thin says which negatives of a unit are kept. Whether a row stays depends on
// its place in the data alone, so every worker keeps the same ones.
type thin struct {
	share  float64 // that is left out
	stream uint64
	row    uint64 // of the unit, the next one
}

// newThin returns the thinning of a split's unit.
func (s *schema) newThin(split string, unit int) thin {
	if split != "train" {
		return thin{}
	}
	return thin{share: 1 - s.negatives, stream: random.Stream(0, random.Negatives, uint64(unit), 0, 0)}
}

// drop marks the negatives that are not kept as rows to leave out.
func (e *encoder) drop() {
	if e.thin.share == 0 {
		return
	}
	for r, label := range e.labels {
		if label == 0 && random.Unit64(random.Word(e.thin.stream, e.thin.row+uint64(r))) < e.thin.share {
			e.bad[r] = true
		}
	}
	e.thin.row += uint64(len(e.labels))
}
