package fsm

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"
	"hash/crc32"
	"io"
	"math"
	"unsafe"

	"github.com/fathom-train/fathom/ps/table"
)

// A snapshot is a stream of blocks behind an eight-byte magic:
//
//	 0      4        8        12      16
//	+------+--------+--------+-------+----
//	| kind | length | crc32c | which | body ...
//	+------+--------+--------+-------+----
//
// crc32c covers kind, length, which and body; all numbers are little-endian.
//
//	meta        version u64, applied u64, configured u32, images u32,
//	            state hash (16 bytes), schema (JSON)
//	rows        of table number which: a block of table.View
//	dense       of tensor number which: the next of its floats, slots included
//	image       version u64; the two below belong to it
//	image rows  of table number which: n u64, n keys u64, n*width f32
//	image dense of tensor number which: the next of its floats
//	chunk       a push command that waits for its step
//	totals      what is known of sums over all shards, if anything: rounds of the
//	            last step u32, rounds of the open step u32, totals f64
//	factors     of the learning rates, where a table is lazy: each the step it is
//	            from u64, f32, 0 u32
//	applied     the lanes of open steps that were applied, if any: see
//	            pending.appendApplied
//	end         SHA-256 of the magic and of the headers before this block: with
//	            the checksum in each of them, of everything
//
// The order is the one above: within a kind by table or tensor, images oldest
// first, chunks by step, lane and number.
const (
	snapshotMagic = "FATHSNP5"

	blockMeta = iota
	blockRows
	blockDense
	blockImage
	blockImageRows
	blockImageDense
	blockChunk
	blockTotals
	blockFactors
	blockApplied
	blockEnd

	blockHeaderSize = 16
	metaSize        = 40
	blockMax        = 1 << 20
	// blockFloats is what floats are cut into.
	blockFloats = 16 << 10
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// View is a state as it was when the view was taken.
type View struct {
	meta     []byte
	tables   []*table.View
	widths   []int
	dense    [][]float32
	images   []*image
	chunks   [][]byte
	totals   []byte
	factors  []byte
	variance []byte     // of the gradients, by layer
	done     []byte     // applied lanes of open steps
	parts    [][16]byte // of the state hash, as in VersionHash
	open     bool
}

// View returns the state as it is now. It costs little: what it holds is
// copied only when it is changed. It must be released.
func (s *State) View() *View {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.view()
}

// view is View for a caller that holds mu.
func (s *State) view() *View {
	v := &View{open: true, meta: make([]byte, metaSize)}
	m := s.model
	binary.LittleEndian.PutUint64(v.meta[8:], s.applied)
	if m == nil {
		return v
	}
	binary.LittleEndian.PutUint64(v.meta, m.version)
	binary.LittleEndian.PutUint32(v.meta[16:], 1)
	binary.LittleEndian.PutUint32(v.meta[20:], uint32(len(m.images)))
	h := m.hash()
	copy(v.meta[24:], h[:])
	v.meta = append(v.meta, m.schemaBytes...)
	v.parts = m.parts(nil)
	for _, t := range m.tables {
		v.tables = append(v.tables, t.table.View())
		v.widths = append(v.widths, t.before)
	}
	for _, d := range m.dense {
		d.shared = true
		v.dense = append(v.dense, d.data)
	}
	for _, img := range m.images {
		img.shared = true
		v.images = append(v.images, img)
	}
	m.pending.eachChunk(func(c *chunk) { v.chunks = append(v.chunks, c.cmd) })
	v.done = m.pending.appendApplied(nil, m.version)
	if len(m.rounds) > 0 {
		v.totals = m.appendTotals(nil)
	}
	v.factors = m.appendFactors(nil)
	for _, x := range m.variance {
		v.variance = binary.LittleEndian.AppendUint64(v.variance, math.Float64bits(x))
	}
	return v
}

// Release lets the view's memory go; a second call does nothing.
func (v *View) Release() {
	for _, t := range v.tables {
		t.Release()
	}
	*v = View{}
}

// WriteTo writes the snapshot that Restore reads. Equal states give equal
// bytes if their rows were created in the same order. A view can be written once.
func (v *View) WriteTo(w io.Writer) (int64, error) {
	if !v.open {
		return 0, errors.New("write snapshot: the view was written or released")
	}
	v.open = false
	b := newBlockWriter(w)
	b.magic(snapshotMagic)
	b.block(blockMeta, 0, v.meta)
	v.writeModel(b)
	for _, c := range v.chunks {
		b.block(blockChunk, 0, c)
	}
	if v.totals != nil {
		b.block(blockTotals, 0, v.totals)
	}
	if len(v.factors) > 0 {
		b.block(blockFactors, 0, v.factors)
	}
	if len(v.done) > 0 {
		b.block(blockApplied, 0, v.done)
	}
	b.block(blockEnd, 0, b.digest.Sum(nil))
	return b.n, b.err
}

// writeModel writes what the model is at this version, rows and dense tensors, and
// was at those before that can be read.
func (v *View) writeModel(b *blockWriter) {
	for i, t := range v.tables {
		for j := 0; j < t.Blocks() && b.err == nil; j++ {
			b.body = t.Block(b.body[:0], j)
			b.block(blockRows, i, b.body)
		}
	}
	for i, d := range v.dense {
		b.floats(blockDense, i, d)
	}
	for _, img := range v.images {
		v.writeImage(b, img)
	}
}

func (v *View) writeImage(b *blockWriter, img *image) {
	b.block(blockImage, 0, binary.LittleEndian.AppendUint64(nil, img.version))
	for i := range img.tables {
		t, width := &img.tables[i], v.widths[i]
		rows := max(1, blockFloats/(width+2))
		for lo := 0; lo < len(t.keys) && b.err == nil; lo += rows {
			hi := min(lo+rows, len(t.keys))
			b.body = binary.LittleEndian.AppendUint64(b.body[:0], uint64(hi-lo))
			b.body = append(b.body, bytesOf(t.keys[lo:hi])...)
			b.body = append(b.body, bytesOf(t.weights[lo*width:hi*width])...)
			b.block(blockImageRows, i, b.body)
		}
	}
	for i, d := range img.dense {
		b.floats(blockImageDense, i, d)
	}
}

// blockWriter writes blocks until the first error.
type blockWriter struct {
	w      io.Writer
	digest hash.Hash
	body   []byte
	n      int64
	err    error
}

func newBlockWriter(w io.Writer) *blockWriter { return &blockWriter{w: w, digest: sha256.New()} }

func (b *blockWriter) write(p []byte) {
	if b.err != nil {
		return
	}
	n, err := b.w.Write(p)
	b.n += int64(n)
	b.err = err
}

func (b *blockWriter) magic(m string) {
	b.digest.Write([]byte(m))
	b.write([]byte(m))
}

func (b *blockWriter) block(kind, which int, body []byte) {
	var h [blockHeaderSize]byte
	binary.LittleEndian.PutUint32(h[:], uint32(kind))
	binary.LittleEndian.PutUint32(h[4:], uint32(len(body)))
	binary.LittleEndian.PutUint32(h[12:], uint32(which))
	binary.LittleEndian.PutUint32(h[8:], blockSum(h[:], body))
	b.digest.Write(h[:])
	b.write(h[:])
	b.write(body)
}

func (b *blockWriter) floats(kind, which int, v []float32) {
	for lo := 0; lo < len(v) && b.err == nil; lo += blockFloats {
		b.block(kind, which, bytesOf(v[lo:min(lo+blockFloats, len(v))]))
	}
}

// blockSum is the checksum of a block; that in the header is left out.
func blockSum(header, body []byte) uint32 {
	sum := crc32.Update(0, castagnoli, header[:8])
	sum = crc32.Update(sum, castagnoli, header[12:])
	return crc32.Update(sum, castagnoli, body)
}

// bytesOf returns numbers as they lie in memory, which is little-endian on
// every machine ps/wire builds for.
func bytesOf[T ~uint64 | ~float32](v []T) []byte {
	var zero T
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(v))), len(v)*int(unsafe.Sizeof(zero)))
}
