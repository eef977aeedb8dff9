package fsm

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/fathom-train/fathom/ps/table"
	"github.com/fathom-train/fathom/shard"
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

// Loader builds the state of one shard from the files of a checkpoint, whose
// shards may have been cut in another way.
//
//	l, err := fsm.NewLoader(schema, version, keys)
//	defer l.Close()
//	for every file that overlaps the keys or holds a tensor, in the order of keys:
//		err = l.Add(reader)
//	state, err := l.Finish(1)
type Loader struct {
	model *model
	keys  shard.Range
	dense []int // floats loaded of each tensor
	files int
}

// NewLoader begins a state with the schema that owns the range of keys.
func NewLoader(schema Schema, version uint64, keys shard.Range) (*Loader, error) {
	b, err := MarshalSchema(schema)
	if err != nil {
		return nil, err
	}
	m, err := newModel(schema.canonical(), b)
	if err != nil {
		return nil, err
	}
	m.version = version
	return &Loader{model: m, keys: keys, dense: make([]int, len(m.dense))}, nil
}

// ErrSchema says that a checkpoint is of a model with other tables.
var ErrSchema = errors.New("the checkpoint's tables differ")

// Add takes from a file what belongs to the shard.
func (l *Loader) Add(c *CheckpointReader) error {
	if c.Header.Version != l.model.version {
		return damaged("is of version %d, want %d", c.Header.Version, l.model.version)
	}
	if err := l.compare(c.Header); err != nil {
		return err
	}
	if err := l.imagesOf(c.Header); err != nil {
		return err
	}
	for {
		p, err := c.next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := l.part(c.Header, p); err != nil {
			return err
		}
	}
}

// imagesOf makes room for as many images as the first file has; every file has as
// many.
func (l *Loader) imagesOf(h CheckpointHeader) error {
	m := l.model
	if l.files++; l.files == 1 {
		if h.Images > m.schema.PreImages {
			return damaged("%d images, the schema keeps %d", h.Images, m.schema.PreImages)
		}
		for i := range h.Images {
			img := m.emptyImage()
			img.version = m.version - uint64(h.Images-i)
			m.images = append(m.images, img)
		}
	}
	if len(m.images) != h.Images {
		return damaged("%d images, another file has %d", h.Images, len(m.images))
	}
	return nil
}

// part takes one block of a file.
func (l *Loader) part(h CheckpointHeader, p checkpointPart) error {
	m := l.model
	switch p.kind {
	case blockRows:
		return l.rows(m.tables[p.which], p.body)
	case blockDense:
		return l.tensor(h.Schema.Dense[p.which].ID, p)
	case blockImageRows:
		// The files come in the order of their keys, so an image's rows ascend.
		img := m.images[p.image]
		return img.tables[p.which].loadRange(p.body, m.tables[p.which].before, l.keys)
	case blockImageDense:
		i := m.tensorIndex(h.Schema.Dense[p.which].ID)
		if i < 0 {
			return nil
		}
		img := m.images[p.image]
		v, err := floatsOf(p.body, m.dense[i].schema.Size-len(img.dense[i]))
		img.dense[i] = append(img.dense[i], v...)
		return err
	case blockFactors:
		if l.files == 1 { // the same in all files
			return m.loadFactors(p.body)
		}
	case checkpointVariance:
		if len(p.body) != 8*len(m.variance) {
			return damaged("variance of %d bytes, the job has %d layers", len(p.body), len(m.variance))
		}
		for i := range m.variance {
			m.variance[i] = math.Float64frombits(binary.LittleEndian.Uint64(p.body[8*i:]))
		}
	}
	return nil
}

// compare refuses a file whose tables or tensors are laid out in another way.
func (l *Loader) compare(h CheckpointHeader) error {
	m := l.model
	if len(h.Schema.Tables) != len(m.tables) {
		return fmt.Errorf("%w: it has %d tables, the job %d", ErrSchema, len(h.Schema.Tables), len(m.tables))
	}
	for i, t := range h.Schema.Tables {
		have := m.schema.Tables[i]
		if t.ID != have.ID || t.Name != have.Name || len(t.Columns) != len(have.Columns) {
			return fmt.Errorf("%w: table %d %q of %d columns, the job has table %d %q of %d", ErrSchema,
				t.ID, t.Name, len(t.Columns), have.ID, have.Name, len(have.Columns))
		}
		for j, c := range t.Columns {
			if w := have.Columns[j]; c.Name != w.Name || c.Width != w.Width || c.Optimizer.Name != w.Optimizer.Name {
				return fmt.Errorf("%w: column %q of width %d updated by %s, the job has column %q of width %d updated by %s", ErrSchema,
					c.Name, c.Width, c.Optimizer.Name, w.Name, w.Width, w.Optimizer.Name)
			}
		}
		if n := m.tables[i].table.RowFloats(); n != h.RowFloats[i] {
			return fmt.Errorf("%w: rows of table %q have %d numbers, the job's have %d", ErrSchema, t.Name, h.RowFloats[i], n)
		}
	}
	for i, d := range h.Schema.Dense {
		at := m.tensorIndex(d.ID)
		if at < 0 {
			continue // of another shard
		}
		have := m.dense[at]
		if d.Name != have.schema.Name || d.Size != have.schema.Size || len(have.data) != h.DenseFloats[i] || d.Optimizer.Name != have.schema.Optimizer.Name {
			return fmt.Errorf("%w: dense tensor %q of %d elements updated by %s, the job has %q of %d updated by %s", ErrSchema,
				d.Name, d.Size, d.Optimizer.Name, have.schema.Name, have.schema.Size, have.schema.Optimizer.Name)
		}
	}
	return nil
}

// rows loads the runs of rows whose keys the shard owns.
func (l *Loader) rows(t *tableState, block []byte) error {
	size := t.table.RowBytes()
	for lo := 0; lo < len(block); {
		hi := lo
		for hi < len(block) && l.keys.Contains(shard.Key(binary.LittleEndian.Uint64(block[hi:]))) {
			hi += size
		}
		if hi > lo {
			if err := t.table.Load(block[lo:hi]); err != nil {
				return damaged("%w", err)
			}
		}
		lo = hi + size // the row at hi belongs to another shard
	}
	return nil
}

func (l *Loader) tensor(id uint16, p checkpointPart) error {
	i := l.model.tensorIndex(id)
	if i < 0 {
		return nil
	}
	if l.dense[i] != p.at {
		return damaged("dense tensor %q comes twice", l.model.dense[i].schema.Name)
	}
	v, err := floatsOf(p.body, len(p.body)/4)
	l.dense[i] += copy(l.model.dense[i].data[p.at:], v)
	return err
}

// Finish returns the state, which the caller then owns; applied is the index its
// log begins behind.
func (l *Loader) Finish(applied uint64) (*State, error) {
	for i, d := range l.model.dense {
		if l.dense[i] != len(d.data) {
			return nil, damaged("the checkpoint has %d of %d numbers of dense tensor %q", l.dense[i], len(d.data), d.schema.Name)
		}
		d.rehash()
		for _, img := range l.model.images {
			if n := len(img.dense[i]); n != 0 && n != d.schema.Size {
				return nil, damaged("the checkpoint has %d of %d numbers of an image of dense tensor %q", n, d.schema.Size, d.schema.Name)
			}
		}
	}
	l.model.wake()
	s := New()
	s.model, s.applied = l.model, applied
	s.model.note()
	l.model = nil
	return s, nil
}

// Close gives the memory back unless Finish handed it over.
func (l *Loader) Close() {
	if l.model != nil {
		l.model.close()
		l.model = nil
	}
}
