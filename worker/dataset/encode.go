package dataset

import (
	"fmt"
	"math"
	"slices"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/fathom-train/fathom/shard"
)

// records is one decoded Arrow record batch on its way to the schema.
type records struct {
	// rec has the label as column 0 and schema.columns[c] as column 1+c.
	rec arrow.Record
	// broken are the rows that could not even be split into columns, ascending.
	broken []fault
	// at tells where a row's column col of rec is (-1: the row itself); valid
	// until the consumer of the records returns.
	at func(row, col int) InputError
}

// column is one encoded field of a record batch.
type column struct {
	// keys has one element per row, or per occurrence when ends is not nil.
	keys []shard.Key
	// weights is nil when all are 1.
	weights []float32
	// ends is nil when every row has one value; else row r's occurrences end
	// at ends[r].
	ends []int32
}

// span returns the range of row r's occurrences.
func (c *column) span(r int) (lo, hi int) {
	if c.ends == nil {
		return r, r + 1
	}
	if r > 0 {
		lo = int(c.ends[r-1])
	}
	return lo, int(c.ends[r])
}

// encoder turns record batches into keys. It is for one goroutine.
type encoder struct {
	schema  *schema
	cols    []column // of the fields; the last one is of the group
	labels  []uint8
	samples []float32 // the weights of the samples, empty when all are 1
	bad     []bool
	faults  []fault
	numbers []float64
	memo    []intMemo   // per field, made when first needed
	dicts   []dictCache // per field
	thin    thin
	out     builder
}

func newEncoder(s *schema) *encoder {
	return &encoder{schema: s, cols: make([]column, len(s.fields)+1), dicts: make([]dictCache, len(s.fields)+1)}
}

// encode appends the good rows of r to e.out and returns one fault per bad
// row, ascending; the slice is reused. An error is about a whole column.
func (e *encoder) encode(r *records) ([]fault, error) {
	rows := int(r.rec.NumRows())
	e.faults = append(e.faults[:0], r.broken...)
	e.labels = slices.Grow(e.labels[:0], rows)[:rows]
	if err := e.encodeLabels(r.rec.Column(0)); err != nil {
		return nil, err
	}
	for i := range e.schema.fields {
		f := &e.schema.fields[i]
		if err := e.encodeField(i, f, r.rec.Column(1+f.col)); err != nil {
			return nil, fmt.Errorf("column %q: %w", f.column, err)
		}
	}
	if err := e.encodeExtras(r.rec); err != nil {
		return nil, err
	}
	// The first fault of a row is kept: a broken row before its label, the
	// label before the fields, these in the order of the schema.
	slices.SortStableFunc(e.faults, func(a, b fault) int { return a.row - b.row })
	e.faults = slices.CompactFunc(e.faults, func(a, b fault) bool { return a.row == b.row })
	e.bad = slices.Grow(e.bad[:0], rows)[:rows]
	clear(e.bad)
	for _, f := range e.faults {
		e.bad[f.row] = true
	}
	e.drop()
	e.out.add(e.labels, e.bad, e.cols[:len(e.schema.fields)])
	e.out.addExtras(e.bad, e.samples, e.cols[len(e.schema.fields)].keys)
	if len(e.out.keys) > math.MaxInt32 {
		return nil, fmt.Errorf("a row group or record batch has more than %d values; write smaller ones", math.MaxInt32)
	}
	return e.faults, nil
}

// fault notes a bad record.
func (e *encoder) fault(row, col int, format string, args ...any) {
	e.faults = append(e.faults, fault{row: row, col: col, msg: fmt.Sprintf(format, args...)})
}

// encodeLabels accepts exactly 0 and 1.
func (e *encoder) encodeLabels(a arrow.Array) error {
	if e.schema.unlabelled {
		clear(e.labels)
		return nil
	}
	switch a := a.(type) {
	case *array.Boolean:
		for r := range e.labels {
			e.labels[r] = 0
			if a.IsNull(r) {
				e.badLabel(r, "nothing")
			} else if a.Value(r) {
				e.labels[r] = 1
			}
		}
		return nil
	case *array.Dictionary:
		return e.encodeDictLabels(a)
	}
	if at := textOf(a); at != nil {
		for r := range e.labels {
			e.labels[r] = 0
			if a.IsNull(r) {
				e.badLabel(r, "nothing")
				continue
			}
			switch v := at(r); string(v) {
			case "0", "0.0":
			case "1", "1.0":
				e.labels[r] = 1
			default:
				e.badLabel(r, clip(string(v)))
			}
		}
		return nil
	}
	values, err := e.floats(a)
	if err != nil {
		return fmt.Errorf("label column %q: %w", e.schema.label, err)
	}
	for r, v := range values {
		e.labels[r] = 0
		switch {
		case v == 1:
			e.labels[r] = 1
		case math.IsNaN(v):
			e.badLabel(r, "nothing")
		case v != 0:
			e.badLabel(r, string(appendFloatText(nil, v, 64)))
		}
	}
	return nil
}

func (e *encoder) badLabel(row int, got string) {
	e.fault(row, 0, "label is %s, want 0 or 1", got)
}

// encodeDictLabels reads the labels of the dictionary and looks them up.
func (e *encoder) encodeDictLabels(a *array.Dictionary) error {
	d := newEncoder(&schema{label: e.schema.label})
	d.labels = make([]uint8, a.Dictionary().Len())
	if err := d.encodeLabels(a.Dictionary()); err != nil {
		return err
	}
	wrong := make(map[int]string, len(d.faults))
	for _, f := range d.faults {
		wrong[f.row] = f.msg
	}
	for r := range e.labels {
		e.labels[r] = 0
		if a.IsNull(r) {
			e.badLabel(r, "nothing")
			continue
		}
		i := a.GetValueIndex(r)
		if msg, ok := wrong[i]; ok {
			e.fault(r, 0, "%s", msg)
			continue
		}
		e.labels[r] = d.labels[i]
	}
	return nil
}

// encodeField fills e.cols[i].
func (e *encoder) encodeField(i int, f *field, a arrow.Array) error {
	c := &e.cols[i]
	c.keys, c.weights, c.ends = c.keys[:0], nil, nil
	if d, ok := a.(*array.Dictionary); ok {
		return e.encodeDict(i, f, c, d)
	}
	if f.numeric {
		return e.encodeNumbers(f, c, a)
	}
	if l, ok := a.(array.ListLike); ok {
		return e.encodeList(i, f, c, l)
	}
	if f.separator != "" {
		return e.encodeSplit(f, c, a)
	}
	return e.encodeCategories(i, f, c, a)
}

// encodeNumbers encodes a numeric field.
func (e *encoder) encodeNumbers(f *field, c *column, a arrow.Array) error {
	values, err := e.fieldNumbers(f, a)
	if err != nil {
		return err
	}
	c.keys = slices.Grow(c.keys, len(values))[:len(values)]
	missing := f.hash.Missing()
	if f.transform == transformBucket {
		for r, v := range values {
			if c.keys[r] = missing; !math.IsNaN(v) {
				c.keys[r] = bucketKey(f.hash, bucket(v))
			}
		}
		return nil
	}
	value := f.hash.Value()
	c.weights = make([]float32, len(values))
	for r, v := range values {
		c.keys[r], c.weights[r] = missing, 1
		if math.IsNaN(v) {
			continue
		}
		w, ok := f.weight(v)
		if !ok {
			e.fault(r, 1+f.col, "%v does not fit a 32-bit float", v)
			continue
		}
		c.keys[r], c.weights[r] = value, w
	}
	return nil
}

// finish ends a row of a column with several values per row, whose kept values
// start at from: no values is a missing value, and mean pooling divides by
// their number.
func (c *column) finish(f *field, from int) {
	n := len(c.keys) - from
	if n == 0 {
		c.keys = append(c.keys, f.hash.Missing())
		c.weights = append(c.weights, 1)
		n = 1
	}
	if n > 1 && !f.sum {
		for i := from; i < len(c.keys); i++ {
			c.weights[i] /= float32(n)
		}
	}
	c.ends = append(c.ends, int32(len(c.keys)))
}

// settle drops what a column with several values per row turned out not to
// need.
func (c *column) settle() {
	if !slices.ContainsFunc(c.weights, func(w float32) bool { return w != 1 }) {
		c.weights = nil
	}
	if len(c.keys) == len(c.ends) {
		c.ends = nil
	}
}
