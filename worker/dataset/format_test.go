package dataset

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/ipc"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/apache/arrow/go/v17/parquet"
	"github.com/apache/arrow/go/v17/parquet/pqarrow"
	"github.com/fathom-train/fathom/compute/random"
	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/google/go-cmp/cmp"
)

// table is the test table: text, integers, floats, bools and lists, with
// missing values.
type tableRow struct {
	label  int
	name   string // "" is missing
	id     int64
	noID   bool
	price  float64
	noCost bool
	flag   bool
	tags   []string
}

func tableRows(n int) []tableRow {
	rows := make([]tableRow, n)
	for i := range rows {
		w := func(j uint64) uint64 { return random.Word(7, uint64(i)*8+j) }
		rows[i] = tableRow{label: int(w(0) % 2), id: int64(w(1)%500) - 100, noID: w(1)>>32%9 == 0,
			price: float64(int64(w(2)%2000)-500) / 8, noCost: w(3)%7 == 0, flag: w(4)%3 == 0}
		if k := w(5) % 50; k > 0 {
			rows[i].name = fmt.Sprintf("name, \"%d\"", k)
		}
		for j := range w(6) % 4 {
			rows[i].tags = append(rows[i].tags, fmt.Sprintf("t%d", w(7)>>(8*j)%20))
		}
	}
	return rows
}

var tableSchema = arrow.NewSchema([]arrow.Field{
	{Name: "unused", Type: arrow.BinaryTypes.String, Nullable: true},
	{Name: "id", Type: arrow.PrimitiveTypes.Int32, Nullable: true},
	{Name: "label", Type: arrow.FixedWidthTypes.Boolean, Nullable: true},
	{Name: "name", Type: arrow.BinaryTypes.String, Nullable: true},
	{Name: "price", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
	{Name: "flag", Type: arrow.FixedWidthTypes.Boolean, Nullable: true},
	{Name: "tags", Type: arrow.ListOf(arrow.BinaryTypes.String), Nullable: true},
}, nil)

func tableRecord(rows []tableRow) arrow.Record {
	b := array.NewRecordBuilder(memory.DefaultAllocator, tableSchema)
	for i, r := range rows {
		b.Field(0).(*array.StringBuilder).Append(strconv.Itoa(i))
		b.Field(1).(*array.Int32Builder).Append(int32(r.id))
		b.Field(2).(*array.BooleanBuilder).Append(r.label == 1)
		b.Field(3).(*array.StringBuilder).Append(r.name)
		b.Field(4).(*array.Float64Builder).Append(r.price)
		b.Field(5).(*array.BooleanBuilder).Append(r.flag)
		tags := b.Field(6).(*array.ListBuilder)
		tags.Append(true)
		for _, t := range r.tags {
			tags.ValueBuilder().(*array.StringBuilder).Append(t)
		}
	}
	rec := b.NewRecord()
	// Missing values are nulls whose memory holds something else.
	nulls := func(col int, missing func(tableRow) bool) arrow.Array {
		data := rec.Column(col).Data()
		bitmap := make([]byte, len(rows)/8+1)
		n := 0
		for i, r := range rows {
			if missing(r) {
				n++
			} else {
				bitmap[i/8] |= 1 << (i % 8)
			}
		}
		buffers := append([]*memory.Buffer{memory.NewBufferBytes(bitmap)}, data.Buffers()[1:]...)
		return array.MakeFromData(array.NewData(data.DataType(), len(rows), buffers, data.Children(), n, 0))
	}
	columns := append([]arrow.Array(nil), rec.Columns()...)
	columns[1] = nulls(1, func(r tableRow) bool { return r.noID })
	columns[4] = nulls(4, func(r tableRow) bool { return r.noCost })
	columns[6] = nulls(6, func(r tableRow) bool { return len(r.tags) == 0 && r.flag })
	return array.NewRecord(tableSchema, columns, int64(len(rows)))
}

func tableText(rows []tableRow, delim rune) string {
	var b bytes.Buffer
	w := csv.NewWriter(&b)
	w.Comma = delim
	w.Write([]string{"tags", "flag", "price", "id", "name", "label"})
	opt := func(s string, missing bool) string {
		if missing {
			return ""
		}
		return s
	}
	for _, r := range rows {
		w.Write([]string{strings.Join(r.tags, "|"), strconv.FormatBool(r.flag), opt(strconv.FormatFloat(r.price, 'g', -1, 64), r.noCost),
			opt(strconv.FormatInt(r.id, 10), r.noID), r.name, strconv.Itoa(r.label)})
	}
	w.Flush()
	return b.String()
}

var tableFields = []job.Field{
	{Name: "name"}, {Name: "id"}, {Name: "flag"}, {Name: "cost", Column: "price"},
	{Name: "tags", Separator: "|"},
	{Name: "price", Type: "numeric"}, {Name: "price_log", Column: "price", Type: "numeric", Transform: "log"},
	{Name: "price_bucket", Column: "price", Type: "numeric", Transform: "bucket"},
	{Name: "id_number", Column: "id", Type: "numeric", Transform: "bucket"},
}

// slices of a record, for files of many batches.
func cut(rec arrow.Record, size int64) (parts []arrow.Record) {
	for lo := int64(0); lo < rec.NumRows(); lo += size {
		parts = append(parts, rec.NewSlice(lo, min(lo+size, rec.NumRows())))
	}
	return parts
}

func writeArrow(t testing.TB, path string, stream bool, parts []arrow.Record, opts ...ipc.Option) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	opts = append(opts, ipc.WithSchema(parts[0].Schema()))
	var w recordWriter = ipc.NewWriter(f, opts...)
	if !stream {
		if w, err = ipc.NewFileWriter(f, opts...); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range parts {
		if err := w.Write(p); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

func writeParquet(t testing.TB, path string, parts []arrow.Record) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w, err := pqarrow.NewFileWriter(parts[0].Schema(), f, parquet.NewWriterProperties(), pqarrow.NewArrowWriterProperties(pqarrow.WithStoreSchema()))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range parts {
		if err := w.Write(p); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestFormatsGiveTheSameBatches: the same table in every format has the same
// keys, weights and labels, in the same epoch order, and the same digest.
func TestFormatsGiveTheSameBatches(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	rows := tableRows(2*blockRows + 1234)
	rec := tableRecord(rows)
	write(t, dir, "t.csv", tableText(rows, ','))
	write(t, dir, "t.tsv", tableText(rows, '\t'))
	writeArrow(t, filepath.Join(dir, "t.arrow"), false, cut(rec, blockRows))
	writeArrow(t, filepath.Join(dir, "t.arrows"), true, cut(rec, blockRows/4), ipc.WithZstd())
	writeArrow(t, filepath.Join(dir, "t.lz4"), true, cut(rec, blockRows/2), ipc.WithLZ4())
	writeParquet(t, filepath.Join(dir, "t.parquet"), cut(rec, blockRows/8))
	var want, wantEpoch *Batch
	var digest string
	for _, c := range [][2]string{{"csv", "t.csv"}, {"tsv", "t.tsv"}, {"arrow", "t.arrow"}, {"arrow", "t.arrows"}, {"arrow", "t.lz4"}, {"parquet", "t.parquet"}} {
		s := open(t, job.Data{Root: dir, Format: c[0], Train: []string{c[1]}, Fields: tableFields, CacheBytes: 1, ShuffleWindowRows: 2 * blockRows})
		got := all(t, s, "train")
		epoch := new(Batch)
		p, _ := s.Split("train")
		if err := p.ReadEpoch(t.Context(), epoch, 3, 4, 0, p.Rows()); err != nil {
			t.Fatal(err)
		}
		if want == nil {
			want, wantEpoch, digest = got, epoch, s.Digest()
			if got.N != len(rows) {
				t.Fatalf("%d rows, want %d", got.N, len(rows))
			}
			continue
		}
		if !same(want, got) {
			t.Errorf("%s: the rows differ from those of csv", c[1])
		}
		if !same(wantEpoch, epoch) {
			t.Errorf("%s: the epoch differs from that of csv", c[1])
		}
		if s.Digest() != digest {
			t.Errorf("%s: digest %s, want %s", c[1], s.Digest(), digest)
		}
	}
}

// TestLargeRowGroupIsOneUnit: its rows are the same, in other units.
func TestLargeRowGroupIsOneUnit(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	rows := tableRows(2*blockRows + 77)
	rec := tableRecord(rows)
	write(t, dir, "t.csv", tableText(rows, ','))
	writeParquet(t, filepath.Join(dir, "t.parquet"), []arrow.Record{rec})
	writeArrow(t, filepath.Join(dir, "t.arrow"), false, []arrow.Record{rec})
	want := all(t, open(t, job.Data{Root: dir, Format: "csv", Train: []string{"t.csv"}, Fields: tableFields}), "train")
	for _, format := range []string{"parquet", "arrow"} {
		s := open(t, job.Data{Root: dir, Format: format, Train: []string{"t." + format}, Fields: tableFields})
		if n := len(s.splits["train"].units); n != 1 {
			t.Errorf("%s: %d units", format, n)
		}
		if !same(want, all(t, s, "train")) {
			t.Errorf("%s: the rows differ from those of csv", format)
		}
	}
}

// TestColumnTypes: every type of column gives the keys of its text.
func TestColumnTypes(t *testing.T) {
	t.Parallel()
	mem := memory.DefaultAllocator
	dict := func(index arrow.DataType, value arrow.DataType) arrow.DataType {
		return &arrow.DictionaryType{IndexType: index, ValueType: value}
	}
	list := arrow.ListOf(arrow.PrimitiveTypes.Int64)
	types := []struct {
		typ  arrow.DataType
		json string
		want string // values of the rows: "-" is missing, "," separates several
	}{
		{arrow.PrimitiveTypes.Int8, `[-5, null, 7]`, "-5 - 7"},
		{arrow.PrimitiveTypes.Int16, `[-5, null, 7]`, "-5 - 7"},
		{arrow.PrimitiveTypes.Int64, `[-9223372036854775808, null, 7]`, "-9223372036854775808 - 7"},
		{arrow.PrimitiveTypes.Uint8, `[255, null, 7]`, "255 - 7"},
		{arrow.PrimitiveTypes.Uint16, `[65535, null, 7]`, "65535 - 7"},
		{arrow.PrimitiveTypes.Uint32, `[4294967295, null, 7]`, "4294967295 - 7"},
		{arrow.PrimitiveTypes.Uint64, `[9223372036854775808, null, 7]`, "9223372036854775808 - 7"},
		{arrow.PrimitiveTypes.Float32, `[0.1, null, 3]`, "0.1 - 3"},
		{arrow.PrimitiveTypes.Float64, `[1e21, null, -0.25]`, "1000000000000000000000 - -0.25"},
		{arrow.FixedWidthTypes.Float16, `[0.5, null, 3]`, "0.5 - 3"},
		{arrow.FixedWidthTypes.Boolean, `[true, null, false]`, "true - false"},
		{arrow.BinaryTypes.LargeString, `["a", "", "c"]`, "a - c"},
		{arrow.BinaryTypes.Binary, `["YQ==", null, "Yw=="]`, "a - c"},
		{arrow.BinaryTypes.LargeBinary, `["YQ==", null, "Yw=="]`, "a - c"},
		{&arrow.FixedSizeBinaryType{ByteWidth: 1}, `["YQ==", null, "Yw=="]`, "a - c"},
		{dict(arrow.PrimitiveTypes.Int8, arrow.BinaryTypes.String), `["a", null, "a"]`, "a - a"},
		{dict(arrow.PrimitiveTypes.Uint16, arrow.PrimitiveTypes.Int64), `[5, null, 5]`, "5 - 5"},
		{list, `[[1, null, 2], null, []]`, "1,2 - -"},
		{arrow.LargeListOf(arrow.BinaryTypes.String), `[["x"], ["", "y"], ["z", "z"]]`, "x y z,z"},
		{arrow.FixedSizeListOf(2, arrow.PrimitiveTypes.Int64), `[[1, 2], null, [3, null]]`, "1,2 - 3"},
		{arrow.ListOf(dict(arrow.PrimitiveTypes.Int8, arrow.BinaryTypes.String)), `[["x"], ["y", "x"], []]`, "x y,x -"},
		{arrow.Null, `[null, null, null]`, "- - -"},
	}
	for _, c := range types {
		t.Run(c.typ.String(), func(t *testing.T) {
			t.Parallel()
			values, _, err := array.FromJSON(mem, c.typ, strings.NewReader(c.json))
			if err != nil {
				t.Fatal(err)
			}
			label, _, _ := array.FromJSON(mem, arrow.PrimitiveTypes.Float32, strings.NewReader(`[0, 1, 1]`))
			sc := arrow.NewSchema([]arrow.Field{{Name: "f", Type: c.typ, Nullable: true}, {Name: "label", Type: label.DataType()}}, nil)
			rec := array.NewRecord(sc, []arrow.Array{values, label}, 3)
			dir := t.TempDir()
			writeArrow(t, filepath.Join(dir, "t"), true, []arrow.Record{rec})
			formats := []string{"arrow"}
			if id := c.typ.ID(); id != arrow.FLOAT16 && id != arrow.NULL && c.typ.String() != types[20].typ.String() && id != arrow.LARGE_LIST && id != arrow.FIXED_SIZE_LIST {
				formats = append(formats, "parquet")
			}
			for _, format := range formats {
				if format == "parquet" {
					writeParquet(t, filepath.Join(dir, "t"), []arrow.Record{rec})
				}
				s := open(t, job.Data{Root: dir, Format: format, Train: []string{"t"}, Fields: fields("f")})
				b := all(t, s, "train")
				for r, want := range strings.Fields(c.want) {
					k, _ := cell(b, r, 0)
					wantKeys := keys("f", strings.Split(want, ",")...)
					if want == "-" {
						wantKeys[0] = s.schema.fields[0].hash.Missing()
					}
					if diff := cmp.Diff(wantKeys, k); diff != "" {
						t.Errorf("%s row %d: want %s: %s", format, r, want, diff)
					}
				}
				if diff := cmp.Diff([]float32{0, 1, 1}, b.Labels); diff != "" {
					t.Error(diff)
				}
			}
		})
	}
}

// TestNumbersOfAnyType: numeric fields read every type of number, and labels
// too.
func TestNumbersOfAnyType(t *testing.T) {
	t.Parallel()
	dict := &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.BinaryTypes.String}
	types := []arrow.DataType{
		arrow.PrimitiveTypes.Int8, arrow.PrimitiveTypes.Int16, arrow.PrimitiveTypes.Int32, arrow.PrimitiveTypes.Int64,
		arrow.PrimitiveTypes.Uint8, arrow.PrimitiveTypes.Uint16, arrow.PrimitiveTypes.Uint32, arrow.PrimitiveTypes.Uint64,
		arrow.PrimitiveTypes.Float32, arrow.PrimitiveTypes.Float64, arrow.FixedWidthTypes.Float16, arrow.BinaryTypes.String, dict,
	}
	for _, typ := range types {
		text := `[1, 0, 1, 0]`
		if typ == dict || typ == arrow.BinaryTypes.String {
			text = `["1", "0", "1.0", "0.0"]`
		}
		values, _, err := array.FromJSON(memory.DefaultAllocator, typ, strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		sc := arrow.NewSchema([]arrow.Field{{Name: "label", Type: typ}, {Name: "x", Type: typ}}, nil)
		path := filepath.Join(t.TempDir(), "t")
		writeArrow(t, path, false, []arrow.Record{array.NewRecord(sc, []arrow.Array{values, values}, 4)})
		b := all(t, open(t, job.Data{Format: "arrow", Train: []string{path}, Fields: []job.Field{{Name: "x", Type: "numeric"}}}), "train")
		if diff := cmp.Diff([]float32{1, 0, 1, 0}, b.Labels) + cmp.Diff([]float32{1, 0, 1, 0}, b.Weights); diff != "" {
			t.Errorf("%s: %s", typ, diff)
		}
	}
}

// TestWeightedLists: a list of {value, weight} pairs has weights, in a map too.
func TestWeightedLists(t *testing.T) {
	t.Parallel()
	typ := arrow.MapOf(arrow.BinaryTypes.String, arrow.PrimitiveTypes.Float32)
	values, _, err := array.FromJSON(memory.DefaultAllocator, typ, strings.NewReader(
		`[[{"key": "a", "value": 0.5}], [], [{"key": "b", "value": 3}, {"key": "c", "value": 1}]]`))
	if err != nil {
		t.Fatal(err)
	}
	label, _, _ := array.FromJSON(memory.DefaultAllocator, arrow.PrimitiveTypes.Int8, strings.NewReader(`[0, 1, 1]`))
	sc := arrow.NewSchema([]arrow.Field{{Name: "f", Type: typ}, {Name: "label", Type: label.DataType()}}, nil)
	path := filepath.Join(t.TempDir(), "t")
	writeArrow(t, path, false, []arrow.Record{array.NewRecord(sc, []arrow.Array{values, label}, 3)})
	b := all(t, open(t, job.Data{Format: "arrow", Train: []string{path}, Fields: fields("f")}), "train")
	if diff := cmp.Diff([]float32{0.5, 1, 1.5, 0.5}, b.Weights); diff != "" {
		t.Error(diff)
	}
}

func TestBadColumnarInput(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	row := func(label arrow.DataType, labels string, typ arrow.DataType, text string) arrow.Record {
		l, _, err := array.FromJSON(memory.DefaultAllocator, label, strings.NewReader(labels))
		if err != nil {
			t.Fatal(err)
		}
		v, _, err := array.FromJSON(memory.DefaultAllocator, typ, strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		return array.NewRecord(arrow.NewSchema([]arrow.Field{{Name: "label", Type: label, Nullable: true}, {Name: "f", Type: typ, Nullable: true}}, nil), []arrow.Array{l, v}, int64(l.Len()))
	}
	i8, str := arrow.PrimitiveTypes.Int8, arrow.BinaryTypes.String
	dict := &arrow.DictionaryType{IndexType: i8, ValueType: str}
	numeric := []job.Field{{Name: "f", Type: "numeric"}}
	for i, c := range []struct {
		rec    arrow.Record
		fields []job.Field
		want   string
	}{
		{row(i8, `[1, -1]`, str, `["a", "b"]`), fields("f"), "row 2: label is -1, want 0 or 1"},
		{row(i8, `[1, null]`, str, `["a", "b"]`), fields("f"), "row 2: label is nothing, want 0 or 1"},
		{row(arrow.FixedWidthTypes.Boolean, `[null]`, str, `["a"]`), fields("f"), "row 1: label is nothing"},
		{row(dict, `["1", null, "2"]`, str, `["a", "b", "c"]`), fields("f"), "row 2: label is nothing"},
		{row(dict, `["1", "2"]`, str, `["a", "b"]`), fields("f"), `row 2: label is "2"`},
		{row(i8, `[1]`, arrow.FixedWidthTypes.Date32, `["2020-01-01"]`), fields("f"), `column "f": type date32 is not supported`},
		{row(i8, `[1]`, arrow.ListOf(arrow.ListOf(i8)), `[[[1]]]`), fields("f"), `is not supported`},
		{row(i8, `[1]`, arrow.ListOf(i8), `[[1]]`), numeric, `type list<item: int8, nullable> holds no numbers`},
		{row(i8, `[1]`, i8, `[1]`), []job.Field{{Name: "f", Separator: "|"}}, `type int8 cannot be split by "|"`},
		{row(i8, `[1, 1]`, dict, `["1", "x"]`), numeric, `row 2: "x" of numeric field "f" is not a finite number`},
		{row(i8, `[1]`, i8, `[1]`), fields("g"), `no column "g"`},
	} {
		path := filepath.Join(dir, strconv.Itoa(i))
		writeArrow(t, path, false, []arrow.Record{c.rec})
		_, err := Open(t.Context(), job.Data{Format: "arrow", Train: []string{path}, Fields: c.fields}, quiet())
		if err == nil || !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%d: error is %v, want %s", i, err, c.want)
		}
	}
}

// TestDamagedFiles: a file cut off or flipped anywhere gives an error or rows,
// never a panic.
func TestDamagedFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	rec := tableRecord(tableRows(50))
	writeParquet(t, filepath.Join(dir, "parquet"), cut(rec, 20))
	writeArrow(t, filepath.Join(dir, "arrow"), false, cut(rec, 20))
	for _, format := range []string{"parquet", "arrow"} {
		good, err := os.ReadFile(filepath.Join(dir, format))
		if err != nil {
			t.Fatal(err)
		}
		try := func(b []byte) error {
			write(t, dir, "bad", string(b))
			s, err := Open(t.Context(), job.Data{Root: dir, Format: format, Train: []string{"bad"}, Fields: tableFields}, quiet())
			if err == nil {
				s.Close()
			}
			return err
		}
		for n := 0; n < len(good); n += 1 + len(good)/60 {
			if err := try(good[:n]); err == nil {
				t.Errorf("%s cut off at %d of %d bytes was read", format, n, len(good))
			}
		}
		for n := 0; n < len(good); n += 1 + len(good)/100 {
			bad := bytes.Clone(good)
			bad[n] ^= 0xa5
			try(bad)
		}
	}
}
