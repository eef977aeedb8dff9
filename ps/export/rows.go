package export

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/ipc"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/fathom-train/fathom/ps/table"
	"github.com/fathom-train/fathom/shard"
)

// batchBytes is about the size of a record batch: what is read for one key, and
// what is held in memory of every table while an artifact is written.
const batchBytes = 256 << 10

// keyColumn is the name of the first column of a table's file.
const keyColumn = "key"

// batchRows is how many rows a record batch of a table has, all but the last.
func batchRows(width int) int { return max(1, batchBytes/(8+4*width)) }

// arrowSchema is that of a table's file: the key, then a list of fixed size for
// every column of the table.
func arrowSchema(s table.Schema) *arrow.Schema {
	fields := []arrow.Field{{Name: keyColumn, Type: arrow.PrimitiveTypes.Uint64}}
	for _, c := range s.Columns {
		fields = append(fields, arrow.Field{Name: c.Name, Type: arrow.FixedSizeListOfNonNullable(int32(c.Width), arrow.PrimitiveTypes.Float32)})
	}
	metadata := arrow.NewMetadata([]string{"fathom.table"}, []string{s.Name})
	return arrow.NewSchema(fields, &metadata)
}

// summed is a file that is hashed as it is written.
type summed struct {
	*os.File
	sum hash.Hash
	n   int64
}

func createSummed(dir, name string) (*summed, error) {
	f, err := os.Create(filepath.Join(dir, name))
	if err != nil {
		return nil, err
	}
	return &summed{File: f, sum: sha256.New()}, nil
}

// Write hashes and writes.
func (s *summed) Write(b []byte) (int, error) {
	n, err := s.File.Write(b)
	s.sum.Write(b[:n])
	s.n += int64(n)
	return n, err
}

// Seek tells where the file ends, which is all that the Arrow library asks.
func (s *summed) Seek(offset int64, whence int) (int64, error) {
	if offset != 0 || whence == io.SeekStart {
		return 0, fmt.Errorf("seek in %s, which is written from start to end", s.Name())
	}
	return s.n, nil
}

// finish makes the file durable and describes it.
func (s *summed) finish() (File, error) {
	if err := s.Sync(); err != nil {
		return File{}, err
	}
	f := File{Name: filepath.Base(s.Name()), Bytes: s.n, SHA256: hex.EncodeToString(s.sum.Sum(nil))}
	return f, s.Close()
}

// tableWriter writes the file of one table, whose rows come by ascending key.
type tableWriter struct {
	schema table.Schema
	file   *summed
	arrow  *ipc.FileWriter
	most   int
	rows   int64
	keys   []uint64
	last   shard.Key
	values [][]float32 // by column
}

func newTableWriter(dir string, s table.Schema) (*tableWriter, error) {
	f, err := createSummed(dir, fmt.Sprintf("table-%04d.arrow", s.ID))
	if err != nil {
		return nil, err
	}
	w := &tableWriter{schema: s, file: f, most: batchRows(s.Width()), values: make([][]float32, len(s.Columns))}
	w.arrow, err = ipc.NewFileWriter(f, ipc.WithSchema(arrowSchema(s)), ipc.WithAllocator(memory.DefaultAllocator))
	return w, err
}

func (w *tableWriter) add(k shard.Key, row []float32) error {
	if w.rows > 0 && k <= w.last {
		return damaged("table %q: key %#x comes behind key %#x", w.schema.Name, uint64(k), uint64(w.last))
	}
	w.last = k
	w.rows++
	w.keys = append(w.keys, uint64(k))
	for i, c := range w.schema.Columns {
		w.values[i] = append(w.values[i], row[:c.Width]...)
		row = row[c.Width:]
	}
	if len(w.keys) == w.most {
		return w.flush()
	}
	return nil
}

// flush writes a record batch.
func (w *tableWriter) flush() error {
	n := len(w.keys)
	if n == 0 {
		return nil
	}
	data := array.NewData(arrow.PrimitiveTypes.Uint64, n, []*memory.Buffer{nil, memory.NewBufferBytes(arrow.Uint64Traits.CastToBytes(w.keys))}, nil, 0, 0)
	columns := []arrow.Array{array.NewUint64Data(data)}
	schema := arrowSchema(w.schema)
	for i, v := range w.values {
		items := array.NewData(arrow.PrimitiveTypes.Float32, len(v), []*memory.Buffer{nil, memory.NewBufferBytes(arrow.Float32Traits.CastToBytes(v))}, nil, 0, 0)
		list := array.NewData(schema.Field(1+i).Type, n, []*memory.Buffer{nil}, []arrow.ArrayData{items}, 0, 0)
		columns = append(columns, array.NewFixedSizeListData(list))
	}
	rec := array.NewRecord(schema, columns, int64(n))
	defer rec.Release()
	err := w.arrow.Write(rec)
	w.keys = w.keys[:0]
	for i := range w.values {
		w.values[i] = w.values[i][:0]
	}
	return err
}

// finish writes what is left and describes the table.
func (w *tableWriter) finish() (Table, error) {
	if err := w.flush(); err != nil {
		return Table{}, err
	}
	if err := w.arrow.Close(); err != nil {
		return Table{}, err
	}
	n := w.rows * int64(w.schema.Width())
	t := Table{Schema: w.schema, Rows: w.rows, Parameters: n, Bytes: 4 * n}
	var err error
	t.File, err = w.file.finish()
	return t, err
}
