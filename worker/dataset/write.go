package dataset

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/ipc"
	"github.com/apache/arrow/go/v17/parquet"
	"github.com/apache/arrow/go/v17/parquet/compress"
	"github.com/apache/arrow/go/v17/parquet/pqarrow"
	"github.com/fathom-train/fathom/coordinator/job"
)

// WriteSynthetic writes generated data as files train, valid and test of the
// format csv, parquet or arrow into dir, and data.yaml, the data part of a job
// that reads them. Reading them gives the same batches in the same order as
// format synthetic. Files that are there already are not overwritten.
func WriteSynthetic(ctx context.Context, dir string, s job.Synthetic, format string) error {
	t, err := newTeacher(s)
	if err != nil {
		return err
	}
	open, ok := map[string]func(io.WriteSeeker, *arrow.Schema) (recordWriter, error){
		"csv": newCSVWriter, "parquet": newParquetWriter, "arrow": newArrowWriter}[format]
	if !ok {
		return &InputError{Msg: unknown("output format", format, []string{"csv", "parquet", "arrow"})}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("write synthetic data: %w", err)
	}
	sc, err := newSchema(job.Data{}, SyntheticFields(s))
	if err != nil {
		return err
	}
	for i, name := range splitNames {
		g, err := newGenerated(t, i, sc)
		if err != nil {
			return err
		}
		if g.rows == 0 {
			continue
		}
		if err := writeSplit(ctx, filepath.Join(dir, name+"."+format), g, open); err != nil {
			return fmt.Errorf("write synthetic data: %w", err)
		}
	}
	return create(filepath.Join(dir, "data.yaml"), func(w io.WriteSeeker) error {
		_, err := io.WriteString(w, dataYAML(t.conf, format))
		return err
	})
}

// recordWriter writes record batches in one format.
type recordWriter interface {
	Write(arrow.Record) error
	Close() error
}

// writeSplit writes one split, block by block: every block becomes a row group
// or record batch, so that the order of an epoch is that of the generator.
func writeSplit(ctx context.Context, path string, g *generated, open func(io.WriteSeeker, *arrow.Schema) (recordWriter, error)) error {
	return create(path, func(out io.WriteSeeker) error {
		w, err := open(out, g.schema)
		if err != nil {
			return err
		}
		units, err := g.scan(ctx)
		for _, u := range units {
			if err = context.Cause(ctx); err != nil {
				break
			}
			if err = g.load(ctx, u, func(r *records) error { return w.Write(r.rec) }); err != nil {
				break
			}
		}
		return errors.Join(err, w.Close())
	})
}

// create writes a new file and removes it when that fails.
func create(path string, write func(io.WriteSeeker) error) (err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			os.Remove(path)
		}
	}()
	return write(f)
}

// keepOpen hides that a file can be closed from a writer that would close it.
type keepOpen struct{ io.Writer }

func newParquetWriter(w io.WriteSeeker, s *arrow.Schema) (recordWriter, error) {
	props := parquet.NewWriterProperties(parquet.WithCompression(compress.Codecs.Snappy))
	return pqarrow.NewFileWriter(s, keepOpen{w}, props, pqarrow.DefaultWriterProps())
}

func newArrowWriter(w io.WriteSeeker, s *arrow.Schema) (recordWriter, error) {
	return ipc.NewFileWriter(w, ipc.WithSchema(s))
}

// csvWriter writes integers with a header; null is empty.
type csvWriter struct {
	w   io.Writer
	buf []byte
}

func newCSVWriter(w io.WriteSeeker, s *arrow.Schema) (recordWriter, error) {
	var names []string
	for _, f := range s.Fields() {
		names = append(names, f.Name)
	}
	_, err := io.WriteString(w, strings.Join(names, ",")+"\n")
	return &csvWriter{w: w}, err
}

// Write implements recordWriter.
func (c *csvWriter) Write(rec arrow.Record) error {
	labels := rec.Column(0).(*array.Uint8).Uint8Values()
	columns := make([][]int32, 0, rec.NumCols()-1)
	for _, col := range rec.Columns()[1:] {
		columns = append(columns, col.(*array.Int32).Int32Values())
	}
	c.buf = c.buf[:0]
	for r, l := range labels {
		c.buf = append(c.buf, '0'+l)
		for _, values := range columns {
			c.buf = append(c.buf, ',')
			if values[r] >= 0 { // the generator's mark of a missing value
				c.buf = strconv.AppendInt(c.buf, int64(values[r]), 10)
			}
		}
		c.buf = append(c.buf, '\n')
	}
	_, err := c.w.Write(c.buf)
	return err
}

// Close implements recordWriter.
func (c *csvWriter) Close() error { return nil }

// dataYAML returns the data part of a job.
func dataYAML(s job.Synthetic, format string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Goes into a job file as spec.data, with data.root naming this directory.\nformat: %s\n", format)
	for i, rows := range []int64{s.TrainRows, s.ValidRows, s.TestRows} {
		if rows > 0 {
			fmt.Fprintf(&b, "%s: [%s.%s]\n", splitNames[i], splitNames[i], format)
		}
	}
	b.WriteString("label: label\nfields:\n")
	for _, f := range SyntheticFields(s) {
		if f.Type == typeNumeric {
			fmt.Fprintf(&b, "- {name: %s, type: numeric, transform: %s}\n", f.Name, f.Transform)
		} else {
			fmt.Fprintf(&b, "- {name: %s}\n", f.Name)
		}
	}
	return b.String()
}
