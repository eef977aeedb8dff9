package dataset

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/fathom-train/fathom/coordinator/job"
)

// csvDialect is comma or otherwise separated values after RFC 4180, with two
// freedoms: lines may end in LF or CRLF, and a quote that is not the first
// byte of a field is an ordinary byte.
type csvDialect struct {
	delim  byte
	names  []string
	slots  []int // slots[i] is the column of the record batch that names[i] goes to, -1 for none
	schema *arrow.Schema
}

func (c *csvDialect) quoted() bool         { return true }
func (c *csvDialect) delimiter() byte      { return c.delim }
func (c *csvDialect) decoder() lineDecoder { return newCSVDecoder(c) }

// openCSV reads the header of a file and maps its columns to the schema.
func openCSV(f file, d job.Data, s *schema) (*textFile, error) {
	c, err := newCSVDialect(d)
	if err != nil {
		return nil, err
	}
	t := &textFile{file: f, dialect: c, line: 1}
	if err := t.readHeader(c, d.Header == nil || *d.Header); err != nil {
		return nil, err
	}
	if s == nil {
		return t, nil
	}
	if c.slots, err = slotsOf(c.names, s); err != nil {
		return nil, &InputError{File: f.path, Line: t.line - 1, Msg: err.Error()}
	}
	c.schema = textSchema(s, arrow.BinaryTypes.Binary)
	return t, nil
}

// newCSVDialect takes the delimiter from the job.
func newCSVDialect(d job.Data) (*csvDialect, error) {
	delim := d.Delimiter
	switch {
	case d.Format == "tsv":
		delim = "\t"
	case delim == "":
		delim = ","
	}
	if len(delim) != 1 || strings.ContainsAny(delim, "\"\r\n") || delim[0] >= utf8.RuneSelf {
		return nil, &InputError{Msg: fmt.Sprintf("data.delimiter is %q, want one ASCII character that is no quote or line break", delim)}
	}
	return &csvDialect{delim: delim[0]}, nil
}

// readHeader takes the names of the columns from the first record, or counts
// its columns if the file has no header.
func (t *textFile) readHeader(c *csvDialect, header bool) error {
	in, err := t.open()
	if err != nil {
		return err
	}
	defer in.Close()
	if t.start, err = textStart(in, &t.file); err != nil {
		return err
	}
	w := &walker{in: io.NewSectionReader(in, t.start, t.stamp.size-t.start), d: c, pos: t.start, line: 1}
	record, err := w.next()
	for err == nil && record != nil && blank(record) {
		w.line++
		record, err = w.next()
	}
	if err != nil {
		if bad, ok := err.(*InputError); ok {
			bad.File = t.path
		}
		return err
	}
	if record == nil {
		return t.bad("the file is empty, want a first line with the columns")
	}
	values, msg := c.split(trim(record))
	if w.torn {
		msg = "a quote is never closed"
	}
	if msg != "" {
		return &InputError{File: t.path, Line: w.line, Msg: msg}
	}
	for i, v := range values {
		if !header {
			v = strconv.Itoa(i)
		}
		c.names = append(c.names, v)
	}
	if header {
		t.start = w.pos
		t.line = w.line + lines(c, record)
	}
	return nil
}

// textStart skips a byte order mark and refuses files that are no text in an
// encoding that is a superset of ASCII.
func textStart(in io.ReaderAt, f *file) (int64, error) {
	var head [4]byte
	n, err := in.ReadAt(head[:], 0)
	if err != nil && err != io.EOF {
		return 0, fmt.Errorf("read data: %w", err)
	}
	switch b := head[:n]; {
	case bytes.HasPrefix(b, []byte{0xef, 0xbb, 0xbf}):
		return 3, nil
	case bytes.HasPrefix(b, []byte{0xff, 0xfe}), bytes.HasPrefix(b, []byte{0xfe, 0xff}):
		return 0, f.bad("the file is UTF-16, want UTF-8")
	case bytes.HasPrefix(b, []byte{0x1f, 0x8b}):
		return 0, f.bad("the file is compressed with gzip, want plain text: decompress it")
	case bytes.HasPrefix(b, []byte("PAR1")):
		return 0, f.bad("this is a Parquet file: set data.format to parquet")
	case bytes.HasPrefix(b, []byte("ARRO")):
		return 0, f.bad("this is an Arrow file: set data.format to arrow")
	}
	return 0, nil
}

// slotsOf maps named columns to columns of the record batch.
func slotsOf(names []string, s *schema) ([]int, error) {
	slots := make([]int, len(names))
	for i := range slots {
		slots[i] = -1
	}
	for c, want := range append([]string{s.label}, s.columns...) {
		i := slices.Index(names, want)
		if i < 0 {
			return nil, fmt.Errorf("%s", unknown("column", want, names))
		}
		if slices.Contains(names[i+1:], want) {
			return nil, fmt.Errorf("column %q is there twice", want)
		}
		slots[i] = c
	}
	return slots, nil
}

// textSchema is the schema of a record batch of a text format: the label as
// text and every column of the given type.
func textSchema(s *schema, columns arrow.DataType) *arrow.Schema {
	fields := []arrow.Field{{Name: s.label, Type: arrow.BinaryTypes.Binary}}
	for _, c := range s.columns {
		fields = append(fields, arrow.Field{Name: c, Type: columns})
	}
	return arrow.NewSchema(fields, nil)
}

// csvDecoder is the lineDecoder of csv and tsv.
type csvDecoder struct {
	d       *csvDialect
	columns []texts
	rows    int
	scratch []byte // an unquoted field
}

func newCSVDecoder(d *csvDialect) *csvDecoder {
	return &csvDecoder{d: d, columns: make([]texts, d.schema.NumFields())}
}

// reset implements lineDecoder.
func (c *csvDecoder) reset() {
	c.rows = 0
	for i := range c.columns {
		c.columns[i].reset()
	}
}

// add implements lineDecoder.
func (c *csvDecoder) add(record []byte) (col int, msg string) {
	c.rows++
	n, quoted := 0, bytes.IndexByte(record, '"') >= 0
	rest, more := record, true
	for more && msg == "" {
		var v []byte
		if quoted {
			v, rest, more, msg = c.cutQuoted(rest)
		} else if i := bytes.IndexByte(rest, c.d.delim); i >= 0 {
			v, rest = rest[:i], rest[i+1:]
		} else {
			v, more = rest, false
		}
		if n < len(c.d.slots) && c.d.slots[n] >= 0 {
			c.columns[c.d.slots[n]].add(v)
		}
		n++
	}
	if msg == "" && n == len(c.d.slots) {
		return -1, ""
	}
	if msg == "" {
		msg = fmt.Sprintf("the record has %d columns, want %d", n, len(c.d.slots))
	}
	c.pad()
	return -1, msg
}

// pad gives a broken record an empty value in the columns it did not reach.
func (c *csvDecoder) pad() {
	for i := range c.columns {
		if len(c.columns[i].offsets) == c.rows {
			c.columns[i].add(nil)
		}
	}
}

// cutQuoted cuts the first field off a record with quotes.
func (c *csvDecoder) cutQuoted(rest []byte) (v, after []byte, more bool, msg string) {
	if len(rest) == 0 || rest[0] != '"' {
		v, after, more = bytes.Cut(rest, []byte{c.d.delim})
		return v, after, more, ""
	}
	end := closingQuote(rest, 1)
	if end < 0 {
		return nil, nil, false, "a quote is never closed"
	}
	v = rest[1 : end-1]
	if bytes.IndexByte(v, '"') >= 0 {
		c.scratch = append(c.scratch[:0], v[:0]...)
		for i := 0; i < len(v); i++ {
			c.scratch = append(c.scratch, v[i])
			if v[i] == '"' {
				i++ // the second of a doubled quote
			}
		}
		v = c.scratch
	}
	if end == len(rest) {
		return v, nil, false, ""
	}
	if rest[end] != c.d.delim {
		return nil, nil, false, fmt.Sprintf("a quoted value is followed by %s, want %q or the end of the line", clip(string(rest[end:])), c.d.delim)
	}
	return v, rest[end+1:], true, ""
}

// finish implements lineDecoder.
func (c *csvDecoder) finish() *records {
	columns := make([]arrow.Array, len(c.columns))
	for i := range columns {
		columns[i] = c.columns[i].array()
	}
	return &records{rec: array.NewRecord(c.d.schema, columns, int64(c.rows))}
}

// offset implements lineDecoder.
func (c *csvDecoder) offset(record []byte, col int) int {
	column := slices.Index(c.d.slots, col)
	at := 0
	for range column {
		i := bytes.IndexByte(record[at:], c.d.delim)
		if at < len(record) && record[at] == '"' {
			if end := closingQuote(record, at+1); end >= 0 {
				i = end - at
			}
		}
		if i < 0 {
			return at
		}
		at += i + 1
	}
	return at
}

// split returns all fields of a record.
func (c *csvDialect) split(record []byte) (values []string, msg string) {
	dec := csvDecoder{d: c}
	for rest, more := record, true; more; {
		var v []byte
		if v, rest, more, msg = dec.cutQuoted(rest); msg != "" {
			return nil, msg
		}
		values = append(values, string(v))
	}
	return values, ""
}
