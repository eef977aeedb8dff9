package export

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/fathom-train/fathom/ps/checkpoint"
	"github.com/fathom-train/fathom/ps/client"
	"github.com/fathom-train/fathom/ps/fsm"
	"github.com/fathom-train/fathom/ps/table"
	"github.com/fathom-train/fathom/shard"
)

// FromCheckpoint is the model of the checkpoint that lies in a bucket.
func FromCheckpoint(b checkpoint.Bucket, m *checkpoint.Manifest) Source {
	files := slices.Clone(m.Files)
	slices.SortFunc(files, func(a, b checkpoint.File) int { return cmp.Compare(a.Lo, b.Lo) })
	return &stored{bucket: b, step: m.Step, files: files}
}

// stored reads the files of a checkpoint, each from start to end.
type stored struct {
	bucket  checkpoint.Bucket
	step    uint64
	files   []checkpoint.File
	factors []table.Factor
}

func (s *stored) Shards() int { return len(s.files) }

func (s *stored) Head(ctx context.Context) (h Head, err error) {
	if len(s.files) == 0 {
		return h, damaged("the checkpoint has no files")
	}
	err = s.with(ctx, 0, func(_ io.Reader, c *fsm.CheckpointReader) (err error) {
		h = Head{Version: c.Header.Version, Schema: c.Header.Schema}
		if !slices.ContainsFunc(h.Schema.Tables, lazy) {
			return nil
		}
		s.factors, err = c.Factors()
		h.Factors = s.factors
		return err
	})
	return h, err
}

// lazy tells whether the rows of a table are behind the step.
func lazy(t table.Schema) bool {
	return slices.ContainsFunc(t.Columns, func(c table.Column) bool { return c.Optimizer.EveryRow })
}

func (s *stored) Read(ctx context.Context, i int, rows func(int, []shard.Key, []float32) error, dense func(uint16, []float32) error) error {
	return s.with(ctx, i, func(r io.Reader, c *fsm.CheckpointReader) error {
		err := c.Weights(s.factors, rows, func(t fsm.DenseTensor, w []float32) error { return dense(t.ID, w) })
		if err != nil {
			return err
		}
		return checkpoint.AtEnd(r) // where the checksum of the file is compared
	})
}

// with opens a file.
func (s *stored) with(ctx context.Context, i int, f func(io.Reader, *fsm.CheckpointReader) error) (err error) {
	r, err := checkpoint.OpenFile(ctx, s.bucket, "", s.files[i])
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	c, err := fsm.NewCheckpointReader(r)
	if err != nil {
		return err
	}
	if c.Header.Version != s.step {
		return damaged("%s is of step %d, the manifest of step %d", s.files[i].Name, c.Header.Version, s.step)
	}
	if err := f(r, c); err != nil {
		return err
	}
	return ctx.Err()
}

// FromServers is the model that the servers of a job hold at a version, which must
// be their newest: the job stands still. routes are those of the client, and there
// are the given number of dense tensors.
func FromServers(c *client.Client, routes []client.Route, version uint64, tensors []Tensor) Source {
	return &live{client: c, routes: routes, version: version, tensors: tensors}
}

// live asks the servers.
type live struct {
	client  *client.Client
	routes  []client.Route
	version uint64
	tensors []Tensor
	tables  int
}

func (l *live) Shards() int { return len(l.routes) }

func (l *live) Head(ctx context.Context) (Head, error) {
	schema, factors, err := l.client.Describe(ctx, 0, l.version)
	if err != nil {
		return Head{}, err
	}
	l.tables = len(schema.Tables)
	return Head{Version: l.version, Schema: schema, Factors: factors}, nil
}

func (l *live) Read(ctx context.Context, i int, rows func(int, []shard.Key, []float32) error, dense func(uint16, []float32) error) error {
	for t := range l.tables {
		err := l.client.Scan(ctx, i, l.version, uint16(t), func(keys []shard.Key, weights []float32) error { return rows(t, keys, weights) })
		if err != nil {
			return err
		}
	}
	// Pull asks all shards; only this one's tensors are wanted.
	values := make([][]float32, len(l.tensors))
	for _, id := range l.routes[i].Dense {
		if int(id) < len(values) {
			values[id] = make([]float32, l.tensors[id].Size())
		}
	}
	if err := l.client.Pull(ctx, l.version, nil, values); err != nil {
		return fmt.Errorf("read the dense tensors: %w", err)
	}
	for id, v := range values {
		if v == nil {
			continue
		}
		if err := dense(uint16(id), v); err != nil {
			return err
		}
	}
	return nil
}
