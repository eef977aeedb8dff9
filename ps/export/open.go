package export

import (
	"container/list"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"sync"

	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/ipc"

	"github.com/fathom-train/fathom/ps/client"
	"github.com/fathom-train/fathom/ps/table"
	"github.com/fathom-train/fathom/shard"
)

// CacheBytes is how many bytes of rows an Artifact keeps in memory.
const CacheBytes = 1 << 30

// Artifact is a model that was opened. It answers pulls as the servers do at its
// step, keys without a row included. It may be used by several goroutines.
type Artifact struct {
	Manifest *Manifest
	tables   []*tableFile
	dense    [][]float32
	cache    *rowCache
}

// Open opens the artifact in a directory. It reads everything once and compares
// the checksums.
func Open(dir string) (a *Artifact, err error) {
	m, err := ReadManifest(dir)
	if err != nil {
		return nil, err
	}
	a = &Artifact{Manifest: m, cache: newRowCache(CacheBytes)}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("open artifact %s: %w", dir, err), a.Close())
		}
	}()
	var factors []table.Factor
	for _, f := range m.Factors {
		factors = append(factors, table.Factor{From: f.From, Rate: f.Rate})
	}
	for i, d := range m.Tables {
		f, err := verify(dir, d.File)
		if err != nil {
			return a, err
		}
		t := &tableFile{number: i, schema: d.Schema, file: f, updates: m.Updates}
		a.tables = append(a.tables, t)
		if t.absent, err = table.New(d.Schema, m.Seed); err != nil {
			return a, damaged("%w", err)
		}
		t.absent.SetNow(m.Updates, factors)
		if err := t.index(d.Rows); err != nil {
			return a, fmt.Errorf("%s: %w", d.File.Name, err)
		}
	}
	f, err := verify(dir, m.Dense)
	if err != nil {
		return a, err
	}
	defer f.Close() // read only
	text, err := io.ReadAll(f)
	if err != nil {
		return a, err
	}
	if a.dense, err = parseTensors(text, m.Tensors); err != nil {
		return a, fmt.Errorf("%s: %w", m.Dense.Name, err)
	}
	return a, nil
}

// verify opens a file and compares it with what the manifest says of it.
func verify(dir string, want File) (*os.File, error) {
	f, err := os.Open(filepath.Join(dir, want.Name))
	if err != nil {
		return nil, err
	}
	sum := sha256.New()
	n, err := io.Copy(sum, f)
	switch got := hex.EncodeToString(sum.Sum(nil)); {
	case err != nil:
	case n != want.Bytes:
		err = damaged("%s has %d bytes, the manifest says %d", want.Name, n, want.Bytes)
	case got != want.SHA256:
		err = damaged("the SHA-256 of %s is %s, the manifest says %s", want.Name, got, want.SHA256)
	default:
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Close closes the files.
func (a *Artifact) Close() error {
	var errs []error
	for _, t := range a.tables {
		errs = append(errs, t.close())
	}
	a.tables = nil
	return errors.Join(errs...)
}

// Pull fills the values of rows, and of the dense tensors that are not nil, by id.
// An artifact has one version, whichever is asked for.
func (a *Artifact) Pull(ctx context.Context, _ uint64, rows []client.Rows, dense [][]float32) error {
	for _, r := range rows {
		if int(r.Table) >= len(a.tables) || r.Width != a.tables[r.Table].schema.Width() || len(r.Values) != len(r.Keys)*r.Width {
			return fmt.Errorf("%d values of %d rows, %d wide, of table %d: the artifact has no such table", len(r.Values), len(r.Keys), r.Width, r.Table)
		}
		if err := a.tables[r.Table].gather(a.cache, r.Keys, r.Values); err != nil {
			return err
		}
	}
	for id, d := range dense {
		if d == nil {
			continue
		}
		if id >= len(a.dense) || len(d) != len(a.dense[id]) {
			return fmt.Errorf("%d elements of dense tensor %d: the artifact has no such tensor", len(d), id)
		}
		copy(d, a.dense[id])
	}
	return ctx.Err()
}

// Has tells which keys, ascending, have a row in a table.
func (a *Artifact) Has(at int, keys []shard.Key) ([]bool, error) {
	if at < 0 || at >= len(a.tables) {
		return nil, fmt.Errorf("table number %d: the artifact has %d", at, len(a.tables))
	}
	t := a.tables[at]
	t.mu.Lock()
	defer t.mu.Unlock()
	has := make([]bool, len(keys))
	err := t.find(a.cache, keys, func(n int, _ []float32) { has[n] = true }, func(int) {})
	return has, err
}

// tableFile is the file of a table.
type tableFile struct {
	number  int
	schema  table.Schema
	file    *os.File
	updates uint64
	// absent has no rows: it knows what a key without one reads as.
	absent *table.Table
	// last has the largest key of every record batch.
	last []shard.Key

	mu     sync.Mutex // guards reader and absent
	reader *ipc.FileReader
}

// index reads all keys: they must ascend, and there must be so many.
func (t *tableFile) index(rows int64) (err error) {
	defer recovered(&err)
	if t.reader, err = ipc.NewFileReader(t.file); err != nil {
		return damaged("%w", err)
	}
	if want := arrowSchema(t.schema); !t.reader.Schema().Equal(want) {
		return damaged("its columns are\n%s\nwant\n%s", t.reader.Schema(), want)
	}
	n := int64(0)
	for i := range t.reader.NumRecords() {
		b, err := t.read(i)
		if err != nil {
			return err
		}
		if len(b.keys) == 0 {
			return damaged("record batch %d is empty", i)
		}
		for j, k := range b.keys {
			if j > 0 && k <= b.keys[j-1] || j == 0 && i > 0 && k <= t.last[i-1] {
				return damaged("key %#x of record batch %d is not above the one before it", uint64(k), i)
			}
		}
		t.last = append(t.last, b.keys[len(b.keys)-1])
		n += int64(len(b.keys))
	}
	if n != rows {
		return damaged("it has %d rows, the manifest says %d", n, rows)
	}
	return nil
}

// recovered turns a panic of the Arrow library into an error: a corrupt file must
// not take the program down.
func recovered(err *error) {
	if p := recover(); p != nil {
		*err = damaged("%v", p)
	}
}

// rowBatch is a record batch in memory.
type rowBatch struct {
	keys   []shard.Key
	values []float32 // [keys, width]
}

func (b *rowBatch) bytes() int64 { return 8*int64(len(b.keys)) + 4*int64(len(b.values)) }

// read decodes a record batch; the caller holds mu.
func (t *tableFile) read(i int) (b *rowBatch, err error) {
	defer recovered(&err)
	rec, err := t.reader.RecordAt(i)
	if err != nil {
		return nil, damaged("record batch %d: %w", i, err)
	}
	defer rec.Release()
	n, width := int(rec.NumRows()), t.schema.Width()
	b = &rowBatch{keys: make([]shard.Key, n), values: make([]float32, n*width)}
	for j, k := range rec.Column(0).(*array.Uint64).Uint64Values() {
		b.keys[j] = shard.Key(k)
	}
	at := 0
	for c, column := range t.schema.Columns {
		from := rec.Column(1 + c).(*array.FixedSizeList).ListValues().(*array.Float32).Float32Values()
		if len(from) != n*column.Width {
			return nil, damaged("record batch %d: %d values of column %q, want %d", i, len(from), column.Name, n*column.Width)
		}
		for j := range n {
			copy(b.values[j*width+at:j*width+at+column.Width], from[j*column.Width:])
		}
		at += column.Width
	}
	return b, nil
}

// gather writes the weights of keys, which ascend.
func (t *tableFile) gather(cache *rowCache, keys []shard.Key, dst []float32) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	width := t.schema.Width()
	return t.find(cache, keys,
		func(n int, row []float32) { copy(dst[n*width:], row) },
		func(n int) { t.absent.GatherAt(dst[n*width:(n+1)*width], keys[n:n+1], t.updates) })
}

// find calls found for every key, by its place among keys, that has a row, and
// absent for the others. The keys ascend; the caller holds mu.
func (t *tableFile) find(cache *rowCache, keys []shard.Key, found func(n int, row []float32), absent func(n int)) error {
	width := t.schema.Width()
	var b *rowBatch
	at := -1
	for n, k := range keys {
		i := sort.Search(len(t.last), func(i int) bool { return t.last[i] >= k })
		if i == len(t.last) {
			absent(n)
			continue
		}
		if i != at {
			var err error
			if b, err = cache.get(t, i); err != nil {
				return err
			}
			at = i
		}
		if j, ok := slices.BinarySearch(b.keys, k); ok {
			found(n, b.values[j*width:(j+1)*width])
		} else {
			absent(n)
		}
	}
	return nil
}

func (t *tableFile) close() error {
	var err error
	if t.reader != nil {
		err = t.reader.Close()
	}
	if t.absent != nil {
		t.absent.Close()
	}
	return errors.Join(err, t.file.Close())
}

// rowCache keeps the record batches used last.
type rowCache struct {
	most int64

	mu    sync.Mutex // guards what follows
	bytes int64
	used  *list.List // of *cachedBatch, the newest in front
	at    map[batchID]*list.Element
}

// batchID names a record batch: table and number.
type batchID struct{ table, batch int }

type cachedBatch struct {
	id    batchID
	batch *rowBatch
}

func newRowCache(most int64) *rowCache {
	return &rowCache{most: most, used: list.New(), at: map[batchID]*list.Element{}}
}

// get returns a record batch of a table, whose lock the caller holds.
func (c *rowCache) get(t *tableFile, i int) (*rowBatch, error) {
	id := batchID{t.number, i}
	c.mu.Lock()
	if e, ok := c.at[id]; ok {
		c.used.MoveToFront(e)
		c.mu.Unlock()
		return e.Value.(*cachedBatch).batch, nil
	}
	c.mu.Unlock()
	b, err := t.read(i)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at[id] = c.used.PushFront(&cachedBatch{id, b})
	for c.bytes += b.bytes(); c.bytes > c.most && c.used.Len() > 1; {
		e := c.used.Back()
		old := c.used.Remove(e).(*cachedBatch)
		delete(c.at, old.id)
		c.bytes -= old.batch.bytes()
	}
	return b, nil
}
