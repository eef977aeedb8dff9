package export

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/fathom-train/fathom/ps/fsm"
	"github.com/fathom-train/fathom/ps/table"
	"github.com/fathom-train/fathom/shard"
)

// Source is a trained model at one version, in shards.
type Source interface {
	// Head describes the model; its dense tensors are those of the first shard.
	Head(ctx context.Context) (Head, error)
	// Shards is the number of shards, which are ordered by their keys.
	Shards() int
	// Read hands over what a shard holds: rows by the place of their table in the
	// schema, one table after the other, in any order within a table; tensors whole.
	// The arguments must not be kept.
	Read(ctx context.Context, i int, rows func(table int, keys []shard.Key, weights []float32) error, dense func(id uint16, weights []float32) error) error
}

// Head is what all shards of a Source agree on.
type Head struct {
	Version uint64
	Schema  fsm.Schema
	Factors []table.Factor
}

// sortMemory is what sorting the rows of one shard's table may take.
const sortMemory = 128 << 20

// Write writes the model of a source as an artifact to dir, which must not exist.
// It is there whole and durably when Write returns nil, and not at all otherwise.
// Besides the dense tensors it takes a bounded amount of memory.
func Write(ctx context.Context, dir string, about About, src Source) (*Manifest, error) {
	return write(ctx, dir, about, src, sortMemory)
}

func write(ctx context.Context, dir string, about About, src Source, memory int64) (m *Manifest, err error) {
	if err := free(dir); err != nil {
		return nil, err
	}
	dir = filepath.Clean(dir)
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return nil, fmt.Errorf("write artifact %s: %w", dir, err)
	}
	// Beside its place, so that it can be moved there in one step.
	temporary, err := os.MkdirTemp(filepath.Dir(dir), "."+filepath.Base(dir)+".tmp-*")
	if err != nil {
		return nil, fmt.Errorf("write artifact %s: %w", dir, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("write artifact %s: %w", dir, err), os.RemoveAll(temporary))
		}
	}()
	w := &writer{dir: temporary, sorter: sorter{dir: temporary, memory: memory}, about: about, dense: make([][]float32, len(about.Tensors))}
	m, err = w.write(ctx, src)
	if err = errors.Join(err, w.close()); err != nil {
		return nil, err
	}
	if err := os.Chmod(temporary, 0o755); err != nil {
		return nil, err
	}
	if err := syncDir(temporary); err != nil {
		return nil, err
	}
	if err := free(dir); err != nil {
		return nil, err
	}
	if err := os.Rename(temporary, dir); err != nil {
		return nil, err
	}
	return m, syncDir(filepath.Dir(dir))
}

// free refuses a place where something is.
func free(dir string) error {
	switch _, err := os.Lstat(dir); {
	case err == nil:
		return fmt.Errorf("%s: %w", dir, ErrExists)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	return nil
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// writer writes the files of an artifact.
type writer struct {
	dir    string
	about  About
	tables []*tableWriter
	dense  [][]float32
	sorter sorter // of the table that is read
	at     int    // its number; -1: none
}

func (w *writer) write(ctx context.Context, src Source) (*Manifest, error) {
	head, err := src.Head(ctx)
	if err != nil {
		return nil, err
	}
	for i, s := range head.Schema.Tables {
		if int(s.ID) != i {
			return nil, fmt.Errorf("table number %d has the id %d", i, s.ID)
		}
		t, err := newTableWriter(w.dir, s)
		if err != nil {
			return nil, err
		}
		w.tables = append(w.tables, t)
	}
	for i := range src.Shards() {
		w.at = -1
		err := src.Read(ctx, i, w.rows, w.tensor)
		if err == nil {
			err = w.sorted()
		}
		if err != nil {
			return nil, fmt.Errorf("shard number %d: %w", i, err)
		}
	}
	m := &Manifest{Format: Format, About: w.about, KeyFunction: KeyFunction, Step: head.Version,
		Updates: head.Version - head.Schema.Base, Seed: head.Schema.Seed}
	for _, f := range head.Factors {
		m.Factors = append(m.Factors, Factor{f.From, f.Rate})
	}
	for _, t := range w.tables {
		d, err := t.finish()
		if err != nil {
			return nil, err
		}
		m.Tables = append(m.Tables, d)
	}
	if m.Dense, err = w.tensors(); err != nil {
		return nil, err
	}
	return m, w.manifest(m)
}

// rows takes rows of the shard that is read.
func (w *writer) rows(at int, keys []shard.Key, weights []float32) error {
	if at < w.at || at >= len(w.tables) {
		return damaged("rows of table number %d behind those of number %d", at, w.at)
	}
	if at > w.at {
		if err := w.sorted(); err != nil {
			return err
		}
		w.at = at
		w.sorter.begin(w.tables[at].schema.Width())
	}
	return w.sorter.add(keys, weights)
}

// sorted writes the rows of the table that was read.
func (w *writer) sorted() error {
	if w.at < 0 {
		return nil
	}
	return errors.Join(w.sorter.finish(w.tables[w.at].add), w.sorter.close())
}

// tensor takes a dense tensor. Those of no use in scoring, like the thresholds of
// a supernet, have no place in the artifact.
func (w *writer) tensor(id uint16, weights []float32) error {
	if int(id) >= len(w.dense) {
		return nil
	}
	if t := w.about.Tensors[id]; len(weights) != t.Size() || w.dense[id] != nil {
		return damaged("dense tensor %q has %d elements or is there twice, want %d", t.Name, len(weights), t.Size())
	}
	w.dense[id] = slices.Clone(weights)
	return nil
}

func (w *writer) tensors() (File, error) {
	for i, v := range w.dense {
		if v == nil {
			return File{}, damaged("no shard has dense tensor %q", w.about.Tensors[i].Name)
		}
	}
	f, err := createSummed(w.dir, "dense.safetensors")
	if err != nil {
		return File{}, err
	}
	if err := writeTensors(f, w.about.Tensors, w.dense); err != nil {
		return File{}, errors.Join(err, f.Close())
	}
	return f.finish()
}

// manifest is written last.
func (w *writer) manifest(m *Manifest) error {
	text, err := m.encode()
	if err != nil {
		return err
	}
	f, err := createSummed(w.dir, ManifestName)
	if err != nil {
		return err
	}
	if _, err := f.Write(text); err != nil {
		return errors.Join(err, f.Close())
	}
	_, err = f.finish()
	return err
}

// close lets go of what an error left open; the files that finish has closed
// already are none of it.
func (w *writer) close() error {
	if err := w.sorter.close(); err != nil {
		return err
	}
	for _, t := range w.tables {
		if err := t.file.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
			return err
		}
	}
	return nil
}
