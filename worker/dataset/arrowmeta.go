package dataset

import (
	"encoding/binary"
	"errors"
)

// parseMessage reads the few fields needed from the flatbuffer of a message
// (Message.fbs): the bodies need not be read, and sizes are checked before
// anything is allocated for them.
func parseMessage(b []byte) (m ipcMessage, err error) {
	t, ok := rootTable(b)
	kind, ok1 := t.field(1, 1)
	body, ok2 := t.field(3, 8)
	header, ok3 := t.table(2)
	if !ok || !ok1 || !ok3 {
		return m, errors.New("the metadata is malformed")
	}
	m.kind = kind[0]
	if ok2 {
		m.body = int64(binary.LittleEndian.Uint64(body))
	}
	if !saneHeader(m, header) {
		return m, errors.New("the metadata counts more than there is")
	}
	first, ok := header.field(0, 8) // RecordBatch.length, DictionaryBatch.id
	if ok && m.kind != ipcSchema {
		m.rows = int64(binary.LittleEndian.Uint64(first))
		m.dict = m.rows
	}
	if delta, ok := header.field(2, 1); ok && m.kind == ipcDictionary {
		m.delta = delta[0] != 0
	}
	return m, nil
}

// saneHeader checks the counts and sizes in a header that the Arrow library
// allocates by without a check of its own.
func saneHeader(m ipcMessage, t fbTable) bool {
	switch m.kind {
	case ipcSchema:
		return saneFields(t, 1, 0)
	case ipcDictionary:
		batch, ok := t.table(1)
		return ok && saneBatch(batch, m.body)
	case ipcRecord:
		return saneBatch(t, m.body)
	}
	return true
}

// saneFields checks a vector of schema fields and their children.
func saneFields(t fbTable, i int64, depth int) bool {
	pos, n, ok := t.vector(i, 4)
	if !ok || depth > 16 {
		return false
	}
	for k := range n {
		at := pos + 4*k
		child, ok := tableAt(t.buf, at+int64(binary.LittleEndian.Uint32(t.buf[at:])))
		if !ok || !saneFields(child, 5, depth+1) {
			return false
		}
	}
	return true
}

// saneBatch checks that the buffers of a record batch lie in its body.
func saneBatch(t fbTable, body int64) bool {
	_, _, ok := t.vector(1, 16)
	pos, n, ok2 := t.vector(2, 16)
	if !ok || !ok2 {
		return false
	}
	for k := range n {
		b := t.buf[pos+16*k:]
		off, size := binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])
		if off > uint64(body) || size > uint64(body)-off {
			return false
		}
	}
	return true
}

// fbTable is a flatbuffer table at pos of buf; vt and its size are the vtable.
type fbTable struct {
	buf     []byte
	pos     int64
	vt, len int64
}

func rootTable(b []byte) (fbTable, bool) {
	if len(b) < 8 {
		return fbTable{}, false
	}
	return tableAt(b, int64(binary.LittleEndian.Uint32(b)))
}

func tableAt(b []byte, pos int64) (fbTable, bool) {
	if pos < 0 || pos+4 > int64(len(b)) {
		return fbTable{}, false
	}
	vt := pos - int64(int32(binary.LittleEndian.Uint32(b[pos:])))
	if vt < 0 || vt+4 > int64(len(b)) {
		return fbTable{}, false
	}
	return fbTable{buf: b, pos: pos, vt: vt, len: int64(binary.LittleEndian.Uint16(b[vt:]))}, true
}

// field returns the bytes of a scalar field, false when it is absent.
func (t fbTable) field(i, width int64) ([]byte, bool) {
	at := t.vt + 4 + 2*i
	if 4+2*i+2 > t.len || at+2 > int64(len(t.buf)) {
		return nil, false
	}
	off := int64(binary.LittleEndian.Uint16(t.buf[at:]))
	if off == 0 || t.pos+off+width > int64(len(t.buf)) {
		return nil, false
	}
	return t.buf[t.pos+off:][:width], true
}

// table returns a field that is a table.
func (t fbTable) table(i int64) (fbTable, bool) {
	ref, ok := t.field(i, 4)
	if !ok {
		return fbTable{}, false
	}
	off := int64(binary.LittleEndian.Uint16(t.buf[t.vt+4+2*i:]))
	return tableAt(t.buf, t.pos+off+int64(binary.LittleEndian.Uint32(ref)))
}

// vector returns where the elements of a vector field begin and how many there
// are, none when the field is absent. It is not ok when they are not all there.
func (t fbTable) vector(i, width int64) (pos, n int64, ok bool) {
	ref, ok := t.field(i, 4)
	if !ok {
		return 0, 0, true
	}
	off := int64(binary.LittleEndian.Uint16(t.buf[t.vt+4+2*i:]))
	pos = t.pos + off + int64(binary.LittleEndian.Uint32(ref))
	if pos+4 > int64(len(t.buf)) {
		return 0, 0, false
	}
	n = int64(binary.LittleEndian.Uint32(t.buf[pos:]))
	return pos + 4, n, pos+4+n*width <= int64(len(t.buf))
}
