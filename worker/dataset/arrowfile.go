package dataset

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"

	"github.com/apache/arrow/go/v17/arrow/ipc"
)

// arrowFile is a source whose units are record batches of an Arrow IPC file or
// stream. Both are read as a stream of messages, which the file format
// contains; scan notes where the messages are, and load hands a reader the
// schema, the dictionaries that the batch needs, and the batch.
type arrowFile struct {
	file
	stream  span // the stream: all of it, or between the magic and the footer
	head    span // the schema message
	batches []ipcBatch
	// order and names are as in parquetFile.
	order []int
	names []string
}

// span is a range of bytes of a file.
type span struct{ lo, hi int64 }

// ipcBatch is one record batch.
type ipcBatch struct {
	span
	rows, first int64
	// dicts are the dictionary messages in force; shared by batches.
	dicts []span
}

// Kinds of messages (Message.fbs, union MessageHeader).
const (
	ipcSchema     = 1
	ipcDictionary = 2
	ipcRecord     = 3

	ipcMetaMax = 64 << 20
)

var errNotArrow = errors.New("not a readable Arrow IPC file or stream")

// ipcMessage is what scan needs of a message.
type ipcMessage struct {
	kind  byte
	body  int64
	rows  int64 // of a record batch
	dict  int64 // id of a dictionary
	delta bool  // the dictionary adds to the one before
}

// openArrow reads the schema and finds the columns.
func openArrow(f file, s *schema) (a *arrowFile, err error) {
	defer f.guard(&err)
	in, err := f.open()
	if err != nil {
		return nil, err
	}
	defer in.Close()
	a = &arrowFile{file: f, stream: span{0, f.stamp.size}}
	if err := a.frame(in); err != nil {
		return nil, err
	}
	if err := a.index(in); err != nil {
		return nil, err
	}
	r, err := ipc.NewReader(a.section(in, a.head), ipc.WithDelayReadSchema(true))
	if err != nil {
		return nil, f.bad("%v: %v", errNotArrow, err)
	}
	defer r.Release()
	var names []string
	for _, field := range r.Schema().Fields() {
		names = append(names, field.Name)
	}
	if s == nil {
		a.names = names
		return a, nil
	}
	slots, err := slotsOf(names, s)
	if err != nil {
		return nil, f.bad("%v", err)
	}
	a.order = make([]int, 1+len(s.columns))
	for i, slot := range slots {
		if slot >= 0 {
			a.order[slot] = i
		}
	}
	a.names = append([]string{s.label}, s.columns...)
	return a, nil
}

// frame finds the stream in a file that begins with the magic of the file
// format. Not every writer ends it with an end-of-stream mark, so it is taken
// to end at the footer.
func (a *arrowFile) frame(in io.ReaderAt) error {
	const head, tail = 8, 4 + 6 // magic and padding; footer size and magic
	size := a.stamp.size
	magic := make([]byte, head)
	if _, err := in.ReadAt(magic, 0); err != nil || !bytes.HasPrefix(magic, ipc.Magic) {
		return nil // too short or a stream: index will tell
	}
	end := make([]byte, tail)
	if size < head+tail {
		return a.bad("the Arrow file is cut off: it has %d bytes", size)
	}
	if _, err := in.ReadAt(end, size-tail); err != nil {
		return fmt.Errorf("read data: %w", err)
	}
	a.stream = span{head, size - tail - int64(binary.LittleEndian.Uint32(end))}
	if !bytes.Equal(end[4:], ipc.Magic) || a.stream.hi < head {
		return a.bad("the Arrow file is cut off or damaged: it does not end in a footer and %s", ipc.Magic)
	}
	return nil
}

func (a *arrowFile) section(in io.ReaderAt, s span) io.Reader {
	return io.NewSectionReader(in, s.lo, s.hi-s.lo)
}

// index walks the messages without reading their bodies.
func (a *arrowFile) index(in *os.File) error {
	var rows int64
	var dicts []dictSpan
	var current []span // of dicts, rebuilt when these change
	for pos := a.stream.lo; ; {
		m, size, err := readMessage(in, pos, a.stream.hi)
		if err != nil {
			return a.bad("%v: message at byte %d: %v", errNotArrow, pos, err)
		}
		if size == 0 {
			break
		}
		s := span{pos, pos + size}
		switch {
		case pos == a.stream.lo:
			if m.kind != ipcSchema {
				return a.bad("%v: it does not begin with a schema", errNotArrow)
			}
			a.head = s
		case m.kind == ipcDictionary:
			if !m.delta {
				dicts = slices.DeleteFunc(dicts, func(d dictSpan) bool { return d.id == m.dict })
			}
			dicts, current = append(dicts, dictSpan{s, m.dict}), nil
		case m.kind == ipcRecord:
			if m.rows < 0 || m.rows > maxUnitRows {
				return a.bad("a record batch has %d rows, at most %d can be read", m.rows, maxUnitRows)
			}
			if current == nil {
				for _, d := range dicts {
					current = append(current, d.span)
				}
			}
			a.batches = append(a.batches, ipcBatch{span: s, rows: m.rows, first: rows, dicts: current})
			rows += m.rows
		}
		pos += size
	}
	if a.head == (span{}) {
		return a.bad("%v: the file is empty", errNotArrow)
	}
	return nil
}

// dictSpan is a dictionary message.
type dictSpan struct {
	span
	id int64
}

// readMessage reads the header of the message at pos. size is 0 at the end of
// the stream.
func readMessage(in io.ReaderAt, pos, end int64) (m ipcMessage, size int64, err error) {
	var word [8]byte
	n := min(len(word), int(end-pos))
	if _, err := in.ReadAt(word[:n], pos); err != nil {
		return m, 0, err
	}
	if n == 0 || n >= 4 && binary.LittleEndian.Uint32(word[:]) == 0 {
		return m, 0, nil
	}
	prefix, length := int64(8), binary.LittleEndian.Uint32(word[4:])
	if binary.LittleEndian.Uint32(word[:]) != math.MaxUint32 {
		prefix, length = 4, binary.LittleEndian.Uint32(word[:]) // before Arrow 0.15
	} else if n == 8 && length == 0 {
		return m, 0, nil
	}
	if n < 8 || length > ipcMetaMax || pos+prefix+int64(length) > end {
		return m, 0, io.ErrUnexpectedEOF
	}
	meta := make([]byte, length)
	if _, err := in.ReadAt(meta, pos+prefix); err != nil {
		return m, 0, err
	}
	if m, err = parseMessage(meta); err != nil {
		return m, 0, err
	}
	size = prefix + int64(length) + m.body
	if m.body < 0 || pos+size > end {
		return m, 0, io.ErrUnexpectedEOF
	}
	return m, size, nil
}

// scan implements source.
func (a *arrowFile) scan(context.Context) (units []*unit, err error) {
	for i, b := range a.batches {
		units = addRows(units, a, int64(i), int(b.rows))
	}
	return units, nil
}

// load implements source.
func (a *arrowFile) load(ctx context.Context, u *unit, consume func(*records) error) (err error) {
	defer a.guard(&err)
	in, err := a.open()
	if err != nil {
		return err
	}
	defer in.Close()
	for i := u.lo; i < u.hi; i++ {
		if err := a.loadBatch(in, &a.batches[i], consume); err != nil {
			return err
		}
	}
	return nil
}

// loadBatch decodes one record batch.
func (a *arrowFile) loadBatch(in io.ReaderAt, b *ipcBatch, consume func(*records) error) error {
	parts := []io.Reader{a.section(in, a.head)}
	for _, d := range b.dicts {
		parts = append(parts, a.section(in, d))
	}
	parts = append(parts, a.section(in, b.span), bytes.NewReader([]byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0}))
	r, err := ipc.NewReader(io.MultiReader(parts...))
	if err != nil {
		return a.bad("record batch at byte %d: %v", b.lo, err)
	}
	defer r.Release()
	rec, err := r.Read()
	if err != nil {
		return a.bad("record batch at byte %d: %v", b.lo, err)
	}
	if rec.NumRows() != b.rows {
		return a.bad("record batch at byte %d has %d rows, its header says %d", b.lo, rec.NumRows(), b.rows)
	}
	return consumeSlices(&a.file, a.names, rec, a.order, b.first, consume)
}
