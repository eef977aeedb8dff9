package embedding

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/fathom-train/fathom/compute/model"
	"github.com/fathom-train/fathom/shard"
)

var columns = []model.Column{{Name: model.Linear, Width: 1}, {Name: model.Embedding, Width: 4}}

func fields(names ...string) []FieldName {
	var all []FieldName
	for _, n := range names {
		name, share, _ := strings.Cut(n, "=")
		all = append(all, FieldName{name, share})
	}
	return all
}

func mustNew(t *testing.T, s Spec, f []FieldName) *Plan {
	t.Helper()
	s = s.WithDefaults()
	var names []string
	for _, n := range f {
		names = append(names, n.Name)
	}
	if err := s.Validate(names); err != nil {
		t.Fatal(err)
	}
	p, err := New(s, columns, f)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestRowsThatStandInForOthersAreNotPlain(t *testing.T) {
	for _, oov := range []bool{false, true} {
		s := Spec{Tables: PerField, Fields: []Field{{Name: "a", OwnLinear: true, OOV: oov}}}.WithDefaults()
		p, err := New(s, []model.Column{{Name: model.Embedding, Width: 4}}, fields("a"))
		if err != nil {
			t.Fatal(err)
		}
		if p.Plain() == oov {
			t.Errorf("oov %v: plain is %v", oov, p.Plain())
		}
	}
}

// tables names the tables with their widths and bounds.
func tables(p *Plan) string {
	var all []string
	for _, t := range p.Tables {
		all = append(all, fmt.Sprintf("%s[%d]<%d %v", t.Name, t.Width, t.RowsMax, t.Fields))
	}
	return strings.Join(all, "; ")
}

func TestTablesOfAPlan(t *testing.T) {
	for _, c := range []struct {
		spec   Spec
		fields []FieldName
		want   string
		plain  bool
	}{
		{Spec{}, fields("a", "b=a", "c"), "rows[5]<0 [0 1 2]", true},
		{Spec{Tables: PerField}, fields("a", "b=a", "c"), "a[5]<0 [0 1]; c[5]<0 [2]", false},
		{Spec{Fields: []Field{{Name: "b", Width: 2}, {Name: "c", Width: 2}}}, fields("a", "b", "c"), "rows[5]<0 [0]; rows.2[3]<0 [1 2]", false},
		{Spec{Width: 1}, fields("a"), "rows.1[2]<0 [0]", false},
		{Spec{Tables: PerField, Fields: []Field{{Name: "a", Width: 2, OwnLinear: true}, {Name: "b", OwnLinear: true}, {Name: "c", Method: None}}},
			fields("a", "b", "c", "d=c"), "a.2[2]<0 [0]; a.linear[1]<0 [0]; b[4]<0 [1]; b.linear[1]<0 [1]; c.linear[1]<0 [2 3]", false},
		{Spec{Tables: PerField, Fields: []Field{{Name: "a", Method: Hash, Buckets: 7, OwnLinear: true}}}, fields("a"), "a[4]<7 [0]; a.linear[1]<0 [0]", false},
		{Spec{Fields: []Field{{Name: "a", Method: None}}}, fields("a", "b"), "linear[1]<0 [0]; rows[5]<0 [1]", false},
		{Spec{Method: Hash, Buckets: 10}, fields("a", "b=a", "c"), "hash[5]<20 [0 1 2]", false},
		{Spec{Method: QR, Buckets: 10, Remainders: 3}, fields("a", "c"), "qr_mult[5]<26 [0 1]", false},
		{Spec{Method: QR, Buckets: 10, Remainders: 3, Combine: Concat}, fields("a"), "qr_concat.2[3]<13 [0]", false},
		{Spec{Method: Unified, Buckets: 10, SharedTables: 2, ChunkWidth: 2}, fields("a", "b"), "unified0[3]<10 [0 1]; unified1[3]<10 [0 1]", false},
		{Spec{Method: Unified, Buckets: 10, SharedTables: 2, ChunkWidth: 2, Fields: []Field{{Name: "a", Chunks: 1}, {Name: "b", Chunks: 1}}},
			fields("a", "b"), "unified0[3]<10 [0]; unified1[3]<10 [1]", false},
	} {
		p := mustNew(t, c.spec, c.fields)
		if got := tables(p); got != c.want || p.Plain() != c.plain {
			t.Errorf("%+v: %s, plain %v; want %s", c.spec, got, p.Plain(), c.want)
		}
	}
}

// rowsOf returns the rows that a key of a field reads.
func rowsOf(p *Plan, field int, k shard.Key) (rows []string) {
	for _, part := range p.Fields[field] {
		rows = append(rows, fmt.Sprint(part.Table, part.Key.Row(k)))
	}
	return rows
}

func TestHashedRowsAreBoundedAndEven(t *testing.T) {
	p := mustNew(t, Spec{Method: Hash, Buckets: 50}, fields("a", "b"))
	for f := range 2 {
		seen := map[string]int{}
		for v := range int64(20000) {
			seen[rowsOf(p, f, shard.NewHasher("x").Int(v))[0]]++
		}
		if len(seen) != 50 {
			t.Errorf("field %d: %d rows, want 50", f, len(seen))
		}
		for row, n := range seen {
			if n < 300 || n > 500 { // 400 +- 5 standard deviations
				t.Errorf("field %d: row %s has %d of 20000 values", f, row, n)
			}
			if f == 1 && slices.Contains(rowsOf(p, 0, 0), row) {
				t.Errorf("row %s belongs to both fields", row)
			}
		}
	}
}

func TestQuotientAndRemainderTellValuesApart(t *testing.T) {
	p := mustNew(t, Spec{Method: QR, Buckets: 1 << 16, Remainders: 1 << 16}, fields("a"))
	seen := map[string]bool{}
	for v := range int64(5000) {
		seen[fmt.Sprint(rowsOf(p, 0, shard.NewHasher("a").Int(v)))] = true
	}
	if len(seen) < 4995 { // of 2^32 pairs; three collisions would be rare
		t.Errorf("%d different pairs for 5000 values", len(seen))
	}
	small := mustNew(t, Spec{Method: QR, Buckets: 8, Remainders: 5}, fields("a"))
	rows := map[string]bool{}
	for v := range int64(5000) {
		for _, r := range rowsOf(small, 0, shard.NewHasher("a").Int(v)) {
			rows[r] = true
		}
	}
	if len(rows) != 8+5 {
		t.Errorf("%d rows, want 13", len(rows))
	}
}

// The chunks of all fields go to the tables in turn, and every chunk of every
// field has a hash of its own.
func TestUnifiedChunks(t *testing.T) {
	p := mustNew(t, Spec{Method: Unified, Buckets: 1000, SharedTables: 3, ChunkWidth: 1}, fields("a", "b=a", "c"))
	var order []int
	for _, f := range []int{0, 2} {
		for _, part := range p.Fields[f] {
			order = append(order, part.Table)
		}
	}
	if want := []int{0, 1, 2, 0, 1, 2, 0, 1}; !slices.Equal(order, want) {
		t.Errorf("chunks go to tables %v, want %v", order, want)
	}
	k := shard.NewHasher("x").Int(1)
	if !slices.Equal(rowsOf(p, 0, k), rowsOf(p, 1, k)) {
		t.Error("a field that shares rows reads others")
	}
	// Chunks 0 and 3 of a, and chunk 2 of c, are in table 0.
	same := 0
	for v := range int64(2000) {
		k := shard.NewHasher("x").Int(v)
		a, c := rowsOf(p, 0, k), rowsOf(p, 2, k)
		if a[0] == a[3] || a[0] == c[2] || a[3] == c[2] {
			same++
		}
	}
	if same > 25 { // 6 expected of three pairs in 1000 buckets
		t.Errorf("%d of 2000 values have two chunks in one bucket", same)
	}
}

// random samples with fields of one, several and weighted values.
func randomSamples(r *rand.Rand, n, fields int) Samples {
	s := Samples{N: n, Offsets: []int32{0}}
	for range n * fields {
		for range 1 + r.IntN(2)*r.IntN(3) {
			s.Keys = append(s.Keys, shard.Key(r.IntN(9))*golden)
			s.Weights = append(s.Weights, []float32{1, 0.5, -2}[r.IntN(3)])
		}
		s.Offsets = append(s.Offsets, int32(len(s.Keys)))
	}
	return s
}

// A loss that is linear in the columns must have in the rows the gradient that
// differences of it show.
func TestScatterIsTheGradientOfGather(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	f := fields("a", "b=a", "c", "d", "e", "f", "g", "h", "i")
	p := mustNew(t, Spec{Tables: PerField, Buckets: 3, Remainders: 2, SharedTables: 2, ChunkWidth: 2, Fields: []Field{
		{Name: "h", Width: 2, Dims: []int{1, 3}, OwnLinear: true}, {Name: "i", Method: None},
		{Name: "c", Width: 2}, {Name: "d", Method: Hash}, {Name: "e", Method: QR}, {Name: "f", Method: QR, Combine: Concat}, {Name: "g", Method: Unified},
	}}, f)
	s := randomSamples(r, 5, len(f))
	keys := p.Keys(nil, s)
	rows := make([]TableRows, len(p.Tables))
	for i := range rows {
		place := map[shard.Key]int32{}
		for _, k := range keys[i] {
			if _, ok := place[k]; !ok {
				place[k] = int32(len(place))
			}
			rows[i].Index = append(rows[i].Index, place[k])
		}
		for range len(place) * p.Tables[i].Width {
			rows[i].Values = append(rows[i].Values, float32(r.NormFloat64()))
		}
		rows[i].Grads = make([]float32, len(rows[i].Values))
	}
	in, g := make([][]float32, 2), make([][]float32, 2)
	for c, col := range columns {
		in[c], g[c] = make([]float32, s.N*len(f)*col.Width), make([]float32, s.N*len(f)*col.Width)
		for i := range g[c] {
			g[c][i] = float32(r.NormFloat64())
		}
	}
	loss := func() (sum float64) {
		p.Gather(in, s, rows)
		for c := range in {
			for i, v := range in[c] {
				sum += float64(v) * float64(g[c][i])
			}
		}
		return sum
	}
	p.Scatter(rows, s, g)
	for i := range rows {
		for j := range rows[i].Values {
			v := rows[i].Values[j]
			const h = 0.25 // products of two rows are bilinear: no error but of rounding
			rows[i].Values[j] = v + h
			up := loss()
			rows[i].Values[j] = v - h
			down := loss()
			rows[i].Values[j] = v
			if want := (up - down) / (2 * h); math.Abs(want-float64(rows[i].Grads[j])) > 1e-4*(1+math.Abs(want)) {
				t.Errorf("table %s value %d: gradient %v, differences say %v", p.Tables[i].Name, j, rows[i].Grads[j], want)
			}
		}
	}
}

func TestNarrowFieldsArePaddedWithZeros(t *testing.T) {
	p := mustNew(t, Spec{Fields: []Field{{Name: "b", Width: 2}}}, fields("a", "b"))
	s := Samples{N: 1, Keys: []shard.Key{7, 8}, Weights: []float32{1, 1}, Offsets: []int32{0, 1, 2}}
	in := [][]float32{make([]float32, 2), make([]float32, 8)}
	p.Gather(in, s, []TableRows{
		{Values: []float32{1, 2, 3, 4, 5}, Index: []int32{0}}, {Values: []float32{6, 7, 8}, Index: []int32{0}},
	})
	if !slices.Equal(in[0], []float32{1, 6}) || !slices.Equal(in[1], []float32{2, 3, 4, 5, 7, 8, 0, 0}) {
		t.Errorf("columns %v", in)
	}
}

// A row of two tables reads like one of both parts; a field without an embedding
// has its first-order weight, if the model has such, or nothing.
func TestFirstOrderWeightsOfTheirOwn(t *testing.T) {
	spec := Spec{Tables: PerField, Fields: []Field{{Name: "a", Width: 2, OwnLinear: true}, {Name: "b", Method: None}}}
	p := mustNew(t, spec, fields("a", "b"))
	s := Samples{N: 1, Keys: []shard.Key{7, 8}, Weights: []float32{1, 2}, Offsets: []int32{0, 1, 2}}
	in := [][]float32{make([]float32, 2), make([]float32, 8)}
	p.Gather(in, s, []TableRows{
		{Values: []float32{2, 3}, Index: []int32{0}}, {Values: []float32{1}, Index: []int32{0}}, {Values: []float32{6}, Index: []int32{0}},
	})
	if !slices.Equal(in[0], []float32{1, 12}) || !slices.Equal(in[1], []float32{2, 3, 0, 0, 0, 0, 0, 0}) {
		t.Errorf("columns %v", in)
	}
	p, err := New(spec.WithDefaults(), columns[1:], fields("a", "b"))
	if err != nil {
		t.Fatal(err)
	}
	if got := tables(p); got != "a.2[2]<0 [0]" {
		t.Errorf("without first-order weights: %s", got)
	}
	p.Gather(in[1:], s, []TableRows{{Values: []float32{4, 5}, Index: []int32{0}}})
	if !slices.Equal(in[1], []float32{4, 5, 0, 0, 0, 0, 0, 0}) {
		t.Errorf("without first-order weights: column %v", in[1])
	}
}

// The values of a field of single dimensions go to these, and the name of its table
// tells them.
func TestSingleDimensions(t *testing.T) {
	p := mustNew(t, Spec{Tables: PerField, Fields: []Field{{Name: "a", Width: 2, Dims: []int{1, 3}}}}, fields("a", "b"))
	s := Samples{N: 1, Keys: []shard.Key{7, 8}, Weights: []float32{2, 1}, Offsets: []int32{0, 1, 2}}
	in := [][]float32{make([]float32, 2), make([]float32, 8)}
	p.Gather(in, s, []TableRows{{Values: []float32{1, 2, 3}, Index: []int32{0}}, {Values: []float32{4, 5, 6, 7, 8}, Index: []int32{0}}})
	if !slices.Equal(in[0], []float32{2, 4}) || !slices.Equal(in[1], []float32{0, 4, 0, 6, 5, 6, 7, 8}) {
		t.Errorf("columns %v", in)
	}
	if got := tables(p); got != "a.dims1-3[3]<0 [0]; b[5]<0 [1]" {
		t.Errorf("tables %s", got)
	}
	if d, ok := DimsOf("a", "a.dims1-3"); !ok || !slices.Equal(d, []int{1, 3}) {
		t.Errorf("dims %v, %v", d, ok)
	}
	for _, other := range []string{"a", "a.3", "b.dims1-3", "a.dims", "a.dimsx"} {
		if d, ok := DimsOf("a", other); ok {
			t.Errorf("table %s has dims %v", other, d)
		}
	}
}

func TestFaultsOfASpec(t *testing.T) {
	for want, s := range map[string]Spec{
		`tables: "one"`:                     {Tables: "one"},
		`method: "magic"`:                   {Method: "magic"},
		`fields[0]: name: there is no`:      {Fields: []Field{{Name: "z"}}},
		`fields[1]: name: field "a" twice`:  {Fields: []Field{{Name: "a"}, {Name: "a"}}},
		`buckets: is required by method h`:  {Method: Hash},
		`remainders: is required`:           {Method: QR, Buckets: 3},
		`buckets: is required by method u`:  {Method: Unified},
		`shared_tables: shared_tables and`:  {SharedTables: 2},
		`fields[0]: chunks: is a setting`:   {Fields: []Field{{Name: "a", Chunks: 2}}},
		`fields[0]: method: remainders`:     {Fields: []Field{{Name: "a", Remainders: 2}}},
		`fields[0]: buckets: is no`:         {Fields: []Field{{Name: "a", Buckets: 2}}},
		`fields[0]: method: field a has no`: {Fields: []Field{{Name: "a", Method: None, Width: 2}}},
		`method: "none"`:                    {Method: None},
		`fields[0]: own_linear: is a set`:   {Fields: []Field{{Name: "a", OwnLinear: true}}},
		`fields[0]: own_linear: is a`:       {Tables: PerField, Method: QR, Buckets: 2, Remainders: 2, Fields: []Field{{Name: "a", OwnLinear: true}}},
		`fields[0]: oov: is a setting`:      {Tables: PerField, Fields: []Field{{Name: "a", OOV: true}}},
		`fields[0]: dims: is a setting of`:  {Fields: []Field{{Name: "a", Width: 2, Dims: []int{1}}}},
		`fields[0]: dims: [2 1] do not as`:  {Fields: []Field{{Name: "a", Width: 2, Dims: []int{2, 1}}}},
		`fields[0]: method: the tables of`:  {Method: Unified, Buckets: 1, Fields: []Field{{Name: "a", Width: 2}}},
	} {
		err := s.WithDefaults().Validate([]string{"a", "b"})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want a word of %q", s, err, want)
		}
	}
	for want, s := range map[string]Spec{
		"width: 9 of field a":            {Width: 9},
		"dims: 4 of field a":             {Fields: []Field{{Name: "a", Width: 2, Dims: []int{0, 4}}}},
		"chunks: 3 chunks of width 2":    {Method: Unified, Buckets: 4, ChunkWidth: 2, Fields: []Field{{Name: "a", Chunks: 3}}},
		"combine: concat needs":          {Method: QR, Buckets: 2, Remainders: 2, Combine: Concat, Width: 1},
		"chunks: 0 chunks of width 8":    {Method: Unified, Buckets: 4},
		"buckets: 1099511627776 buckets": {Method: QR, Buckets: BucketsMax, Remainders: BucketsMax},
	} {
		if _, err := New(s.WithDefaults(), columns, fields("a", "b")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want a word of %q", s, err, want)
		}
	}
}

func TestCodesAreTheBytesOfTheKeys(t *testing.T) {
	s := Samples{N: 1, Keys: []shard.Key{0x80_7f_00_ff_01_02_03_40, 1, 2}, Weights: []float32{1, 0.5, 0.25}, Offsets: []int32{0, 1, 3}}
	got := make([]float32, 2*Codes)
	got[15] = 7 // overwritten
	s.Codes(got)
	want := []float32{64, 3, 2, 1, -1, 0, 127, -128, 0.5*1 + 0.25*2, 0, 0, 0, 0, 0, 0, 0}
	for i := range want {
		if got[i] != want[i]/128 {
			t.Errorf("code %d is %v, want %v", i, got[i], want[i]/128)
		}
	}
}
