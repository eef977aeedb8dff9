package dataset

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"
	pqfile "github.com/apache/arrow/go/v17/parquet/file"
	"github.com/apache/arrow/go/v17/parquet/metadata"
	"github.com/apache/arrow/go/v17/parquet/pqarrow"
)

// parquetFile is a source whose units are row groups: a row group cannot be
// entered in its middle without decoding what is before.
type parquetFile struct {
	file
	// meta is the footer, parsed once: it is large when there are many row
	// groups.
	meta *metadata.FileMetaData
	// leaves are the physical columns to read, order the record batch's
	// columns among the columns read.
	leaves, order []int
	// names are those of the record batch's columns.
	names []string
}

// openParquet reads the footer and finds the columns of the schema.
func openParquet(f file, s *schema) (p *parquetFile, err error) {
	defer f.guard(&err)
	in, err := f.open()
	if err != nil {
		return nil, err
	}
	defer in.Close()
	r, err := pqfile.NewParquetReader(in)
	if err != nil {
		return nil, f.bad("not a readable Parquet file: %v", err)
	}
	p = &parquetFile{file: f, meta: r.MetaData()}
	sc := p.meta.Schema
	var names []string
	byName := make(map[string][]int)
	for i := range sc.NumColumns() {
		name := sc.Column(i).ColumnPath()[0]
		if len(names) == 0 || names[len(names)-1] != name {
			names = append(names, name)
		}
		byName[name] = append(byName[name], i)
	}
	if s == nil {
		return p, nil
	}
	slots, err := slotsOf(names, s)
	if err != nil {
		return nil, f.bad("%v", err)
	}
	p.order = make([]int, 1+len(s.columns))
	read := 0
	for i, slot := range slots {
		if slot >= 0 {
			p.order[slot] = read
			p.leaves = append(p.leaves, byName[names[i]]...)
			read++
		}
	}
	p.names = append([]string{s.label}, s.columns...)
	return p, nil
}

// scan implements source.
func (p *parquetFile) scan(context.Context) (units []*unit, err error) {
	defer p.guard(&err)
	for g := range p.meta.RowGroups {
		rows := p.meta.RowGroup(g).NumRows()
		if rows < 0 || rows > maxUnitRows {
			return nil, p.bad("row group %d has %d rows, at most %d can be read", g, rows, maxUnitRows)
		}
		units = addRows(units, p, int64(g), int(rows))
	}
	return units, nil
}

// maxUnitRows bounds a row group or record batch.
const maxUnitRows = 1 << 30

// addRows appends element i (a row group or a record batch): consecutive small
// ones make one unit, so that files written in small pieces are not read in
// small pieces.
func addRows(units []*unit, src source, i int64, rows int) []*unit {
	if rows == 0 {
		return units
	}
	if n := len(units); n > 0 && units[n-1].records+rows <= blockRows && units[n-1].hi == i {
		units[n-1].records += rows
		units[n-1].hi = i + 1
		return units
	}
	var first int64
	if n := len(units); n > 0 {
		first = units[n-1].first + int64(units[n-1].records)
	}
	return append(units, &unit{src: src, lo: i, hi: i + 1, first: first, records: rows})
}

// load implements source.
func (p *parquetFile) load(ctx context.Context, u *unit, consume func(*records) error) (err error) {
	defer p.guard(&err)
	in, err := p.open()
	if err != nil {
		return err
	}
	defer in.Close()
	r, err := pqfile.NewParquetReader(in, pqfile.WithMetadata(p.meta))
	if err != nil {
		return p.bad("not a readable Parquet file: %v", err)
	}
	fr, err := pqarrow.NewFileReader(r, pqarrow.ArrowReadProperties{BatchSize: blockRows}, memory.DefaultAllocator)
	if err != nil {
		return p.bad("not a readable Parquet file: %v", err)
	}
	groups := make([]int, 0, u.hi-u.lo)
	for g := u.lo; g < u.hi; g++ {
		groups = append(groups, int(g))
	}
	rr, err := fr.GetRecordReader(ctx, p.leaves, groups)
	if err != nil {
		return p.bad("row group %d: %v", u.lo, err)
	}
	defer rr.Release()
	return p.each(rr, u, consume)
}

// each hands over the record batches of a unit.
func (p *parquetFile) each(rr pqarrow.RecordReader, u *unit, consume func(*records) error) error {
	seen := 0
	for {
		rec, err := rr.Read()
		if errors.Is(err, io.EOF) || err == nil && rec == nil {
			break
		}
		if err != nil {
			return p.bad("row group %d: %v", u.lo, err)
		}
		if err := consumeSlices(&p.file, p.names, rec, p.order, u.first+int64(seen), consume); err != nil {
			return err
		}
		seen += int(rec.NumRows())
	}
	if seen != u.records {
		return p.bad("row group %d has %d rows, the footer says %d", u.lo, seen, u.records)
	}
	return nil
}

// consumeSlices puts the columns in order and hands them over in batches of at
// most blockRows rows. first is the number of the first row in the file.
func consumeSlices(f *file, names []string, rec arrow.Record, order []int, first int64, consume func(*records) error) error {
	for lo := int64(0); lo < rec.NumRows(); lo += blockRows {
		hi := min(lo+blockRows, rec.NumRows())
		columns := make([]arrow.Array, len(order))
		fields := make([]arrow.Field, len(order))
		for i, c := range order {
			columns[i] = array.NewSlice(rec.Column(c), lo, hi)
			fields[i] = arrow.Field{Name: names[i], Type: columns[i].DataType(), Nullable: true}
		}
		part := array.NewRecord(arrow.NewSchema(fields, nil), columns, hi-lo)
		for _, c := range columns {
			c.Release() // the record holds them now
		}
		err := consume(&records{rec: part, at: func(row, _ int) InputError {
			return InputError{File: fmt.Sprintf("%s: row %d", f.path, first+lo+int64(row)+1)}
		}})
		part.Release()
		if err != nil {
			return err
		}
	}
	return nil
}
