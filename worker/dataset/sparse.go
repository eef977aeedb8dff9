package dataset

import (
	"bytes"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"
)

// sparseDialect is libsvm and libffm: a label and a list of features, separated
// by spaces or tabs. Every column of the record batch is a list of {feature,
// value} pairs.
type sparseDialect struct {
	schema *arrow.Schema
	// fields is for libffm: fields[n] is the column of field number n, -1 for
	// none. nil for libsvm.
	fields []int
	// ranges is for libsvm: the indices of each column.
	ranges []indexRange
	// unlabelled says that lines begin with their first feature.
	unlabelled bool
	// seen tells which columns had a feature in any line decoded.
	seen []atomic.Bool
}

// indexRange is a range of libsvm feature indices, both ends inclusive.
type indexRange struct{ lo, hi uint64 }

// fieldNumberMax bounds the field numbers of libffm files that a job may name.
const fieldNumberMax = 1 << 20

func (s *sparseDialect) quoted() bool         { return false }
func (s *sparseDialect) delimiter() byte      { return ' ' }
func (s *sparseDialect) decoder() lineDecoder { return newSparseDecoder(s) }

var pairList = arrow.ListOf(arrow.StructOf(
	arrow.Field{Name: "feature", Type: arrow.BinaryTypes.Binary},
	arrow.Field{Name: "value", Type: arrow.PrimitiveTypes.Float64},
))

// newSparseDialect maps the columns of the schema to field numbers (libffm) or
// index ranges (libsvm).
func newSparseDialect(format string, s *schema) (*sparseDialect, error) {
	d := &sparseDialect{schema: textSchema(s, pairList), unlabelled: s.unlabelled, seen: make([]atomic.Bool, len(s.columns))}
	for c, name := range s.columns {
		if format == "libsvm" {
			r, err := parseRange(name, slices.ContainsFunc(s.fields, func(f field) bool { return f.column == name && f.name != name }))
			if err != nil {
				return nil, err
			}
			d.ranges = append(d.ranges, r)
			continue
		}
		n, err := strconv.ParseUint(name, 10, 32)
		if err != nil || n >= fieldNumberMax {
			return nil, &InputError{Msg: fmt.Sprintf("column %q is no libffm field number (0 to %d)", name, fieldNumberMax-1)}
		}
		for uint64(len(d.fields)) <= n {
			d.fields = append(d.fields, -1)
		}
		d.fields[n] = c
	}
	return d, nil
}

// parseRange parses "lo-hi", "i" or "*". Another text means all indices when
// it is only a field's name, and is an error when it was given as a column.
func parseRange(text string, given bool) (indexRange, error) {
	lo, hi, ranged := strings.Cut(text, "-")
	if !ranged {
		hi = lo
	}
	a, errLo := strconv.ParseUint(lo, 10, 64)
	b, errHi := strconv.ParseUint(hi, 10, 64)
	switch {
	case errLo == nil && errHi == nil && a <= b:
		return indexRange{a, b}, nil
	case text == "*" || !given:
		return indexRange{0, math.MaxUint64}, nil
	}
	return indexRange{}, &InputError{Msg: fmt.Sprintf(`column %q is no range of libsvm indices, want "lo-hi", "i" or "*"`, text)}
}

// pairs collects a column of lists of pairs.
type pairs struct {
	ends     []int32 // with a leading 0, as Arrow has it
	features texts
	values   []float64
}

// sparseDecoder is the lineDecoder of libsvm and libffm.
type sparseDecoder struct {
	d       *sparseDialect
	label   texts
	columns []pairs
	rows    int
}

func newSparseDecoder(d *sparseDialect) *sparseDecoder {
	return &sparseDecoder{d: d, columns: make([]pairs, d.schema.NumFields()-1)}
}

// reset implements lineDecoder.
func (s *sparseDecoder) reset() {
	s.rows = 0
	s.label.reset()
	for i := range s.columns {
		p := &s.columns[i]
		p.ends = append(p.ends[:0], 0)
		p.features.reset()
		p.values = p.values[:0]
	}
}

// add implements lineDecoder.
func (s *sparseDecoder) add(record []byte) (col int, msg string) {
	s.rows++
	rest := record
	var label []byte
	if !s.d.unlabelled {
		label, rest = token(record)
	}
	s.label.add(label)
	for msg == "" {
		var t []byte
		if t, rest = token(rest); t == nil || t[0] == '#' {
			break
		}
		col, msg = s.addFeature(unsafeString(t))
	}
	for i := range s.columns {
		p := &s.columns[i]
		p.ends = append(p.ends, int32(len(p.values)))
	}
	if msg == "" {
		return -1, ""
	}
	return col, msg
}

// addFeature decodes one feature. A fault has no column: the column of the
// record batch does not say where on the line it is.
func (s *sparseDecoder) addFeature(t string) (col int, msg string) {
	if s.d.fields != nil {
		number, rest, ok1 := strings.Cut(t, ":")
		feature, value, ok2 := strings.Cut(rest, ":")
		n, err := strconv.ParseUint(number, 10, 32)
		v, msg := parseValue(value)
		if !ok1 || !ok2 || err != nil || feature == "" || msg != "" {
			return -1, fmt.Sprintf("%s is not field:feature:value with a field number and a finite value", clip(strings.Clone(t)))
		}
		if n < uint64(len(s.d.fields)) && s.d.fields[n] >= 0 {
			s.columns[s.d.fields[n]].add(feature, v)
		}
		return -1, ""
	}
	index, value, ok := strings.Cut(t, ":")
	n, err := strconv.ParseUint(index, 10, 64)
	v, msg := parseValue(value)
	if !ok || err != nil || msg != "" {
		return -1, fmt.Sprintf("%s is not index:value with an integer index and a finite value", clip(strings.Clone(t)))
	}
	for c, r := range s.d.ranges {
		if r.lo <= n && n <= r.hi {
			s.columns[c].add(index, v)
		}
	}
	return -1, ""
}

func (p *pairs) add(feature string, v float64) {
	p.features.add(unsafeBytes(feature))
	p.values = append(p.values, v)
}

// parseValue parses the value of a feature, which must fit a 32-bit float.
func parseValue(text string) (v float64, msg string) {
	if text == "1" {
		return 1, ""
	}
	v, err := strconv.ParseFloat(text, 64)
	if f := float64(float32(v)); err != nil || math.IsInf(f, 0) || math.IsNaN(f) {
		return 0, "not a finite number"
	}
	return v, ""
}

// token cuts the first word off a line; it is nil at the end.
func token(b []byte) (word, rest []byte) {
	i := 0
	for i < len(b) && (b[i] == ' ' || b[i] == '\t') {
		i++
	}
	b = b[i:]
	if len(b) == 0 {
		return nil, nil
	}
	n := 1
	for n < len(b) && b[n] != ' ' && b[n] != '\t' {
		n++
	}
	return b[:n], b[n:]
}

// finish implements lineDecoder.
func (s *sparseDecoder) finish() *records {
	columns := []arrow.Array{s.label.array()}
	for i := range s.columns {
		p := &s.columns[i]
		n := len(p.values)
		if n > 0 {
			s.d.seen[i].Store(true)
		}
		features := p.features.array()
		values := array.NewData(arrow.PrimitiveTypes.Float64, n,
			[]*memory.Buffer{nil, memory.NewBufferBytes(arrow.Float64Traits.CastToBytes(p.values))}, nil, 0, 0)
		pair := array.NewData(pairList.Elem(), n, []*memory.Buffer{nil}, []arrow.ArrayData{features.Data(), values}, 0, 0)
		columns = append(columns, array.NewListData(array.NewData(pairList, s.rows,
			[]*memory.Buffer{nil, memory.NewBufferBytes(arrow.Int32Traits.CastToBytes(p.ends))}, []arrow.ArrayData{pair}, 0, 0)))
	}
	return &records{rec: array.NewRecord(s.d.schema, columns, int64(s.rows))}
}

// offset implements lineDecoder: the label is in front, and features may be
// anywhere behind it.
func (s *sparseDecoder) offset(record []byte, col int) int {
	word, rest := token(record)
	if s.d.unlabelled {
		rest = record
	}
	if col > 0 {
		if w, after := token(rest); w != nil {
			return len(record) - len(after) - len(w)
		}
	}
	return len(record) - len(rest) - len(word)
}

// openSparse opens a libsvm or libffm file.
func openSparse(f file, d *sparseDialect) (*textFile, error) {
	in, err := f.open()
	if err != nil {
		return nil, err
	}
	defer in.Close()
	t := &textFile{file: f, dialect: d, line: 1}
	t.start, err = textStart(in, &t.file)
	return t, err
}

// sparse tells whether a format is one of sparseDialect.
func sparse(format string) bool { return format == "libsvm" || format == "libffm" }

// labelBytesMax is how far into a file a label is looked for.
const labelBytesMax = 1 << 16

// startsWithLabel tells whether the first word of a file is a label: a feature has
// a colon.
func startsWithLabel(path string) (bool, error) {
	f, err := newFile(path)
	if err != nil {
		return false, err
	}
	in, err := f.open()
	if err != nil {
		return false, err
	}
	defer in.Close() // read only
	start, err := textStart(in, &f)
	if err != nil {
		return false, err
	}
	head := make([]byte, labelBytesMax)
	n, err := in.ReadAt(head, start)
	if err != nil && err != io.EOF {
		return false, fmt.Errorf("read data: %w", err)
	}
	words := bytes.Fields(head[:n])
	return len(words) == 0 || !bytes.ContainsRune(words[0], ':'), nil
}

// checkSeen refuses columns that no line of the sources has: sparse files have
// no header that a wrong number could be held against.
func checkSeen(split string, sources []source, s *schema) error {
	for c, column := range s.columns {
		seen := false
		for _, src := range sources {
			t, ok := src.(*textFile)
			if !ok {
				return nil
			}
			d, ok := t.dialect.(*sparseDialect)
			if !ok {
				return nil
			}
			seen = seen || d.seen[c].Load()
		}
		if !seen {
			return &InputError{Msg: fmt.Sprintf("no line of data.%s has a feature for column %q", split, column)}
		}
	}
	return nil
}
