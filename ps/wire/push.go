package wire

import (
	"fmt"
	"math"

	"github.com/fathom-train/fathom/shard"
)

// PushID names the work a push carries, not the worker that did it: two
// workers computing the same task send the same id and the same bytes.
type PushID struct {
	Run   uint64
	Phase uint32
	Step  uint64
	Lane  uint16
	// Factor scales the learning rates of the step: more than 0, at most 1. All
	// lanes of a step must agree on it.
	Factor float32
	// Attempt tells apart computations of one lane that give different gradients:
	// in mode async, where it is not 0.
	Attempt uint32
}

const (
	// MaxChunk bounds a push command in bytes, envelope included.
	MaxChunk = 256 << 10
	// MaxChunks bounds the chunks of one push.
	MaxChunks = 1<<16 - 1
	// MaxRowWidth bounds the gradient of one key in floats, so that at least
	// one row fits into a chunk.
	MaxRowWidth = 1 << 14

	pushHeaderSize = 40
	sectionSize    = 16
	sectionRows    = 1
	sectionDense   = 2
)

// RowSection holds gradients of rows of one table.
type RowSection struct {
	Table  uint16
	Width  int
	Keys   []shard.Key // strictly ascending
	Counts []uint32    // occurrences of each key in the lane
	Grads  []float32   // [len(Keys), Width]
}

// DenseSection holds gradients of a part of one dense tensor.
type DenseSection struct {
	ID     uint16
	Offset int
	Values []float32 // of the elements Offset..Offset+len(Values)
}

// Push is one parsed chunk of a push. Chunk is in 0..Chunks-1.
type Push struct {
	ID            PushID
	Chunk, Chunks uint16
	Rows          []RowSection   // ascending by Table, at most one of each
	Dense         []DenseSection // ascending by ID, at most one of each

	scratch []uint64
}

// ParsePush parses a push command into p, whose slices are reused. They alias
// cmd when it starts at a multiple of eight bytes, else a copy inside p.
func ParsePush(cmd []byte, p *Push) error {
	cmd = align(cmd, &p.scratch)
	body, err := openAs(cmd, KindPush)
	if err != nil {
		return err
	}
	if len(cmd) > MaxChunk {
		return fmt.Errorf("%w: push chunk of %d bytes, at most %d are allowed", ErrMalformed, len(cmd), MaxChunk)
	}
	if len(body) < pushHeaderSize {
		return fmt.Errorf("%w: push body of %d bytes, shorter than its header", ErrMalformed, len(body))
	}
	p.ID = PushID{
		Run: le.Uint64(body), Step: le.Uint64(body[8:]),
		Phase: le.Uint32(body[16:]), Lane: le.Uint16(body[20:]),
		Factor: math.Float32frombits(le.Uint32(body[32:])), Attempt: le.Uint32(body[36:]),
	}
	if !(p.ID.Factor > 0 && p.ID.Factor <= 1) {
		return fmt.Errorf("%w: learning-rate factor %v of a push, not in (0, 1]", ErrMalformed, p.ID.Factor)
	}
	p.Chunk, p.Chunks = le.Uint16(body[22:]), le.Uint16(body[24:])
	if p.Chunk >= p.Chunks {
		return fmt.Errorf("%w: push chunk %d of %d", ErrMalformed, p.Chunk, p.Chunks)
	}
	p.Rows, p.Dense = p.Rows[:0], p.Dense[:0]
	sections, rest := le.Uint32(body[28:]), body[pushHeaderSize:]
	for i := range sections {
		if rest, err = p.section(rest); err != nil {
			return fmt.Errorf("%w: section %d of %d: %w", ErrMalformed, i, sections, err)
		}
	}
	if len(rest) != 0 {
		return fmt.Errorf("%w: %d bytes behind the last section of a push", ErrMalformed, len(rest))
	}
	return nil
}

// Forget drops what p refers to, so that a p kept for its buffers does not keep
// a command.
func (p *Push) Forget() {
	clear(p.Rows)
	clear(p.Dense)
	p.Rows, p.Dense = p.Rows[:0], p.Dense[:0]
}

// section parses one section and returns what is behind it.
func (p *Push) section(b []byte) ([]byte, error) {
	if len(b) < sectionSize {
		return nil, fmt.Errorf("%d bytes left, shorter than its header", len(b))
	}
	kind, id := le.Uint16(b), le.Uint16(b[2:])
	width, count, offset := le.Uint32(b[4:]), le.Uint32(b[8:]), le.Uint32(b[12:])
	b = b[sectionSize:]
	// Every element takes four bytes or more: this bound keeps the products
	// below far from overflow.
	if count == 0 || uint64(count) > uint64(len(b)/4) || width > MaxRowWidth {
		return nil, fmt.Errorf("%d elements of width %d in %d bytes", count, width, len(b))
	}
	n := int(count)
	switch kind {
	case sectionRows:
		if width == 0 || offset != 0 {
			return nil, fmt.Errorf("rows of width %d at offset %d", width, offset)
		}
		return p.rows(b, id, int(width), n)
	case sectionDense:
		if size := pad8(4 * n); width != 0 || size > len(b) {
			return nil, fmt.Errorf("%d elements of width %d in %d bytes", n, width, len(b))
		}
		if k := len(p.Dense); k > 0 && p.Dense[k-1].ID >= id {
			return nil, fmt.Errorf("tensor %d behind tensor %d", id, p.Dense[k-1].ID)
		}
		p.Dense = append(p.Dense, DenseSection{ID: id, Offset: int(offset), Values: viewFloats(b, n)})
		return b[pad8(4*n):], nil
	}
	return nil, fmt.Errorf("kind %d is unknown", kind)
}

// rows parses the data of n rows and returns what is behind them.
func (p *Push) rows(b []byte, table uint16, width, n int) ([]byte, error) {
	size := 8*n + pad8(4*n) + pad8(4*n*width)
	if size > len(b) {
		return nil, fmt.Errorf("%d rows of width %d in %d bytes", n, width, len(b))
	}
	if len(p.Dense) > 0 {
		return nil, fmt.Errorf("rows behind dense tensors")
	}
	if k := len(p.Rows); k > 0 && p.Rows[k-1].Table >= table {
		return nil, fmt.Errorf("table %d behind table %d", table, p.Rows[k-1].Table)
	}
	s := RowSection{Table: table, Width: width, Keys: viewKeys(b, n)}
	for i := 1; i < n; i++ {
		if s.Keys[i-1] >= s.Keys[i] {
			return nil, fmt.Errorf("key %#x behind key %#x", uint64(s.Keys[i]), uint64(s.Keys[i-1]))
		}
	}
	s.Counts = viewCounts(b[8*n:], n)
	s.Grads = viewFloats(b[8*n+pad8(4*n):], n*width)
	p.Rows = append(p.Rows, s)
	return b[size:], nil
}
