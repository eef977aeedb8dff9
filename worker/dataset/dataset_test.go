package dataset

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/fathom-train/fathom/shard"
	"github.com/google/go-cmp/cmp"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// write makes a file in dir.
func write(t testing.TB, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// open opens data and closes it with the test.
func open(t testing.TB, d job.Data) *Set {
	t.Helper()
	s, err := Open(t.Context(), d, quiet())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// openText writes a train file of a text format and opens it.
func openText(t testing.TB, text string, d job.Data) (*Set, error) {
	t.Helper()
	d.Root, d.Train = t.TempDir(), []string{"train.txt"}
	write(t, d.Root, "train.txt", text)
	s, err := Open(t.Context(), d, quiet())
	if err == nil {
		t.Cleanup(func() { s.Close() })
	}
	return s, err
}

// all reads a whole split in the order of the files.
func all(t testing.TB, s *Set, split string) *Batch {
	t.Helper()
	p, ok := s.Split(split)
	if !ok {
		t.Fatalf("no split %s", split)
	}
	b := new(Batch)
	if err := p.Read(t.Context(), b, 0, p.Rows()); err != nil {
		t.Fatal(err)
	}
	return b
}

// same compares large batches, which cmp is slow at.
func same(a, b *Batch) bool {
	return a.N == b.N && a.Fields == b.Fields && slices.Equal(a.Labels, b.Labels) && slices.Equal(a.Keys, b.Keys) &&
		slices.Equal(a.Weights, b.Weights) && slices.Equal(a.Offsets, b.Offsets)
}

// cell returns the keys and weights of a field of a sample.
func cell(b *Batch, row, field int) ([]shard.Key, []float32) {
	lo, hi := b.Offsets[row*b.Fields+field], b.Offsets[row*b.Fields+field+1]
	return b.Keys[lo:hi], b.Weights[lo:hi]
}

func fields(names ...string) (f []job.Field) {
	for _, n := range names {
		f = append(f, job.Field{Name: n})
	}
	return f
}

func keys(field string, values ...string) (k []shard.Key) {
	for _, v := range values {
		k = append(k, shard.NewHasher(field).String(v))
	}
	return k
}

func TestCSVBecomesKeysInTheOrderOfTheFields(t *testing.T) {
	t.Parallel()
	text := "\xef\xbb\xbfa,label,b,unused\r\n" +
		"x,1,\"y, \"\"z\"\"\nw\",q\r\n" +
		"\r\n" +
		"x y,0.0,,q\n" +
		"\"\",1.0,5\" wide,q"
	s, err := openText(t, text, job.Data{Format: "csv", Fields: []job.Field{{Name: "b"}, {Name: "a"}, {Name: "again", Column: "a", Share: "a"}}})
	if err != nil {
		t.Fatal(err)
	}
	ha, hb := shard.NewHasher("a"), shard.NewHasher("b")
	want := &Batch{N: 3, Fields: 3, Labels: []float32{1, 0, 1},
		Keys: []shard.Key{
			hb.String("y, \"z\"\nw"), ha.String("x"), ha.String("x"),
			hb.Missing(), ha.String("x y"), ha.String("x y"),
			hb.String(`5" wide`), ha.Missing(), ha.Missing(),
		},
		Weights: []float32{1, 1, 1, 1, 1, 1, 1, 1, 1}, Offsets: []int32{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}}
	if diff := cmp.Diff(want, all(t, s, "train")); diff != "" {
		t.Error(diff)
	}
	p, _ := s.Split("train")
	if n, ok := p.Positives(); n != 2 || !ok {
		t.Errorf("positives = %d, %v", n, ok)
	}
	if _, ok := s.Split("test"); ok {
		t.Error("there is a test split")
	}
	if s.Fields() != 3 {
		t.Errorf("fields = %d", s.Fields())
	}
}

func TestFilesWithoutHeaderNumberTheirColumns(t *testing.T) {
	t.Parallel()
	no := false
	s, err := openText(t, "1\tp\tq\n0\tr\ts\n", job.Data{Format: "tsv", Header: &no, Label: "0", Fields: []job.Field{{Name: "f", Column: "2"}}})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(keys("f", "q", "s"), all(t, s, "train").Keys); diff != "" {
		t.Error(diff)
	}
}

func TestEveryFileMapsItsOwnHeader(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "part-2.csv", "f,label\nc,1\n")
	write(t, dir, "part-1.csv", "label,f\n0,a\n1,b\n")
	s := open(t, job.Data{Root: dir, Format: "csv", Train: []string{"part-*.csv"}, Fields: fields("f")})
	if diff := cmp.Diff(keys("f", "a", "b", "c"), all(t, s, "train").Keys); diff != "" {
		t.Error(diff)
	}
}

func TestSeveralValues(t *testing.T) {
	t.Parallel()
	text := "label;mean;sum\n1;a|b||a;a|b|c\n0;;\n1;x;y\n"
	s, err := openText(t, text, job.Data{Format: "csv", Delimiter: ";", Fields: []job.Field{
		{Name: "mean", Separator: "|"}, {Name: "sum", Separator: "|", Pooling: "sum", MaxValues: 2}}})
	if err != nil {
		t.Fatal(err)
	}
	b := all(t, s, "train")
	third := float32(1) / 3
	for _, c := range []struct {
		row, field int
		keys       []shard.Key
		weights    []float32
	}{
		{0, 0, keys("mean", "a", "b", "a"), []float32{third, third, third}},
		{0, 1, keys("sum", "a", "b"), []float32{1, 1}},
		{1, 0, []shard.Key{shard.NewHasher("mean").Missing()}, []float32{1}},
		{1, 1, []shard.Key{shard.NewHasher("sum").Missing()}, []float32{1}},
		{2, 0, keys("mean", "x"), []float32{1}},
	} {
		k, w := cell(b, c.row, c.field)
		if diff := cmp.Diff(c.keys, k) + cmp.Diff(c.weights, w); diff != "" {
			t.Errorf("row %d field %d: %s", c.row, c.field, diff)
		}
	}
}

func TestNumericFields(t *testing.T) {
	t.Parallel()
	text := "label,x\n1,2.5\n0,\n1,-3\n0,0\n1,NaN\n"
	s, err := openText(t, text, job.Data{Format: "csv", Fields: []job.Field{
		{Name: "raw", Column: "x", Type: "numeric"},
		{Name: "log", Column: "x", Type: "numeric", Transform: "log"},
		{Name: "bucket", Column: "x", Type: "numeric", Transform: "bucket"}}})
	if err != nil {
		t.Fatal(err)
	}
	b := all(t, s, "train")
	raw, lg, bk := shard.NewHasher("raw"), shard.NewHasher("log"), shard.NewHasher("bucket")
	wantKeys := []shard.Key{
		raw.Value(), lg.Value(), bk.String("0"), // ln(2.5)^2 = 0.84
		raw.Missing(), lg.Missing(), bk.Missing(),
		raw.Value(), lg.Value(), bk.String("-3"),
		raw.Value(), lg.Value(), bk.String("0"),
		raw.Missing(), lg.Missing(), bk.Missing(),
	}
	wantWeights := []float32{2.5, 1.2527629684953681, 1, 1, 1, 1, -3, -1.3862943611198906, 1, 0, 0, 1, 1, 1, 1}
	if diff := cmp.Diff(wantKeys, b.Keys) + cmp.Diff(wantWeights, b.Weights); diff != "" {
		t.Error(diff)
	}
}

func TestBadInputSaysWhereAndWhat(t *testing.T) {
	t.Parallel()
	one := fields("f")
	numeric := []job.Field{{Name: "f", Type: "numeric"}}
	for _, c := range []struct {
		name, text string
		d          job.Data
		want       string
	}{
		{"label", "label,f\n1,a\n2,b\n", job.Data{Format: "csv", Fields: one}, `train.txt:3:1: label is "2", want 0 or 1`},
		{"label minus one", "f,label\na,-1\n", job.Data{Format: "csv", Fields: one}, `train.txt:2:3: label is "-1", want 0 or 1`},
		{"columns", "label,f\n1,a\n1\n", job.Data{Format: "csv", Fields: one}, `train.txt:3: the record has 1 columns, want 2`},
		{"columns", "label,f\n1,a,b\n", job.Data{Format: "csv", Fields: one}, `train.txt:2: the record has 3 columns, want 2`},
		{"quote", "label,f\n1,\"a\n0,b\n", job.Data{Format: "csv", Fields: one}, `train.txt:2: a quote is never closed`},
		{"quote end", "label,f\n0,\"a\nb\"\n1,\"a\"b\n", job.Data{Format: "csv", Fields: one}, `train.txt:4: a quoted value is followed by "b", want ','`},
		{"number", "label,f\n1,\"2\"\n1,1e999\n", job.Data{Format: "csv", Fields: numeric}, `train.txt:3:3: "1e999" of numeric field "f" is not a finite number`},
		{"number", "label,f\n1,1e39\n", job.Data{Format: "csv", Fields: numeric}, `train.txt:2:3: 1e+39 does not fit a 32-bit float`},
		{"missing column", "label,user\n1,a\n", job.Data{Format: "csv", Fields: fields("usr")}, `train.txt:1: no column "usr", did you mean "user"? (there are: label, user)`},
		{"missing label", "a,f\n1,a\n", job.Data{Format: "csv", Fields: one}, `train.txt:1: no column "label" (there are: a, f)`},
		{"twice", "label,f,f\n1,a,a\n", job.Data{Format: "csv", Fields: one}, `train.txt:1: column "f" is there twice`},
		{"empty", "", job.Data{Format: "csv", Fields: one}, `train.txt: the file is empty`},
		{"no rows", "label,f\n", job.Data{Format: "csv", Fields: one}, `data.train has no rows`},
		{"utf-16", "\xff\xfel\x00", job.Data{Format: "csv", Fields: one}, `train.txt: the file is UTF-16`},
		{"gzip", "\x1f\x8b\x08", job.Data{Format: "csv", Fields: one}, `compressed with gzip`},
		{"parquet", "PAR1....", job.Data{Format: "csv", Fields: one}, `this is a Parquet file`},
		{"long", "label,f\n1," + strings.Repeat("x", recordBytesMax), job.Data{Format: "csv", Fields: one}, `train.txt:2: the line is longer than 1048576 bytes`},
		{"header quote", "label,\"f\n", job.Data{Format: "csv", Fields: one}, `train.txt:1: a quote is never closed`},
		{"ffm", "1 0:3:1\n0 0:x\n", job.Data{Format: "libffm", Fields: fields("0")}, `train.txt:2: "0:x" is not field:feature:value`},
		{"ffm value", "1 0:3:inf\n", job.Data{Format: "libffm", Fields: fields("0")}, `train.txt:1: "0:3:inf" is not field:feature:value`},
		{"ffm label", "+1 0:3:1\n", job.Data{Format: "libffm", Fields: fields("0")}, `train.txt:1:1: label is "+1", want 0 or 1`},
		{"ffm twice", "1 0:3:1 0:4:1\n", job.Data{Format: "libffm", Fields: []job.Field{{Name: "0", Type: "numeric"}}}, `train.txt:1:3: numeric field "0" has 2 features, want one`},
		{"ffm field", "1 0:3:1\n", job.Data{Format: "libffm", Fields: fields("user")}, `column "user" is no libffm field number`},
		{"ffm field that is not there", "1 0:3:1\n", job.Data{Format: "libffm", Fields: fields("0", "7")}, `no line of data.train has a feature for column "7"`},
		{"svm", "1 a:1\n", job.Data{Format: "libsvm", Fields: fields("all")}, `train.txt:1: "a:1" is not index:value`},
		{"svm range", "1 1:1\n", job.Data{Format: "libsvm", Fields: []job.Field{{Name: "a", Column: "5-3"}}}, `column "5-3" is no range of libsvm indices`},
		{"not parquet", "label,f\n1,a\n", job.Data{Format: "parquet", Fields: one}, `train.txt: not a readable Parquet file`},
		{"not arrow", "label,f\n1,a\n", job.Data{Format: "arrow", Fields: one}, `train.txt: not a readable Arrow IPC file or stream`},
		{"format", "x", job.Data{Format: "cvs", Fields: one}, `no format "cvs", did you mean "csv"?`},
		{"delimiter", "x", job.Data{Format: "csv", Delimiter: ";;", Fields: one}, `data.delimiter is ";;"`},
		{"no fields", "x", job.Data{Format: "csv"}, `data.fields is empty`},
		{"leak", "x", job.Data{Format: "csv", Fields: fields("label")}, `field "label" reads the label column "label"`},
		{"type", "x", job.Data{Format: "csv", Fields: []job.Field{{Name: "f", Type: "int"}}}, `data.fields[0]: field "f": type "int"`},
		{"transform", "x", job.Data{Format: "csv", Fields: []job.Field{{Name: "f", Type: "numeric", Transform: "exp"}}}, `transform "exp"`},
		{"transform", "x", job.Data{Format: "csv", Fields: []job.Field{{Name: "f", Transform: "log"}}}, `a categorical field cannot have a transform`},
		{"separator", "x", job.Data{Format: "csv", Fields: []job.Field{{Name: "f", Type: "numeric", Separator: "|"}}}, `a numeric field cannot have a separator`},
		{"pooling", "x", job.Data{Format: "csv", Fields: []job.Field{{Name: "f", Pooling: "max"}}}, `pooling "max"`},
		{"name", "x", job.Data{Format: "csv", Fields: []job.Field{{}}}, `it has no name`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := openText(t, c.text, c.d)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error is\n%v\nwant\n%s", err, c.want)
			}
			if bad := (*InputError)(nil); !errors.As(err, &bad) {
				t.Errorf("%T is no InputError", err)
			}
		})
	}
}

func TestFilesThatAreNotThere(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "a.csv", "label,f\n1,a\n")
	os.Mkdir(filepath.Join(dir, "sub"), 0o755)
	for patterns, want := range map[string]string{
		"x*.csv":      fmt.Sprintf(`data.train: no file matches: "x*.csv" in data.root %q`, dir),
		"b.csv":       `data.train: no such file: "b.csv"`,
		"[":           `"[" is not a valid pattern`,
		"a.csv *.csv": `data.train names this file twice`,
		"sub":         `is not a regular file`,
	} {
		_, err := Open(t.Context(), job.Data{Root: dir, Format: "csv", Train: strings.Fields(patterns), Fields: fields("f")}, quiet())
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error is %v, want %s", patterns, err, want)
		}
	}
	if _, err := Open(t.Context(), job.Data{Format: "csv", Fields: fields("f")}, quiet()); err == nil {
		t.Error("a job without train files was accepted")
	}
}

// TestBadRecordsAreLeftOut: rows are counted without them, over all files, and
// the first are described in the log.
func TestBadRecordsAreLeftOut(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var text strings.Builder
	text.WriteString("label,f\n")
	bad := 0
	for i := range 3 * blockRows {
		switch {
		case i%5000 == 17:
			fmt.Fprintf(&text, "2,%d\n", i)
			bad++
		case i == 9000:
			fmt.Fprintf(&text, "1,\"%d\n", i) // swallows nothing but its line
			bad++
		default:
			fmt.Fprintf(&text, "%d,%d\n", i%2, i)
		}
	}
	write(t, dir, "a.csv", text.String())
	write(t, dir, "b.csv", "label,f\nyes,1\n1,last\n")
	bad++
	d := job.Data{Root: dir, Format: "csv", Train: []string{"a.csv"}, Test: []string{"b.csv"}, Fields: fields("f"), MaxBadRecords: int64(bad)}
	var log bytes.Buffer
	s, err := Open(t.Context(), d, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	p, _ := s.Split("train")
	if p.Rows() != int64(3*blockRows-bad+1) || s.BadRecords() != int64(bad) {
		t.Errorf("%d rows and %d bad records, want %d and %d", p.Rows(), s.BadRecords(), 3*blockRows-bad+1, bad)
	}
	var b Batch
	if err := p.Read(t.Context(), &b, 16, 18); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(keys("f", "16", "18"), b.Keys); diff != "" {
		t.Error(diff)
	}
	if n := strings.Count(log.String(), "skip bad record"); n != faultSamples || !strings.Contains(log.String(), "a.csv:19:1") {
		t.Errorf("the log has %d bad records:\n%s", n, log.String())
	}
	d.MaxBadRecords--
	_, err = Open(t.Context(), d, quiet())
	if want := "b.csv:2:1: label is \"yes\", want 0 or 1 (more than data.max_bad_records = 6 bad records)"; err == nil || !strings.HasSuffix(err.Error(), want) {
		t.Errorf("one too many: %v, want %s", err, want)
	}
}

func TestChangedFileIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := write(t, dir, "a.csv", "label,f\n1,a\n0,b\n")
	s := open(t, job.Data{Root: dir, Format: "csv", Train: []string{"a.csv"}, Fields: fields("f")})
	p, _ := s.Split("train")
	info, _ := os.Stat(path)

	s.cache.drop()
	write(t, dir, "a.csv", "label,f\n1,a\n0,b\n1,c\n")
	if err := p.Read(t.Context(), new(Batch), 0, 1); !errors.Is(err, ErrChanged) || !strings.Contains(err.Error(), path) {
		t.Errorf("another size: %v", err)
	}
	write(t, dir, "a.csv", "label,f\n1,a\n0,x\n")
	os.Chtimes(path, info.ModTime(), info.ModTime())
	if err := p.Read(t.Context(), new(Batch), 0, 1); !errors.Is(err, ErrChanged) {
		t.Errorf("other contents of the same size and time: %v", err)
	}
	write(t, dir, "a.csv", "label,f\n1,a\n0,b\n")
	os.Chtimes(path, info.ModTime(), info.ModTime())
	if err := p.Read(t.Context(), new(Batch), 0, 2); err != nil {
		t.Errorf("the old contents: %v", err)
	}
}

func TestReadsOutOfRange(t *testing.T) {
	t.Parallel()
	s, err := openText(t, "label,f\n1,a\n", job.Data{Format: "csv", Fields: fields("f")})
	if err != nil {
		t.Fatal(err)
	}
	p, _ := s.Split("train")
	for _, r := range [][2]int64{{-1, 0}, {0, 2}, {1, 0}} {
		if err := p.Read(t.Context(), new(Batch), r[0], r[1]); !errors.Is(err, ErrRange) {
			t.Errorf("Read %v: %v", r, err)
		}
		if err := p.ReadEpoch(t.Context(), new(Batch), 1, 1, r[0], r[1]); !errors.Is(err, ErrRange) {
			t.Errorf("ReadEpoch %v: %v", r, err)
		}
	}
	b := Batch{N: 9}
	if err := p.ReadEpoch(t.Context(), &b, 1, 1, 1, 1); err != nil || b.N != 0 || len(b.Offsets) != 1 {
		t.Errorf("no rows: %v, %+v", err, b)
	}
}

func TestOpenStopsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Open(ctx, job.Data{Format: "synthetic", Synthetic: &job.Synthetic{TrainRows: 100}}, quiet())
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
}

func TestSparseFormats(t *testing.T) {
	t.Parallel()
	h := shard.NewHasher("u")
	s, err := openText(t, "1 0:7:1 1:a:0.5 1:b:1 5:9:1\n0 1:c:2\n", job.Data{Format: "libffm", Fields: []job.Field{
		{Name: "u", Column: "0"}, {Name: "1"}, {Name: "n", Column: "0", Type: "numeric"}}})
	if err != nil {
		t.Fatal(err)
	}
	b := all(t, s, "train")
	wantKeys := []shard.Key{h.String("7"), keys("1", "a")[0], keys("1", "b")[0], shard.NewHasher("n").Value(),
		h.Missing(), keys("1", "c")[0], shard.NewHasher("n").Missing()}
	if diff := cmp.Diff(wantKeys, b.Keys) + cmp.Diff([]float32{1, 0.25, 0.5, 1, 1, 2, 1}, b.Weights) + cmp.Diff([]int32{0, 1, 3, 4, 5, 6, 7}, b.Offsets); diff != "" {
		t.Error(diff)
	}

	s, err = openText(t, "1 1:1 3:0.5  12:2 # note\n0\n", job.Data{Format: "libsvm", Fields: []job.Field{
		{Name: "low", Column: "1-3", Pooling: "sum"}, {Name: "12"}, {Name: "all", Pooling: "sum"}}})
	if err != nil {
		t.Fatal(err)
	}
	b = all(t, s, "train")
	wantKeys = append(append(keys("low", "1", "3"), keys("12", "12")...), keys("all", "1", "3", "12")...)
	for _, f := range []string{"low", "12", "all"} {
		wantKeys = append(wantKeys, shard.NewHasher(f).Missing())
	}
	if diff := cmp.Diff(wantKeys, b.Keys) + cmp.Diff([]float32{1, 0.5, 2, 1, 0.5, 2, 1, 1, 1}, b.Weights); diff != "" {
		t.Error(diff)
	}
}
