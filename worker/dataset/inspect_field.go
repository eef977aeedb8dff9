package dataset

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/fathom-train/fathom/shard"
)

const (
	inspectTop     = 10
	distinctMax    = 1 << 16
	topTracked     = 1 << 13
	valueBytesMax  = 64
	missingValue   = "(missing)"
	inspectNotText = "(the value)"
)

// fieldStats collects what FieldReport tells, in bounded memory.
type fieldStats struct {
	stored        string
	rows, missing int64
	values        int64
	// keys is a sample of the keys: those whose level lowest bits are 0. Keys
	// are hashes, so their number times 2^level estimates all.
	keys  map[shard.Key]struct{}
	level int
	top   map[shard.Key]*ValueCount

	min, max, sum float64
	numbers       int64
}

// add takes in an encoded column.
func (t *fieldStats) add(f *field, c *column, bad []bool, a arrow.Array) {
	if t.keys == nil {
		t.stored = a.DataType().String()
		t.keys, t.top = make(map[shard.Key]struct{}), make(map[shard.Key]*ValueCount)
		t.min, t.max = math.Inf(1), math.Inf(-1)
	}
	missing := f.hash.Missing()
	for r := range a.Len() {
		if bad[r] {
			continue
		}
		t.rows++
		lo, hi := c.span(r)
		var texts []string
		for i, k := range c.keys[lo:hi] {
			t.distinct(k)
			v := t.top[k]
			if v == nil {
				if texts == nil {
					texts = valueTexts(f, a, r)
				}
				v = &ValueCount{Value: valueName(f, k, texts, i)}
				t.track(k, v)
			}
			v.Count++
			if k == missing {
				t.missing++
			} else {
				t.values++
			}
		}
		if f.numeric {
			t.number(f, a, r)
		}
	}
}

// valueName returns how a key is shown: the i-th value of a row that has it,
// but a numeric field shows what became of the value.
func valueName(f *field, k shard.Key, texts []string, i int) string {
	switch {
	case k == f.hash.Missing() || i >= len(texts):
		return missingValue
	case k == f.hash.Value():
		return inspectNotText
	case f.transform == transformBucket:
		v, err := strconv.ParseFloat(texts[i], 64)
		if err == nil {
			return strconv.FormatFloat(bucket(v), 'f', -1, 64)
		}
	}
	return texts[i]
}

// distinct counts a key.
func (t *fieldStats) distinct(k shard.Key) {
	if uint64(k)&(1<<t.level-1) != 0 {
		return
	}
	t.keys[k] = struct{}{}
	for len(t.keys) > distinctMax {
		t.level++
		for k := range t.keys {
			if uint64(k)&(1<<t.level-1) != 0 {
				delete(t.keys, k)
			}
		}
	}
}

// track makes room for one more value by forgetting the rarer half: a value
// that is frequent stays.
func (t *fieldStats) track(k shard.Key, v *ValueCount) {
	if len(t.top) >= topTracked {
		counts := make([]int64, 0, len(t.top))
		for _, v := range t.top {
			counts = append(counts, v.Count)
		}
		slices.Sort(counts)
		median := counts[len(counts)/2]
		for k, v := range t.top {
			if v.Count <= median {
				delete(t.top, k)
			}
		}
	}
	t.top[k] = v
}

// number takes in the value of a numeric field.
func (t *fieldStats) number(f *field, a arrow.Array, r int) {
	texts := valueTexts(f, a, r)
	if len(texts) == 0 {
		return
	}
	v, err := strconv.ParseFloat(texts[0], 64)
	if err != nil || math.IsNaN(v) {
		return
	}
	t.min, t.max = min(t.min, v), max(t.max, v)
	t.sum += v
	t.numbers++
}

// valueTexts returns the values of a row as text, in the order of the keys.
func valueTexts(f *field, a arrow.Array, r int) []string {
	if a.IsNull(r) {
		return nil
	}
	if d, ok := a.(*array.Dictionary); ok {
		return valueTexts(f, d.Dictionary(), d.GetValueIndex(r))
	}
	if l, ok := a.(array.ListLike); ok {
		var texts []string
		child := l.ListValues()
		part := 0 // of a {feature, value} pair: the value for a numeric field
		if f.numeric {
			part = 1
		}
		if pair, ok := child.(*array.Struct); ok && pair.NumField() == 2 {
			child = pair.Field(part)
		}
		for lo, hi := l.ValueOffsets(r); lo < hi && len(texts) < f.valuesMax; lo++ {
			texts = append(texts, valueTexts(f, child, int(lo))...)
		}
		return texts
	}
	text := a.ValueStr(r)
	if at := textOf(a); at != nil {
		text = strings.Clone(unsafeString(at(r)))
	}
	if text == "" {
		return nil
	}
	if f.separator == "" {
		return []string{text[:min(len(text), valueBytesMax)]}
	}
	var texts []string
	for _, v := range strings.Split(text, f.separator) {
		if v != "" {
			texts = append(texts, v[:min(len(v), valueBytesMax)])
		}
	}
	return texts
}

// report sums up.
func (t *fieldStats) report(f *field) FieldReport {
	rep := FieldReport{Name: f.name, Column: f.column, Type: typeCategorical, Stored: t.stored,
		Distinct: int64(len(t.keys)) << t.level, DistinctExact: t.level == 0}
	rep.Missing = float64(t.missing) / float64(max(t.rows, 1))
	rep.ValuesPerRow = float64(t.values) / float64(max(t.rows-t.missing, 1))
	if f.numeric {
		rep.Type = typeNumeric
		if t.numbers > 0 {
			mean := t.sum / float64(t.numbers)
			rep.Min, rep.Max, rep.Mean = &t.min, &t.max, &mean
		}
		if f.transform == transformBucket {
			rep.Type = fmt.Sprintf("%s (bucket)", typeNumeric)
		}
	}
	for _, v := range t.top {
		rep.Top = append(rep.Top, *v)
	}
	slices.SortFunc(rep.Top, func(a, b ValueCount) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Value, b.Value))
	})
	rep.Top = rep.Top[:min(len(rep.Top), inspectTop)]
	return rep
}
