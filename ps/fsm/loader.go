package fsm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/fathom-train/fathom/shard"
)

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
