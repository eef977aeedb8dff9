package dataset

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unsafe"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/fathom-train/fathom/shard"
)

// intMemo remembers the keys of recent integers: hashing one as decimal text
// costs more than looking it up, and few values make up most of a column.
type intMemo struct {
	used [memoSlots]bool
	from [memoSlots]uint64
	key  [memoSlots]shard.Key
}

const memoSlots = 1024

// dictCache keeps the encoded dictionary of a column: consecutive batches
// share theirs.
type dictCache struct {
	of     arrow.ArrayData
	col    column
	faults map[int]string
}

// encodeDict encodes the dictionary and repeats its entries.
func (e *encoder) encodeDict(i int, f *field, c *column, a *array.Dictionary) error {
	d := &e.dicts[i]
	if data := a.Data().Dictionary(); d.of != data {
		sub := newEncoder(e.schema)
		if err := sub.encodeField(i, f, a.Dictionary()); err != nil {
			return err
		}
		*d = dictCache{of: data, col: sub.cols[i], faults: make(map[int]string, len(sub.faults))}
		for _, ft := range sub.faults {
			d.faults[ft.row] = ft.msg
		}
	}
	if d.col.weights != nil {
		c.weights = make([]float32, 0, a.Len())
	}
	for r := range a.Len() {
		if a.IsNull(r) {
			c.keys = append(c.keys, f.hash.Missing())
			if c.weights != nil {
				c.weights = append(c.weights, 1)
			}
		} else {
			v := a.GetValueIndex(r)
			if msg, ok := d.faults[v]; ok {
				e.fault(r, 1+f.col, "%s", msg)
			}
			lo, hi := d.col.span(v)
			c.keys = append(c.keys, d.col.keys[lo:hi]...)
			if c.weights != nil {
				c.weights = append(c.weights, d.col.weights[lo:hi]...)
			}
		}
		if d.col.ends != nil {
			c.ends = append(c.ends, int32(len(c.keys)))
		}
	}
	return nil
}

// encodeList encodes a list column: null and empty elements are left out, a
// list of structs {value, weight} (and so a map) has weighted values.
//
// Elements are found by ValueOffsets only: ListValues of a sliced
// FixedSizeList is the whole child.
func (e *encoder) encodeList(i int, f *field, c *column, l array.ListLike) error {
	rows := l.Len()
	if rows == 0 {
		return nil
	}
	first, _ := l.ValueOffsets(0)
	_, last := l.ValueOffsets(rows - 1)
	child := array.NewSlice(l.ListValues(), first, last)
	defer child.Release()
	values, weights := arrow.Array(child), []float64(nil)
	if pair, ok := child.(*array.Struct); ok && pair.NumField() == 2 {
		values = pair.Field(0)
		w, err := e.floats(pair.Field(1))
		if err != nil {
			return fmt.Errorf("weights: %w", err)
		}
		weights = slices.Clone(w)
	}
	sub := column{}
	if err := e.encodeElements(i, f, &sub, values); err != nil {
		return err
	}
	empty := f.hash.Missing()
	c.weights = make([]float32, 0, len(sub.keys))
	for r := range rows {
		from := len(c.keys)
		if !l.IsNull(r) {
			lo, hi := l.ValueOffsets(r)
			for j := lo - first; j < hi-first && len(c.keys)-from < f.valuesMax; j++ {
				if sub.keys[j] == empty {
					continue
				}
				w := float32(1)
				if weights != nil {
					w = float32(weights[j])
				}
				if math.IsNaN(float64(w)) || math.IsInf(float64(w), 0) {
					e.fault(r, 1+f.col, "weight of a value is not a finite 32-bit float")
					w = 1
				}
				c.keys = append(c.keys, sub.keys[j])
				c.weights = append(c.weights, w)
			}
		}
		c.finish(f, from)
	}
	c.settle()
	return nil
}

// encodeElements encodes the elements of a list, one key each.
func (e *encoder) encodeElements(i int, f *field, c *column, a arrow.Array) error {
	single := *f
	single.separator = ""
	if d, ok := a.(*array.Dictionary); ok {
		return e.encodeDict(i, &single, c, d)
	}
	return e.encodeCategories(i, &single, c, a)
}

// encodeSplit encodes texts that hold several values with a separator.
func (e *encoder) encodeSplit(f *field, c *column, a arrow.Array) error {
	at := textOf(a)
	if at == nil {
		return fmt.Errorf("type %s cannot be split by %q, only text can", a.DataType(), f.separator)
	}
	c.weights = make([]float32, 0, a.Len())
	for r := range a.Len() {
		from := len(c.keys)
		rest := ""
		if a.IsValid(r) {
			rest = unsafeString(at(r))
		}
		for more := rest != ""; more && len(c.keys)-from < f.valuesMax; {
			var v string
			if v, rest, more = strings.Cut(rest, f.separator); v != "" {
				c.keys = append(c.keys, f.hash.String(v))
				c.weights = append(c.weights, 1)
			}
		}
		c.finish(f, from)
	}
	c.settle()
	return nil
}

// encodeCategories encodes one value per row.
func (e *encoder) encodeCategories(i int, f *field, c *column, a arrow.Array) error {
	n := a.Len()
	c.keys = slices.Grow(c.keys, n)[:n]
	missing := f.hash.Missing()
	if at := textOf(a); at != nil {
		for r := range n {
			if c.keys[r] = missing; a.IsValid(r) {
				if v := at(r); len(v) > 0 {
					c.keys[r] = f.hash.Bytes(v)
				}
			}
		}
		return nil
	}
	if ok := e.encodeInts(i, f, c, a); ok {
		return nil
	}
	switch a := a.(type) {
	case *array.Boolean:
		values := [2]shard.Key{f.hash.String("false"), f.hash.String("true")}
		for r := range n {
			if c.keys[r] = missing; a.IsValid(r) {
				c.keys[r] = values[0]
				if a.Value(r) {
					c.keys[r] = values[1]
				}
			}
		}
		return nil
	case *array.Float64, *array.Float32, *array.Float16:
		bits := a.DataType().(arrow.FixedWidthDataType).BitWidth()
		values, err := e.floats(a)
		var buf [400]byte
		for r, v := range values {
			if c.keys[r] = missing; !math.IsNaN(v) {
				c.keys[r] = f.hash.Bytes(appendFloatText(buf[:0], v, max(bits, 32)))
			}
		}
		return err
	case *array.Null:
		for r := range n {
			c.keys[r] = missing
		}
		return nil
	}
	return unsupported(a)
}

// encodeInts encodes an integer column, or reports that it is none.
func (e *encoder) encodeInts(i int, f *field, c *column, a arrow.Array) bool {
	if e.memo == nil {
		e.memo = make([]intMemo, len(e.schema.fields)+1)
	}
	m := &e.memo[i]
	switch a := a.(type) {
	case *array.Int8:
		intKeys(m, f, c.keys, a, a.Int8Values())
	case *array.Int16:
		intKeys(m, f, c.keys, a, a.Int16Values())
	case *array.Int32:
		intKeys(m, f, c.keys, a, a.Int32Values())
	case *array.Int64:
		intKeys(m, f, c.keys, a, a.Int64Values())
	case *array.Uint8:
		intKeys(m, f, c.keys, a, a.Uint8Values())
	case *array.Uint16:
		intKeys(m, f, c.keys, a, a.Uint16Values())
	case *array.Uint32:
		intKeys(m, f, c.keys, a, a.Uint32Values())
	case *array.Uint64:
		uintKeys(f, c.keys, a)
	default:
		return false
	}
	return true
}

// intKeys hashes integers that fit an int64.
func intKeys[T int8 | int16 | int32 | int64 | uint8 | uint16 | uint32](m *intMemo, f *field, keys []shard.Key, a arrow.Array, values []T) {
	missing, nulls := f.hash.Missing(), a.NullN() > 0
	for r, v := range values {
		if nulls && a.IsNull(r) {
			keys[r] = missing
			continue
		}
		u := uint64(int64(v))
		s := (u ^ u>>10) % memoSlots
		if !m.used[s] || m.from[s] != u {
			m.used[s], m.from[s], m.key[s] = true, u, f.hash.Int(int64(v))
		}
		keys[r] = m.key[s]
	}
}

// uintKeys hashes integers up to 2^64-1.
func uintKeys(f *field, keys []shard.Key, a *array.Uint64) {
	var buf [20]byte
	for r, v := range a.Uint64Values() {
		if keys[r] = f.hash.Missing(); a.IsValid(r) {
			keys[r] = f.hash.Bytes(strconv.AppendUint(buf[:0], v, 10))
		}
	}
}

// textOf returns the access to the values of a text or binary column, nil for
// other types. What it returns aliases the column.
func textOf(a arrow.Array) func(int) []byte {
	switch a := a.(type) {
	case *array.Binary:
		return a.Value
	case *array.LargeBinary:
		return a.Value
	case *array.FixedSizeBinary:
		return a.Value
	case *array.String:
		return func(i int) []byte { return unsafeBytes(a.Value(i)) }
	case *array.LargeString:
		return func(i int) []byte { return unsafeBytes(a.Value(i)) }
	case *array.StringView:
		return func(i int) []byte { return unsafeBytes(a.Value(i)) }
	case *array.BinaryView:
		return a.Value
	}
	return nil
}

func unsupported(a arrow.Array) error {
	return fmt.Errorf("type %s is not supported; store text, integers, floats, bools, or dictionaries or lists of these", a.DataType())
}

// unsafeString and unsafeBytes reinterpret memory that nobody writes to.
func unsafeString(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
func unsafeBytes(s string) []byte  { return unsafe.Slice(unsafe.StringData(s), len(s)) }
