package dataset

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/fathom-train/fathom/coordinator/job"
)

func TestWeightsAndGroupsComeWithTheSamples(t *testing.T) {
	s, err := openText(t, "label,user,w\n1,a,0.5\n0,b,2\n1,a,0\n", job.Data{Format: "csv", Fields: fields("user"), Weight: "w", Group: "user"})
	if err != nil {
		t.Fatal(err)
	}
	b := all(t, s, "train")
	if !slices.Equal(b.Samples, []float32{0.5, 2, 0}) {
		t.Errorf("weights %v", b.Samples)
	}
	if g := b.Groups; len(g) != 3 || g[0] != g[2] || g[0] == g[1] {
		t.Errorf("groups %v", g)
	}
	if b.Fields != 1 || len(b.Keys) != 3 {
		t.Errorf("%d fields, %d keys: the columns of weights and groups are no fields", b.Fields, len(b.Keys))
	}
	plain, err := openText(t, "label,user,w\n1,a,0.5\n0,b,2\n1,a,0\n", job.Data{Format: "csv", Fields: fields("user")})
	if err != nil {
		t.Fatal(err)
	}
	if b := all(t, plain, "train"); b.Samples != nil || b.Groups != nil || plain.Digest() == s.Digest() {
		t.Errorf("without columns: weights %v, groups %v, digest %s", b.Samples, b.Groups, plain.Digest())
	}
}

func TestWeightsAreStoredInAnyType(t *testing.T) {
	weights := func(fill func(b array.Builder)) arrow.Array {
		b := array.NewDictionaryBuilder(memory.DefaultAllocator, &arrow.DictionaryType{IndexType: arrow.PrimitiveTypes.Int8, ValueType: arrow.PrimitiveTypes.Float32})
		fill(b)
		return b.NewArray()
	}
	for name, w := range map[string]arrow.Array{
		"integers": func() arrow.Array {
			b := array.NewInt32Builder(memory.DefaultAllocator)
			b.AppendValues([]int32{3, 1, 3}, nil)
			return b.NewArray()
		}(),
		"dictionary": weights(func(b array.Builder) {
			d := b.(*array.Float32DictionaryBuilder)
			for _, v := range []float32{3, 1, 3} {
				if err := d.Append(v); err != nil {
					t.Fatal(err)
				}
			}
		}),
	} {
		labels := array.NewInt8Builder(memory.DefaultAllocator)
		labels.AppendValues([]int8{1, 0, 1}, nil)
		y := labels.NewArray()
		rec := array.NewRecord(arrow.NewSchema([]arrow.Field{{Name: "label", Type: y.DataType()}, {Name: "w", Type: w.DataType()}}, nil), []arrow.Array{y, w}, 3)
		path := filepath.Join(t.TempDir(), "train.arrow")
		writeArrow(t, path, false, []arrow.Record{rec})
		s := open(t, job.Data{Format: "arrow", Train: []string{path}, Fields: fields("w"), Weight: "w"})
		if b := all(t, s, "train"); !slices.Equal(b.Samples, []float32{3, 1, 3}) {
			t.Errorf("%s: weights %v", name, b.Samples)
		}
	}
}

func TestWeightsThatAreNoneAreBadRecords(t *testing.T) {
	for value, want := range map[string]string{"-1": "weight -1 is not in", "": "the weight is missing", "x": "not a finite number", "1e9": "weight 1e+09 is not in"} {
		_, err := openText(t, "label,user,w\n1,a,1\n1,a,"+value+"\n", job.Data{Format: "csv", Fields: fields("user"), Weight: "w"})
		var input *InputError
		if !errors.As(err, &input) || !strings.Contains(err.Error(), want) || input.Line != 3 {
			t.Errorf("weight %q: got %v, want %q in line 3", value, err, want)
		}
	}
}

func TestShareOfTheNegativesIsKept(t *testing.T) {
	const n = 30_000
	var text strings.Builder
	text.WriteString("label,id\n")
	for i := range n {
		fmt.Fprintf(&text, "%d,%d\n", i%3/2, i)
	}
	dir := t.TempDir()
	write(t, dir, "a.csv", text.String())
	d := job.Data{Format: "csv", Root: dir, Train: []string{"a.csv"}, Valid: []string{"a.csv"}, Fields: fields("id"), NegativeRate: 0.25}
	s := open(t, d)
	train, valid := all(t, s, "train"), all(t, s, "valid")
	var positives, negatives float64
	for _, y := range train.Labels {
		positives += float64(y)
		negatives += 1 - float64(y)
	}
	// Three standard deviations of the binomial distribution.
	if spread := 3 * math.Sqrt(20_000*0.25*0.75); positives != n/3 || math.Abs(negatives-5000) > spread {
		t.Errorf("%g positives and %g negatives, want %d and about 5000", positives, negatives, n/3)
	}
	if valid.N != n {
		t.Errorf("%d rows of validation, want all %d", valid.N, n)
	}
	// The same rows whoever opens the data, and when they are decoded again.
	d.CacheBytes = 1
	again := open(t, d)
	if b := all(t, again, "train"); !same(train, b) || again.Digest() != s.Digest() {
		t.Error("another set kept other rows")
	}
	split, _ := again.Split("train")
	var part Batch
	if err := split.ReadEpoch(context.Background(), &part, 1, 1, 0, split.Rows()); err != nil || part.N != train.N {
		t.Errorf("an epoch has %d rows, want %d: %v", part.N, train.N, err)
	}
}
