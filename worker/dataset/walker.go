package dataset

import (
	"bytes"
	"fmt"
	"io"
)

// end finds the end of the record at the start of buf.
//
// size counts its bytes with the line break. When more is true the record does
// not end within buf and more input is needed. torn reports a record that is
// only the first line of something whose quotes never close within
// recordBytesMax or the file. A record whose line alone is longer than that
// has size -1.
func end(d dialect, buf []byte, eof bool) (size int, torn, more bool) {
	limited := len(buf) > recordBytesMax
	if limited {
		buf = buf[:recordBytesMax]
	}
	n := bytes.IndexByte(buf, '\n')
	line := buf
	if n >= 0 {
		line = buf[:n]
	} else if limited {
		return -1, false, false
	} else if !eof {
		return 0, false, true
	}
	if size = n + 1; n < 0 {
		size = len(buf)
	}
	if !d.quoted() || bytes.IndexByte(line, '"') < 0 {
		return size, false, false
	}
	switch q := quotedEnd(buf, d.delimiter(), eof && !limited); {
	case q >= 0:
		return q, false, false
	case limited || eof:
		return size, true, false
	}
	return 0, false, true
}

// quotedEnd returns the size of the record at the start of buf, which has
// quotes, or -1 when it does not end in buf. A quote opens a quoted field only
// as its first byte; within one, a doubled quote is a quote.
func quotedEnd(buf []byte, delim byte, eof bool) int {
	i := 0
	for {
		if i < len(buf) && buf[i] == '"' {
			i = closingQuote(buf, i+1)
			if i < 0 || i == len(buf) && !eof {
				return -1
			}
		}
		for i < len(buf) && buf[i] != delim && buf[i] != '\n' {
			i++
		}
		switch {
		case i < len(buf) && buf[i] == '\n':
			return i + 1
		case i < len(buf):
			i++
		case eof:
			return i
		default:
			return -1
		}
	}
}

// closingQuote returns the index after the quote that closes a field whose
// text starts at i, -1 when there is none.
func closingQuote(buf []byte, i int) int {
	for {
		j := bytes.IndexByte(buf[i:], '"')
		if j < 0 {
			return -1
		}
		if i += j + 1; i >= len(buf) || buf[i] != '"' {
			return i
		}
		i++
	}
}

// blank tells whether a record is an empty line; these are skipped.
func blank(record []byte) bool {
	return len(record) == 0 || len(record) == 1 && (record[0] == '\n' || record[0] == '\r') || string(record) == "\r\n"
}

// trim removes the line break.
func trim(record []byte) []byte {
	record = bytes.TrimSuffix(record, []byte{'\n'})
	return bytes.TrimSuffix(record, []byte{'\r'})
}

// walker yields the records of a file in order.
type walker struct {
	in   io.Reader
	d    dialect
	buf  []byte
	at   int // of the next record in buf
	eof  bool
	pos  int64 // of buf[at] in the file
	line int   // of the next record
	torn bool  // about the record returned last
}

// next returns the next record with its line break, nil at the end. It is
// valid until the next call.
func (w *walker) next() ([]byte, error) {
	for {
		if w.eof && w.at == len(w.buf) {
			return nil, nil
		}
		size, torn, more := end(w.d, w.buf[w.at:], w.eof)
		if size < 0 {
			return nil, &InputError{Line: w.line, Msg: fmt.Sprintf("the line is longer than %d bytes; is this a text file?", recordBytesMax)}
		}
		if !more {
			record := w.buf[w.at : w.at+size]
			w.at += size
			w.pos += int64(size)
			w.torn = torn
			return record, nil
		}
		if err := w.fill(); err != nil {
			return nil, err
		}
	}
}

// A walker's buffer begins with bufferMin bytes, which hold a small file, and grows
// to bufferMax, which holds more than the longest record.
const (
	bufferMin = 64 << 10
	bufferMax = 4 * recordBytesMax
)

// fill reads more input behind the bytes that are not used yet.
func (w *walker) fill() error {
	rest := w.buf[w.at:]
	if size := min(max(bufferMin, 2*cap(w.buf)), bufferMax); size > cap(w.buf) {
		w.buf = make([]byte, 0, size)
	}
	n := copy(w.buf[:cap(w.buf)], rest)
	w.buf, w.at = w.buf[:n], 0
	got, err := io.ReadFull(w.in, w.buf[n:cap(w.buf)])
	w.buf = w.buf[:n+got]
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		w.eof, err = true, nil
	}
	if err != nil {
		return fmt.Errorf("read data: %w", err)
	}
	return nil
}
