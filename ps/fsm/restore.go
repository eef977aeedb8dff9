package fsm

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"io"
	"math"
	"unsafe"

	"github.com/fathom-train/fathom/ps/wire"
	"github.com/fathom-train/fathom/shard"
)

// Restore replaces the state by a snapshot of View.WriteTo. The new state is
// built beside the old one and every checksum and the state hash are checked
// first; on an error, which wraps ErrSnapshot unless reading failed, the old
// state stays. It reads no further than the end of the snapshot.
func (s *State) Restore(r io.Reader) error {
	b := newBlockReader(r)
	n := &restored{}
	if err := n.read(b); err != nil {
		if n.model != nil {
			n.model.close()
		}
		return fmt.Errorf("restore at byte %d: %w", b.n, err)
	}
	s.mu.Lock()
	old := s.model
	s.model, s.applied = n.model, n.applied
	if s.model != nil {
		s.model.note()
	}
	s.serveCapture()
	s.notify()
	s.mu.Unlock()
	if old != nil {
		// Lookups held the lock, so none reads the old tables any more.
		old.close()
	}
	return nil
}

// damaged reports what is wrong with a snapshot.
func damaged(format string, a ...any) error {
	return fmt.Errorf("%w: %w", ErrSnapshot, fmt.Errorf(format, a...))
}

// restored is a state under construction.
type restored struct {
	model   *model // nil when the snapshot is of an unconfigured state
	applied uint64
	hash    [16]byte
	images  int
	dense   []int // floats read of each tensor
}

func (n *restored) read(b *blockReader) error {
	if err := b.magic(snapshotMagic); err != nil {
		return err
	}
	if err := b.next(); err != nil {
		return err
	}
	if b.kind != blockMeta {
		return damaged("begins with a block of kind %d", b.kind)
	}
	if err := n.meta(b.body); err != nil {
		return err
	}
	last := uint32(blockMeta)
	for {
		if err := b.next(); err != nil {
			return err
		}
		if b.kind == blockEnd {
			return n.end(b)
		}
		// The two kinds of an image come again with the next one.
		if b.kind < last && !(b.kind == blockImage && last <= blockImageDense) || n.model == nil {
			return damaged("block of kind %d behind kind %d", b.kind, last)
		}
		last = b.kind
		if err := n.block(b); err != nil {
			return err
		}
	}
}

func (n *restored) meta(b []byte) error {
	if len(b) < metaSize {
		return damaged("meta block of %d bytes", len(b))
	}
	n.applied = binary.LittleEndian.Uint64(b[8:])
	n.images = int(binary.LittleEndian.Uint32(b[20:]))
	copy(n.hash[:], b[24:])
	if configured := binary.LittleEndian.Uint32(b[16:]); configured == 0 {
		return nil
	}
	schema, err := ParseSchema(b[metaSize:])
	if err != nil {
		return damaged("%w", err)
	}
	if n.images > schema.PreImages {
		return damaged("%d images, the schema keeps %d", n.images, schema.PreImages)
	}
	n.model, err = newModel(schema, bytes.Clone(b[metaSize:]))
	if err != nil {
		return damaged("%w", err)
	}
	n.model.version = binary.LittleEndian.Uint64(b)
	if n.model.version < uint64(n.images) {
		return damaged("%d images of version %d", n.images, n.model.version)
	}
	n.dense = make([]int, len(n.model.dense))
	return nil
}

// block takes one block of a configured state.
func (n *restored) block(b *blockReader) error {
	m, which := n.model, int(b.which)
	count := map[uint32]int{
		blockRows: len(m.tables), blockImageRows: len(m.tables),
		blockDense: len(m.dense), blockImageDense: len(m.dense),
	}
	if most, ok := count[b.kind]; ok && which >= most {
		return damaged("block of kind %d names number %d of %d", b.kind, which, most)
	}
	switch b.kind {
	case blockRows:
		if err := m.tables[which].table.Load(b.body); err != nil {
			return damaged("%w", err)
		}
		return nil
	case blockDense:
		d := m.dense[which]
		v, err := floatsOf(b.body, len(d.data)-n.dense[which])
		n.dense[which] += copy(d.data[n.dense[which]:], v)
		return err
	case blockImage:
		return n.image(b.body)
	case blockChunk:
		return n.chunk(b.body)
	case blockTotals:
		return m.loadTotals(b.body)
	case blockFactors:
		return m.loadFactors(b.body)
	case blockApplied:
		return m.loadApplied(b.body)
	case blockImageRows, blockImageDense:
		if len(m.images) == 0 {
			return damaged("rows of an image before it")
		}
		img := m.images[len(m.images)-1]
		if b.kind == blockImageRows {
			return img.tables[which].load(b.body, m.tables[which].before)
		}
		v, err := floatsOf(b.body, m.dense[which].schema.Size-len(img.dense[which]))
		img.dense[which] = append(img.dense[which], v...)
		return err
	}
	return damaged("block of unknown kind %d", b.kind)
}

// image begins an image; they come oldest first and end before the version.
func (n *restored) image(b []byte) error {
	if len(b) != 8 {
		return damaged("image block of %d bytes", len(b))
	}
	img := n.model.emptyImage()
	img.version = binary.LittleEndian.Uint64(b)
	if want := n.model.version - uint64(n.images) + uint64(len(n.model.images)); img.version != want || len(n.model.images) == n.images {
		return damaged("image of version %d, want %d", img.version, want)
	}
	n.model.images = append(n.model.images, img)
	return nil
}

// load appends rows to an image.
func (t *imageTable) load(b []byte, width int) error {
	return t.loadRange(b, width, shard.Range{Hi: math.MaxUint64})
}

// loadRange is load for the rows whose keys are in the range.
func (t *imageTable) loadRange(b []byte, width int, keys shard.Range) error {
	if len(b) < 8 {
		return damaged("image rows of %d bytes", len(b))
	}
	count, b := binary.LittleEndian.Uint64(b), b[8:]
	if size := uint64(8 + 4*width); count > uint64(len(b))/size || count*size != uint64(len(b)) {
		return damaged("%d image rows of width %d in %d bytes", count, width, len(b))
	}
	v, err := floatsOf(b[8*count:], int(count)*width)
	if err != nil {
		return err
	}
	for i := range int(count) {
		k := shard.Key(binary.LittleEndian.Uint64(b[8*i:]))
		if !keys.Contains(k) {
			continue
		}
		if j := len(t.keys); j > 0 && t.keys[j-1] >= k {
			return damaged("image row %#x behind row %#x", uint64(k), uint64(t.keys[j-1]))
		}
		t.keys = append(t.keys, k)
		t.weights = append(t.weights, v[i*width:(i+1)*width]...)
	}
	return nil
}

// chunk takes a push of an open step.
func (n *restored) chunk(b []byte) error {
	c := &chunk{cmd: bytes.Clone(b)}
	if err := wire.ParsePush(c.cmd, &c.push); err != nil {
		return damaged("%w", err)
	}
	status, complete, err := n.model.check(c)
	if err != nil {
		return damaged("push that waits: %w", err)
	} else if status != Accepted {
		return damaged("push that waits is a %v", status)
	}
	n.model.put(c)
	if complete && n.model.schema.Async {
		return damaged("lane %d of step %d is complete and not applied", c.push.ID.Lane, c.push.ID.Step)
	}
	if n.model.pending[0].full() && len(n.model.rounds) == 0 {
		return damaged("step %d is complete and not applied", n.model.version+1)
	}
	return nil
}

// end checks that everything is there and is what was written.
func (n *restored) end(b *blockReader) error {
	if !bytes.Equal(b.body, b.before) {
		return damaged("its SHA-256 is %x, its end says %x", b.before, b.body)
	}
	if n.model == nil {
		return nil
	}
	for i, d := range n.model.dense {
		if n.dense[i] != len(d.data) {
			return damaged("%d of %d floats of dense tensor %d", n.dense[i], len(d.data), d.schema.ID)
		}
		d.rehash()
	}
	if len(n.model.images) != n.images {
		return damaged("%d of %d images", len(n.model.images), n.images)
	}
	for _, img := range n.model.images {
		for i, d := range img.dense {
			if size := n.model.dense[i].schema.Size; len(d) != 0 && len(d) != size {
				return damaged("%d of %d floats of an image of dense tensor %d", len(d), size, n.model.dense[i].schema.ID)
			}
		}
	}
	n.model.wake()
	if n.model.pending[0].full() {
		n.model.partial = n.model.sums()
	}
	if h := n.model.hash(); h != n.hash {
		return damaged("its state hash is %x, its meta block says %x", h, n.hash)
	}
	return nil
}

// floatsOf reads at most most floats; they alias b, which is aligned where the
// block is.
func floatsOf(b []byte, most int) ([]float32, error) {
	if len(b)%4 != 0 || len(b)/4 > most {
		return nil, damaged("%d bytes of floats, at most %d are missing", len(b), 4*most)
	}
	return unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/4), nil
}

// blockReader reads blocks and checks the checksum of each.
type blockReader struct {
	r      io.Reader
	digest hash.Hash
	n      int64

	kind, which uint32
	body        []byte // valid until next
	before      []byte // digest of all before the block
	buf         []uint64
}

func newBlockReader(r io.Reader) *blockReader { return &blockReader{r: r, digest: sha256.New()} }

func (b *blockReader) full(p []byte) error {
	n, err := io.ReadFull(b.r, p)
	b.n += int64(n)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return damaged("is cut off")
	}
	return err
}

func (b *blockReader) magic(want string) error {
	var m [8]byte
	if err := b.full(m[:]); err != nil {
		return err
	}
	if string(m[:]) != want {
		return damaged("begins with %q, not %q", m[:], want)
	}
	b.digest.Write(m[:])
	return nil
}

func (b *blockReader) next() error {
	var h [blockHeaderSize]byte
	if err := b.full(h[:]); err != nil {
		return err
	}
	b.kind, b.which = binary.LittleEndian.Uint32(h[:]), binary.LittleEndian.Uint32(h[12:])
	length := int(binary.LittleEndian.Uint32(h[4:]))
	if length > blockMax {
		return damaged("block of %d bytes, at most %d are allowed", length, blockMax)
	}
	if words := (length + 7) / 8; len(b.buf) < words {
		b.buf = make([]uint64, words)
	}
	b.body = unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(b.buf))), 8*len(b.buf))[:length]
	if err := b.full(b.body); err != nil {
		return err
	}
	if got, want := blockSum(h[:], b.body), binary.LittleEndian.Uint32(h[8:]); got != want {
		return damaged("block of kind %d has checksum %#08x, its header says %#08x", b.kind, got, want)
	}
	b.before = b.digest.Sum(b.before[:0])
	b.digest.Write(h[:])
	return nil
}
