package dataset

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"
)

const (
	// recordBytesMax bounds one record of a text file.
	recordBytesMax = 1 << 20
	// unitBytesMax ends a unit early, so that column offsets fit 32 bits.
	unitBytesMax = 256 << 20
)

// dialect is the syntax of one text format in one file.
type dialect interface {
	// quoted tells whether a record may span lines.
	quoted() bool
	// delimiter separates the fields of a format with quotes.
	delimiter() byte
	// decoder returns a new decoder.
	decoder() lineDecoder
}

// lineDecoder collects the columns of a unit's records.
type lineDecoder interface {
	// add decodes one record without its line break. What it returns is empty
	// or says what is wrong, and in which column of the record batch (-1: the
	// whole record); even then the record takes a row.
	add(record []byte) (col int, msg string)
	// finish returns the columns as a record batch, valid until reset.
	finish() *records
	// reset empties the decoder for another unit.
	reset()
	// offset returns where column col begins in a record, for messages.
	offset(record []byte, col int) int
}

// textFile is a source whose units are ranges of bytes.
type textFile struct {
	file
	dialect dialect
	// start and line are where the records begin, after a header.
	start int64
	line  int
	// loaders are reused between loads.
	loaders sync.Pool
}

// loader is the memory of one load.
type loader struct {
	buf []byte
	at  []int32 // where each record begins in buf
	on  []int32 // which line that is, from 0
	dec lineDecoder
}

// scan cuts the file into units of blockRows records.
func (t *textFile) scan(ctx context.Context) ([]*unit, error) {
	in, err := t.open()
	if err != nil {
		return nil, err
	}
	defer in.Close()
	w := &walker{in: io.NewSectionReader(in, t.start, t.stamp.size-t.start), d: t.dialect, pos: t.start, line: t.line}
	var units []*unit
	for u := (*unit)(nil); ; {
		from, line := w.pos, w.line
		record, err := w.next()
		if err != nil {
			if bad, ok := err.(*InputError); ok {
				bad.File = t.path
			}
			return nil, err
		}
		if record == nil {
			return units, nil
		}
		w.line += lines(t.dialect, record)
		if u == nil || u.records == blockRows || w.pos-u.lo > unitBytesMax {
			if err := ctx.Err(); err != nil {
				return nil, context.Cause(ctx)
			}
			u = &unit{src: t, lo: from, line: line}
			units = append(units, u)
		}
		u.hi = w.pos
		if w.torn {
			u.torn = append(u.torn, from)
		}
		if !blank(record) {
			u.records++
		}
	}
}

// lines counts the line breaks of a record.
func lines(d dialect, record []byte) int {
	if d.quoted() && bytes.IndexByte(record, '"') >= 0 {
		return bytes.Count(record, []byte{'\n'})
	}
	return 1
}

// load decodes a unit.
func (t *textFile) load(ctx context.Context, u *unit, consume func(*records) error) error {
	l, _ := t.loaders.Get().(*loader)
	if l == nil {
		l = &loader{dec: t.dialect.decoder()}
	}
	defer t.loaders.Put(l)
	if err := t.read(l, u); err != nil {
		return err
	}
	l.at, l.on = l.at[:0], l.on[:0]
	l.dec.reset()
	var broken []fault
	for i, line := 0, 0; i < len(l.buf); {
		size, torn := t.sizeAt(l, u, i)
		if size < 0 {
			return fmt.Errorf("%s: %w", t.path, ErrChanged)
		}
		record := l.buf[i : i+size]
		if !blank(record) {
			col, msg := l.dec.add(trim(record))
			if torn {
				col, msg = -1, "a quote is never closed"
			}
			if msg != "" {
				broken = append(broken, fault{row: len(l.at), col: col, msg: msg})
			}
			l.at, l.on = append(l.at, int32(i)), append(l.on, int32(line))
		}
		i += size
		line += lines(t.dialect, record)
	}
	if len(l.at) != u.records {
		return fmt.Errorf("%s: %w", t.path, ErrChanged)
	}
	r := l.dec.finish()
	defer r.rec.Release()
	r.broken = broken
	r.at = func(row, col int) InputError {
		i := int(l.at[row])
		where := InputError{File: t.path, Line: u.line + int(l.on[row])}
		if size, _ := t.sizeAt(l, u, i); col >= 0 {
			where.Column = 1 + l.dec.offset(trim(l.buf[i:i+size]), col)
		}
		return where
	}
	return consume(r)
}

// read reads the bytes of a unit.
func (t *textFile) read(l *loader, u *unit) error {
	in, err := t.open()
	if err != nil {
		return err
	}
	defer in.Close()
	l.buf = slices.Grow(l.buf[:0], int(u.hi-u.lo))[:u.hi-u.lo]
	if _, err := in.ReadAt(l.buf, u.lo); err != nil {
		return fmt.Errorf("read data: %w", err)
	}
	return nil
}

// sizeAt returns the size of the record at buf[i:]. That a record is torn can
// be seen only with the bytes behind it, so scan has noted those that are.
func (t *textFile) sizeAt(l *loader, u *unit, i int) (size int, torn bool) {
	if len(u.torn) > 0 {
		if _, torn := slices.BinarySearch(u.torn, u.lo+int64(i)); torn {
			if n := bytes.IndexByte(l.buf[i:], '\n'); n >= 0 {
				return n + 1, true
			}
			return len(l.buf) - i, true
		}
	}
	size, torn, _ = end(t.dialect, l.buf[i:], true)
	if torn {
		return -1, false
	}
	return size, false
}

// texts collects a column of texts in the layout of an Arrow binary column.
type texts struct {
	offsets []int32
	data    []byte
}

// reset empties the column.
func (t *texts) reset() {
	t.offsets = append(t.offsets[:0], 0)
	t.data = t.data[:0]
}

func (t *texts) add(v []byte) {
	t.data = append(t.data, v...)
	t.offsets = append(t.offsets, int32(len(t.data)))
}

// array returns the column as an Arrow array over its memory.
func (t *texts) array() arrow.Array {
	buffers := []*memory.Buffer{nil, memory.NewBufferBytes(arrow.Int32Traits.CastToBytes(t.offsets)), memory.NewBufferBytes(t.data)}
	return array.NewBinaryData(array.NewData(arrow.BinaryTypes.Binary, len(t.offsets)-1, buffers, nil, 0, 0))
}
