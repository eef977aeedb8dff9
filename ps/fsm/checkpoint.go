package fsm

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/fathom-train/fathom/ps/table"
)

// A checkpoint file holds the model of one shard at one version, with the images
// of the versions before on which the next steps are computed. The pushes that
// wait are not in it: workers compute them again. It is made of the blocks of a
// snapshot (view.go) behind another magic: a header, rows, dense tensors, images,
// factors, end. The format is described in docs/formats/checkpoint.md.
const (
	checkpointMagic = "FATHCKP1"
	// checkpointEnd is the kind of the last block, whatever kinds snapshots get.
	checkpointEnd = 255
	// checkpointVariance is the variance of the gradients, where the rates need it:
	// a float64 for each layer.
	checkpointVariance = 100
)

// CheckpointHeader is the first block of a checkpoint file, as JSON.
type CheckpointHeader struct {
	Version uint64 `json:"version"`
	// Hash is the state hash of this shard at the version.
	Hash   string `json:"hash"`
	Schema Schema `json:"schema"`
	// RowFloats are the numbers of one row, by table of the schema; DenseFloats
	// those of a tensor. Both count weights and slots.
	RowFloats   []int `json:"row_floats"`
	DenseFloats []int `json:"dense_floats"`
	// Images is how many versions before this one can be read.
	Images int `json:"images"`
}

// CheckpointFile is what a checkpoint file was found to hold.
type CheckpointFile struct {
	Version uint64
	// Rows counts those of all tables.
	Rows uint64
	// Parts are the hashes by part, as in VersionHash; SumHashes of them is the
	// hash of the shard.
	Parts [][16]byte
	Bytes int64
}

// Version returns the version of the view; 0 when it is not configured.
func (v *View) Version() uint64 { return binary.LittleEndian.Uint64(v.meta) }

// ErrOpenLanes says that a view of mode async has lanes of steps behind its version
// applied: it is no cut through the shards.
var ErrOpenLanes = errors.New("lanes of the next steps are applied already")

// WriteCheckpoint writes the model as a checkpoint file; see WriteTo.
func (v *View) WriteCheckpoint(w io.Writer) (CheckpointFile, error) {
	if !v.open || len(v.meta) == metaSize {
		return CheckpointFile{}, errors.New("write checkpoint: the view was written or released, or is of a shard without schema")
	}
	v.open = false
	schema, err := ParseSchema(v.meta[metaSize:])
	if err != nil {
		return CheckpointFile{}, fmt.Errorf("write checkpoint: %w", err)
	}
	if len(v.done) > 0 {
		return CheckpointFile{}, fmt.Errorf("write checkpoint: %w", ErrOpenLanes)
	}
	f := CheckpointFile{Version: v.Version(), Parts: v.parts}
	h := CheckpointHeader{Version: f.Version, Hash: hex.EncodeToString(v.meta[24:metaSize]), Schema: schema}
	for _, t := range v.tables {
		h.RowFloats = append(h.RowFloats, t.RowFloats())
		f.Rows += uint64(t.Rows())
	}
	for _, d := range v.dense {
		h.DenseFloats = append(h.DenseFloats, len(d))
	}
	h.Images = len(v.images)
	header, err := json.Marshal(h)
	if err != nil {
		return CheckpointFile{}, fmt.Errorf("write checkpoint: %w", err)
	}
	b := newBlockWriter(w)
	b.magic(checkpointMagic)
	b.block(blockMeta, 0, header)
	v.writeModel(b)
	if len(v.factors) > 0 {
		b.block(blockFactors, 0, v.factors)
	}
	if len(v.variance) > 0 {
		b.block(checkpointVariance, 0, v.variance)
	}
	b.block(checkpointEnd, 0, b.digest.Sum(nil))
	f.Bytes = b.n
	return f, b.err
}

// CheckpointReader reads a checkpoint file block by block, with a memory of one
// block. Errors wrap ErrSnapshot unless reading failed.
type CheckpointReader struct {
	Header CheckpointHeader
	blocks *blockReader
	last   uint32
	dense  []int // floats read of each tensor
	images int   // begun
}

// checkpointPart is one block of a checkpoint file.
type checkpointPart struct {
	kind  uint32 // of the block
	which int    // table or tensor, by place in the schema
	body  []byte
	at    int // of a tensor's block: the place of its first float
	image int // of an image's blocks: which, oldest first
}

// NewCheckpointReader reads the header.
func NewCheckpointReader(r io.Reader) (*CheckpointReader, error) {
	c := &CheckpointReader{blocks: newBlockReader(r), last: blockMeta}
	if err := c.header(); err != nil {
		return nil, fmt.Errorf("checkpoint file at byte %d: %w", c.blocks.n, err)
	}
	return c, nil
}

func (c *CheckpointReader) header() error {
	if err := c.blocks.magic(checkpointMagic); err != nil {
		return err
	}
	if err := c.blocks.next(); err != nil {
		return err
	}
	if c.blocks.kind != blockMeta {
		return damaged("begins with a block of kind %d", c.blocks.kind)
	}
	h := &c.Header
	if err := json.Unmarshal(c.blocks.body, h); err != nil {
		return damaged("header: %w", err)
	}
	if err := h.Schema.Validate(); err != nil {
		return damaged("header: %w", err)
	}
	h.Schema = h.Schema.canonical()
	if len(h.RowFloats) != len(h.Schema.Tables) || len(h.DenseFloats) != len(h.Schema.Dense) {
		return damaged("header: sizes of %d tables and %d tensors, the schema has %d and %d",
			len(h.RowFloats), len(h.DenseFloats), len(h.Schema.Tables), len(h.Schema.Dense))
	}
	for i, n := range h.RowFloats {
		if n < h.Schema.Tables[i].Width() || n > blockMax/4 {
			return damaged("header: rows of %d numbers in table %q", n, h.Schema.Tables[i].Name)
		}
	}
	if h.Images < 0 || h.Images > MaxPreImages || uint64(h.Images) > h.Version {
		return damaged("header: %d images of version %d", h.Images, h.Version)
	}
	for i, n := range h.DenseFloats {
		if size := h.Schema.Dense[i].Size; n < size || n > 8*size {
			return damaged("header: %d numbers of dense tensor %q", n, h.Schema.Dense[i].Name)
		}
	}
	c.dense = make([]int, len(h.DenseFloats))
	return nil
}

// next returns the next part, or io.EOF once the end was reached and everything
// is there.
func (c *CheckpointReader) next() (p checkpointPart, err error) {
	b := c.blocks
	defer func() {
		if err != nil && err != io.EOF {
			err = fmt.Errorf("checkpoint file at byte %d: %w", b.n, err)
		}
	}()
	if err := b.next(); err != nil {
		return p, err
	}
	// The blocks of an image come again with the next one.
	if b.kind < c.last && !(b.kind == blockImage && c.last <= blockImageDense) {
		return p, damaged("block of kind %d behind kind %d", b.kind, c.last)
	}
	c.last = b.kind
	p = checkpointPart{kind: b.kind, which: int(b.which), body: b.body, image: c.images - 1}
	switch b.kind {
	case blockRows:
		if p.which >= len(c.Header.RowFloats) || len(b.body)%table.BlockRow(c.Header.RowFloats[p.which]) != 0 {
			return p, damaged("%d bytes of rows of table number %d", len(b.body), p.which)
		}
	case blockDense:
		if p.which >= len(c.dense) || len(b.body)%4 != 0 || len(b.body)/4 > c.Header.DenseFloats[p.which]-c.dense[p.which] {
			return p, damaged("%d bytes of dense tensor number %d", len(b.body), p.which)
		}
		p.at = c.dense[p.which]
		c.dense[p.which] += len(b.body) / 4
	case blockImage:
		c.images++
		if want := c.Header.Version - uint64(c.Header.Images) + uint64(c.images) - 1; c.images > c.Header.Images || len(b.body) != 8 || binary.LittleEndian.Uint64(b.body) != want {
			return p, damaged("image number %d of %d is not of version %d", c.images, c.Header.Images, want)
		}
		p.image++
	case blockImageRows, blockImageDense:
		most := len(c.Header.RowFloats)
		if b.kind == blockImageDense {
			most = len(c.dense)
		}
		if c.images == 0 || p.which >= most {
			return p, damaged("part of an image of number %d of %d, image %d", p.which, most, c.images)
		}
	case blockFactors, checkpointVariance:
	case checkpointEnd:
		return p, c.end()
	default:
		return p, damaged("block of kind %d", b.kind)
	}
	return p, nil
}

func (c *CheckpointReader) end() error {
	if string(c.blocks.body) != string(c.blocks.before) {
		return damaged("its SHA-256 is %x, its end says %x", c.blocks.before, c.blocks.body)
	}
	if !slices.Equal(c.dense, c.Header.DenseFloats) {
		return damaged("%d numbers of the dense tensors, want %d", c.dense, c.Header.DenseFloats)
	}
	if c.images != c.Header.Images {
		return damaged("%d of %d images", c.images, c.Header.Images)
	}
	return io.EOF
}

// VerifyCheckpoint reads a checkpoint file to its end, with little memory, and
// reports what it holds. It checks every checksum, computes the state hash from
// the rows, and compares it with the header's.
func VerifyCheckpoint(r io.Reader) (CheckpointFile, error) {
	c, err := NewCheckpointReader(r)
	if err != nil {
		return CheckpointFile{}, err
	}
	schema := c.Header.Schema
	tables := make([][2]uint64, len(schema.Tables))
	dense := make([][]float32, len(schema.Dense))
	f := CheckpointFile{Version: c.Header.Version}
	for {
		p, err := c.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return CheckpointFile{}, err
		}
		switch p.kind {
		case blockRows:
			hash, rows := table.HashBlock(schema.Tables[p.which].ID, c.Header.RowFloats[p.which], p.body)
			tables[p.which] = table.AddHash(tables[p.which], hash)
			f.Rows += uint64(rows)
		case blockDense:
			v, _ := floatsOf(p.body, len(p.body)/4) // next has checked the length
			dense[p.which] = append(dense[p.which], v...)
		}
	}
	var last [2]uint64
	for i, d := range dense {
		last = table.AddHash(last, tensorTerm(schema.Dense[i].ID, d))
	}
	for _, t := range append(tables, last) {
		f.Parts = append(f.Parts, hashBytes(t))
	}
	f.Bytes = c.blocks.n
	if h := SumHashes(f.Parts...); hex.EncodeToString(h[:]) != c.Header.Hash {
		return CheckpointFile{}, damaged("the state hash of its content is %x, its header says %s", h, c.Header.Hash)
	}
	return f, nil
}
