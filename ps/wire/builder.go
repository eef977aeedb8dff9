package wire

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/fathom-train/fathom/shard"
)

// PushBuilder turns the gradients of one lane for one shard into commands. It
// keeps the slices it is given until Chunks or Body, and its buffers over Reset.
type PushBuilder struct {
	id     PushID
	rows   []RowSection
	dense  []DenseSection
	buf    []byte // the body of a request, whose header comes last
	starts []int  // of the chunks in buf
	inTop  uint32
	chunks [][]byte
}

// NewPush returns a builder for one push.
func NewPush(id PushID) *PushBuilder { return &PushBuilder{id: id} }

// Reset makes the builder ready for another push; the chunks of the last one
// become invalid.
func (b *PushBuilder) Reset(id PushID) {
	b.id = id
	b.rows, b.dense = b.rows[:0], b.dense[:0]
}

// Rows adds the gradients of a table's rows: keys strictly ascending, counts
// the occurrences of each, grads [len(keys), width]. One call per table; the
// slices must stay as they are until Chunks. Slices of other lengths or widths
// are a programming error and panic.
func (b *PushBuilder) Rows(table uint16, width int, keys []shard.Key, counts []uint32, grads []float32) {
	if width < 1 || width > MaxRowWidth || len(counts) != len(keys) || len(grads) != len(keys)*width {
		panic(fmt.Sprintf("ps/wire: BUG: %d keys with %d counts and %d gradients of width %d", len(keys), len(counts), len(grads), width))
	}
	for i := 1; i < len(keys); i++ {
		if keys[i-1] >= keys[i] {
			panic(fmt.Sprintf("ps/wire: BUG: key %#x of a push behind key %#x", uint64(keys[i]), uint64(keys[i-1])))
		}
	}
	b.rows = append(b.rows, RowSection{Table: table, Width: width, Keys: keys, Counts: counts, Grads: grads})
}

// Dense adds the gradient of a whole dense tensor. One call per tensor; the
// slice must stay as it is until Chunks.
func (b *PushBuilder) Dense(id uint16, values []float32) {
	b.dense = append(b.dense, DenseSection{ID: id, Values: values})
}

// Chunks returns the commands of the push, at least one, each at most MaxChunk
// bytes. The bytes depend only on the id and the gradients, not on the order
// of the calls. They are valid until Reset or the next call of Chunks or Body.
func (b *PushBuilder) Chunks() [][]byte {
	slices.SortFunc(b.rows, func(x, y RowSection) int { return cmp.Compare(x.Table, y.Table) })
	slices.SortFunc(b.dense, func(x, y DenseSection) int { return cmp.Compare(x.ID, y.ID) })
	if b.buf == nil {
		b.buf = make([]byte, 0, b.bound())
	}
	b.buf, b.starts = append(b.buf[:0], zeros[:bodyHeaderSize+framesHeaderSize]...), b.starts[:0]
	b.begin()
	for i, s := range b.rows {
		if i > 0 && b.rows[i-1].Table == s.Table {
			panic(fmt.Sprintf("ps/wire: BUG: table %d twice in one push", s.Table))
		}
		b.addRows(s)
	}
	for i, s := range b.dense {
		if i > 0 && b.dense[i-1].ID == s.ID {
			panic(fmt.Sprintf("ps/wire: BUG: dense tensor %d twice in one push", s.ID))
		}
		b.addDense(s)
	}
	b.end()
	if len(b.starts) > MaxChunks {
		panic(fmt.Sprintf("ps/wire: BUG: push of %d chunks, at most %d are allowed", len(b.starts), MaxChunks))
	}
	return b.sealAll()
}

// Body returns what AppendPushBody makes of Chunks, without copying them. It is
// valid as long as they are.
func (b *PushBuilder) Body(h PushHeader) []byte {
	chunks := b.Chunks()
	putPushHeader(b.buf, h)
	le.PutUint32(b.buf[bodyHeaderSize:], uint32(len(chunks)))
	return b.buf
}

// Leave gives the memory of the last body and its chunks away: they stay valid.
func (b *PushBuilder) Leave() { b.buf = nil }

// bound returns a little more bytes than the body has.
func (b *PushBuilder) bound() int {
	n, parts := 0, 1+len(b.rows)+len(b.dense)
	for _, s := range b.rows {
		n += len(s.Keys) * (12 + 4*s.Width)
	}
	for _, s := range b.dense {
		n += 4 * len(s.Values)
	}
	// A chunk that is not the last one is more than half full, whatever the rows.
	parts += n / (MaxChunk / 2)
	const most = frameHeaderSize + envelopeSize + pushHeaderSize + sectionSize + 4*8 // beside the numbers, with padding
	return bodyHeaderSize + framesHeaderSize + n + parts*most
}

// begin starts a chunk.
func (b *PushBuilder) begin() {
	b.inTop = 0
	b.buf = append(b.buf, zeros[:frameHeaderSize]...)
	b.starts = append(b.starts, len(b.buf))
	var header [envelopeSize + pushHeaderSize]byte
	h := header[envelopeSize:]
	le.PutUint64(h, b.id.Run)
	le.PutUint64(h[8:], b.id.Step)
	le.PutUint32(h[16:], b.id.Phase)
	le.PutUint16(h[20:], b.id.Lane)
	le.PutUint32(h[32:], math.Float32bits(b.id.Factor))
	le.PutUint32(h[36:], b.id.Attempt)
	le.PutUint16(h[22:], uint16(len(b.starts)-1))
	b.buf = append(b.buf, header[:]...)
}

// end writes the number of sections and the length of the open chunk.
func (b *PushBuilder) end() {
	at := b.starts[len(b.starts)-1]
	n := len(b.buf) - at
	le.PutUint32(b.buf[at+envelopeSize+28:], b.inTop)
	le.PutUint32(b.buf[at-frameHeaderSize:], uint32(n))
	b.buf = append(b.buf, zeros[:pad8(n)-n]...)
}

// room returns how many elements of the given size fit into the open chunk
// behind a section header, starting another chunk when none does. Eight bytes
// are set aside for padding.
func (b *PushBuilder) room(size int) int {
	for {
		used := len(b.buf) - b.starts[len(b.starts)-1]
		if n := (MaxChunk - used - sectionSize - 8) / size; n > 0 {
			return n
		}
		b.end()
		b.begin()
	}
}

// section appends a section header.
func (b *PushBuilder) section(kind, id uint16, width, count, offset int) {
	var h [sectionSize]byte
	le.PutUint16(h[:], kind)
	le.PutUint16(h[2:], id)
	le.PutUint32(h[4:], uint32(width))
	le.PutUint32(h[8:], uint32(count))
	le.PutUint32(h[12:], uint32(offset))
	b.buf = append(b.buf, h[:]...)
	b.inTop++
}

func (b *PushBuilder) addRows(s RowSection) {
	for lo := 0; lo < len(s.Keys); {
		n := min(len(s.Keys)-lo, b.room(12+4*s.Width))
		b.section(sectionRows, s.Table, s.Width, n, 0)
		b.buf = appendNumbers(b.buf, s.Keys[lo:lo+n])
		b.buf = appendNumbers(b.buf, s.Counts[lo:lo+n])
		b.buf = appendNumbers(b.buf, s.Grads[lo*s.Width:(lo+n)*s.Width])
		lo += n
	}
}

func (b *PushBuilder) addDense(s DenseSection) {
	if len(s.Values) > math.MaxInt32 {
		panic(fmt.Sprintf("ps/wire: BUG: dense tensor %d of %d elements", s.ID, len(s.Values)))
	}
	for lo := 0; lo < len(s.Values); {
		n := min(len(s.Values)-lo, b.room(4))
		b.section(sectionDense, s.ID, 0, n, lo)
		b.buf = appendNumbers(b.buf, s.Values[lo:lo+n])
		lo += n
	}
}

// sealAll fills in what is known only at the end, the number of chunks, and
// the envelopes. The buffer no longer moves, so the chunks can alias it.
func (b *PushBuilder) sealAll() [][]byte {
	b.chunks = b.chunks[:0]
	for _, start := range b.starts {
		end := start + int(le.Uint32(b.buf[start-frameHeaderSize:]))
		c := b.buf[start:end:end]
		le.PutUint16(c[envelopeSize+24:], uint16(len(b.starts)))
		seal(c, KindPush)
		b.chunks = append(b.chunks, c)
	}
	return b.chunks
}
