package dataset

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/float16"
)

// fieldNumbers returns the values of a numeric field as floats, NaN where they
// are missing, and notes those that are no finite numbers.
func (e *encoder) fieldNumbers(f *field, a arrow.Array) ([]float64, error) {
	if l, ok := a.(array.ListLike); ok {
		return e.onlyWeights(f, l)
	}
	at := textOf(a)
	if at == nil {
		values, err := e.floats(a)
		for r, v := range values {
			if math.IsInf(v, 0) {
				e.fault(r, 1+f.col, "%v is not a finite number", v)
				values[r] = 0
			}
		}
		return values, err
	}
	e.numbers = slices.Grow(e.numbers[:0], a.Len())[:a.Len()]
	for r := range e.numbers {
		e.numbers[r] = math.NaN()
		if a.IsNull(r) {
			continue
		}
		text := unsafeString(at(r))
		if text == "" {
			continue
		}
		v, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsInf(v, 0) {
			e.fault(r, 1+f.col, "%s of numeric field %q is not a finite number", clip(strings.Clone(text)), f.name)
			continue
		}
		e.numbers[r] = v
	}
	return e.numbers, nil
}

// onlyWeights returns, for a numeric field of a libffm file, the value of the
// one feature that a line has for it.
func (e *encoder) onlyWeights(f *field, l array.ListLike) ([]float64, error) {
	pair, ok := l.ListValues().(*array.Struct)
	if !ok || pair.NumField() != 2 {
		return nil, fmt.Errorf("type %s holds no numbers", l.DataType())
	}
	weights, ok := pair.Field(1).(*array.Float64)
	if !ok {
		return nil, unsupported(pair.Field(1))
	}
	e.numbers = slices.Grow(e.numbers[:0], l.Len())[:l.Len()]
	for r := range e.numbers {
		e.numbers[r] = math.NaN()
		lo, hi := l.ValueOffsets(r)
		if l.IsNull(r) || lo == hi {
			continue
		}
		if hi-lo > 1 {
			e.fault(r, 1+f.col, "numeric field %q has %d features, want one", f.name, hi-lo)
			continue
		}
		if e.numbers[r] = weights.Value(int(lo)); math.IsInf(e.numbers[r], 0) {
			e.fault(r, 1+f.col, "%v of numeric field %q is not a finite number", e.numbers[r], f.name)
			e.numbers[r] = 0
		}
	}
	return e.numbers, nil
}

// floats returns a column of numbers as float64, NaN where it is null. The
// slice is reused.
func (e *encoder) floats(a arrow.Array) ([]float64, error) {
	n := a.Len()
	e.numbers = slices.Grow(e.numbers[:0], n)[:n]
	out := e.numbers
	switch a := a.(type) {
	case *array.Float64:
		copy(out, a.Float64Values())
	case *array.Float32:
		convert(out, a.Float32Values())
	case *array.Float16:
		for r, v := range a.Values() {
			out[r] = float64(float16.Num(v).Float32())
		}
	case *array.Int8:
		convert(out, a.Int8Values())
	case *array.Int16:
		convert(out, a.Int16Values())
	case *array.Int32:
		convert(out, a.Int32Values())
	case *array.Int64:
		convert(out, a.Int64Values())
	case *array.Uint8:
		convert(out, a.Uint8Values())
	case *array.Uint16:
		convert(out, a.Uint16Values())
	case *array.Uint32:
		convert(out, a.Uint32Values())
	case *array.Uint64:
		convert(out, a.Uint64Values())
	case *array.Boolean:
		for r := range out {
			if out[r] = 0; a.Value(r) {
				out[r] = 1
			}
		}
	case *array.Null:
	default:
		return nil, unsupported(a)
	}
	if a.NullN() > 0 {
		for r := range out {
			if a.IsNull(r) {
				out[r] = math.NaN()
			}
		}
	}
	return out, nil
}

func convert[T int8 | int16 | int32 | int64 | uint8 | uint16 | uint32 | uint64 | float32](dst []float64, src []T) {
	for i, v := range src {
		dst[i] = float64(v)
	}
}
