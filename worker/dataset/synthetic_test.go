package dataset

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fathom-train/fathom/compute/eval"
	"github.com/fathom-train/fathom/compute/random"
	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/fathom-train/fathom/shard"
	"github.com/google/go-cmp/cmp"
)

func synthetic(train, test int64) job.Data {
	return job.Data{Format: "synthetic", Synthetic: &job.Synthetic{TrainRows: train, TestRows: test, Seed: 1}}
}

// TestSyntheticIsTheSameEverywhere: generated data is part of the format; this
// digest must not change with the platform or the version.
func TestSyntheticIsTheSameEverywhere(t *testing.T) {
	t.Parallel()
	s := open(t, synthetic(20000, 5000))
	const want = "c85ed72c60617408865ce3e959eafc8c"
	if got := s.Digest(); got != want {
		t.Errorf("digest %s, want %s", got, want)
	}
	if p, _ := s.Split("train"); p.Rows() != 20000 || s.Fields() != 39 {
		t.Errorf("%d rows of %d fields", p.Rows(), s.Fields())
	}
}

func TestTeacherIsWithinItsTargets(t *testing.T) {
	t.Parallel()
	for _, c := range []job.Synthetic{
		{Seed: 1}, {Seed: 2, Vocabulary: 1000, TeacherDim: 4},
		{Seed: 3, Numeric: 2, Categorical: 6, Zipf: 1.3}, {Seed: 4, Categorical: 10, TeacherDim: 16},
	} {
		c.TrainRows, c.TestRows = 10000, 20000
		s := open(t, job.Data{Format: "synthetic", Synthetic: &c})
		auc, ok := s.TeacherAUC()
		p, _ := s.Split("test")
		n, _ := p.Positives()
		share := float64(n) / float64(p.Rows())
		if !ok || auc < 0.79 || auc > 0.86 || share < 0.25 || share > 0.31 {
			t.Errorf("seed %d: AUC %.4f, %v, positives %.3f", c.Seed, auc, ok, share)
		}
		widths := make(map[int]int)
		for _, w := range s.PlantedWidths() {
			widths[w.Width]++
		}
		if widths[0] == 0 || widths[c.TeacherDim] == 0 && c.TeacherDim > 0 || len(widths) < 3 {
			t.Errorf("seed %d: planted widths %v", c.Seed, widths)
		}
	}
}

// TestTeacherCanBeLearned: one pass of plain logistic regression over 60,000
// rows gets two thirds of the way to the teacher. (A factorization machine gets
// 0.91 of the way with 500,000 rows, 0.89 with 300,000.)
func TestTeacherCanBeLearned(t *testing.T) {
	t.Parallel()
	s := open(t, synthetic(60000, 20000))
	best, _ := s.TeacherAUC()
	type weight struct{ w, squares float64 }
	model := make(map[shard.Key]*weight)
	var b Batch
	score := func(i int) (z float64, rows []*weight) {
		for _, k := range b.Keys[i*b.Fields : (i+1)*b.Fields] {
			r := model[k]
			if r == nil {
				r = new(weight)
				model[k] = r
			}
			z += r.w
			rows = append(rows, r)
		}
		return 1 / (1 + math.Exp(-z)), rows
	}
	train, _ := s.Split("train")
	if err := train.ReadEpoch(t.Context(), &b, 1, 1, 0, train.Rows()); err != nil {
		t.Fatal(err)
	}
	for i := range b.N {
		z, rows := score(i)
		g := z - float64(b.Labels[i])
		for _, r := range rows {
			r.squares += g * g
			r.w -= 0.05 * g / math.Sqrt(r.squares+0.1)
		}
	}
	test, _ := s.Split("test")
	if err := test.Read(t.Context(), &b, 0, test.Rows()); err != nil {
		t.Fatal(err)
	}
	scores := make([]float32, b.N)
	for i := range scores {
		p, _ := score(i)
		scores[i] = float32(p)
	}
	acc := new(eval.Accumulator)
	acc.Add(scores, b.Labels, nil)
	got := eval.Merge([]*eval.Accumulator{acc}).AUC
	if share := (got - 0.5) / (best - 0.5); share < 0.66 || share > 1 {
		t.Errorf("AUC %.4f of %.4f: %.2f of the way", got, best, share)
	}
}

func TestWrittenSyntheticDataIsTheGenerated(t *testing.T) {
	t.Parallel()
	syn := job.Synthetic{TrainRows: 2*blockRows + 100, ValidRows: 10, TestRows: 500, Numeric: 3, Categorical: 5, Vocabulary: 1000, Seed: 9}
	want := open(t, job.Data{Format: "synthetic", Synthetic: &syn, ShuffleWindowRows: blockRows})
	p, _ := want.Split("train")
	var wantEpoch Batch
	if err := p.ReadEpoch(t.Context(), &wantEpoch, 1, 2, 0, p.Rows()); err != nil {
		t.Fatal(err)
	}
	for _, format := range []string{"csv", "parquet", "arrow"} {
		dir := filepath.Join(t.TempDir(), "new")
		if err := WriteSynthetic(t.Context(), dir, syn, format); err != nil {
			t.Fatal(err)
		}
		if err := WriteSynthetic(t.Context(), dir, syn, format); err == nil {
			t.Error("files were overwritten")
		}
		yaml, err := os.ReadFile(filepath.Join(dir, "data.yaml"))
		if err != nil || !strings.Contains(string(yaml), "train: [train."+format+"]") || !strings.Contains(string(yaml), "{name: i1, type: numeric, transform: bucket}") {
			t.Errorf("data.yaml: %v\n%s", err, yaml)
		}
		got := open(t, job.Data{Root: dir, Format: format, Train: []string{"train." + format}, Valid: []string{"valid." + format},
			Test: []string{"test." + format}, Fields: SyntheticFields(syn), ShuffleWindowRows: blockRows})
		var epoch Batch
		q, _ := got.Split("train")
		if err := q.ReadEpoch(t.Context(), &epoch, 1, 2, 0, q.Rows()); err != nil {
			t.Fatal(err)
		}
		if got.Digest() != want.Digest() || !same(&epoch, &wantEpoch) || !same(all(t, got, "test"), all(t, want, "test")) {
			t.Errorf("%s: other data than generated", format)
		}
		if got.PlantedWidths() != nil {
			t.Error("files have planted widths")
		}
		if _, ok := got.TeacherAUC(); ok {
			t.Error("files have a teacher")
		}
	}
	if err := WriteSynthetic(t.Context(), t.TempDir(), syn, "xml"); err == nil {
		t.Error("format xml was accepted")
	}
}

func TestSyntheticRefusesWhatItCannotDo(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*job.Synthetic){
		"train_rows is 0":        func(s *job.Synthetic) { s.TrainRows = 0 },
		"valid_rows is -1":       func(s *job.Synthetic) { s.ValidRows = -1 },
		"test_rows is -1":        func(s *job.Synthetic) { s.TestRows = -1 },
		"numeric is -1":          func(s *job.Synthetic) { s.Numeric = -1 },
		"categorical is 1000000": func(s *job.Synthetic) { s.Categorical = 1000000 },
		"vocabulary is 3":        func(s *job.Synthetic) { s.Vocabulary = 3 },
		"zipf is NaN":            func(s *job.Synthetic) { s.Zipf = math.NaN() },
		"teacher_dim is -4":      func(s *job.Synthetic) { s.TeacherDim = -4 },
	} {
		s := job.Synthetic{TrainRows: 10}
		change(&s)
		if _, err := Open(t.Context(), job.Data{Format: "synthetic", Synthetic: &s}, quiet()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error is %v, want %s", err, want)
		}
	}
	if _, err := Open(t.Context(), job.Data{Format: "synthetic", Fields: fields("c1")}, quiet()); err == nil || !strings.Contains(err.Error(), "data.synthetic is missing") {
		t.Errorf("no synthetic: %v", err)
	}
	d := synthetic(10, 0)
	d.Fields = fields("c99")
	if _, err := Open(t.Context(), d, quiet()); err == nil || !strings.Contains(err.Error(), `no generated column "c99", did you mean "c9"?`) {
		t.Errorf("unknown column: %v", err)
	}
}

// TestAliasDrawsTheWeights: the shares of ids are those of their weights.
func TestAliasDrawsTheWeights(t *testing.T) {
	t.Parallel()
	weights := zipfWeights(50, 1.2)
	a := newAlias(weights)
	var total uint64
	for k, w := range weights {
		if exact := weightUnit * math.Pow(float64(k+1), -1.2); math.Abs(float64(w)-exact) > 1 {
			t.Errorf("weight %d is %d, want %.2f", k, w, exact)
		}
		total += w
	}
	counts := make([]float64, len(weights))
	const n = 200_000
	for i := range uint64(n) {
		counts[a.draw(random.Word(1, i))]++
	}
	for k, w := range weights {
		want := n * float64(w) / float64(total)
		if math.Abs(counts[k]-want) > 5*math.Sqrt(want) {
			t.Errorf("id %d was drawn %.0f times, want about %.0f", k, counts[k], want)
		}
	}
}

func TestInspect(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	rows := tableRows(1000)
	write(t, dir, "t.csv", "label,x,words\n1,3,a|b\n0,,a\n1,-1,\n0,5,a\nbad,,\n")
	d := job.Data{Root: dir, Format: "csv", Train: []string{"t.csv"}, MaxBadRecords: 1,
		Fields: []job.Field{{Name: "x", Type: "numeric"}, {Name: "bucket", Column: "x", Type: "numeric", Transform: "bucket"}, {Name: "words", Separator: "|"}}}
	rep, err := Inspect(t.Context(), d, quiet())
	if err != nil {
		t.Fatal(err)
	}
	lo, hi, mean := -1.0, 5.0, 7.0/3
	want := &Report{Format: "csv", Digest: rep.Digest, BadRecords: 1, Splits: []SplitReport{{"train", 4, 2}}, Fields: []FieldReport{
		{Name: "x", Column: "x", Type: "numeric", Stored: "binary", Distinct: 2, DistinctExact: true, Missing: 0.25, ValuesPerRow: 1,
			Top: []ValueCount{{"(the value)", 3}, {"(missing)", 1}}, Min: &lo, Max: &hi, Mean: &mean},
		{Name: "bucket", Column: "x", Type: "numeric (bucket)", Stored: "binary", Distinct: 4, DistinctExact: true, Missing: 0.25, ValuesPerRow: 1,
			Top: []ValueCount{{"(missing)", 1}, {"-1", 1}, {"1", 1}, {"2", 1}}, Min: &lo, Max: &hi, Mean: &mean},
		{Name: "words", Column: "words", Type: "categorical", Stored: "binary", Distinct: 3, DistinctExact: true, Missing: 0.25, ValuesPerRow: 4.0 / 3,
			Top: []ValueCount{{"a", 3}, {"(missing)", 1}, {"b", 1}}},
	}}
	if diff := cmp.Diff(want, rep); diff != "" {
		t.Error(diff)
	}

	rec := tableRecord(rows)
	write(t, dir, "u.csv", tableText(rows, ','))
	writeArrow(t, filepath.Join(dir, "u.arrow"), false, cut(rec, 300))
	writeParquet(t, filepath.Join(dir, "u.parquet"), cut(rec, 300))
	for format, first := range map[string]string{"csv": "tags", "arrow": "unused", "parquet": "unused"} {
		rep, err := Inspect(t.Context(), job.Data{Root: dir, Format: format, Train: []string{"u." + format}}, quiet())
		if err != nil {
			t.Fatal(err)
		}
		if len(rep.Suggested) < 5 || rep.Suggested[0].Name != first || rep.Splits[0].Rows != 1000 {
			t.Errorf("%s: %+v", format, rep)
		}
		for _, f := range rep.Fields {
			if f.Name == "flag" && (f.Distinct != 2 || f.Top[0].Value != "false") || f.Name == "id" && f.Distinct < 400 {
				t.Errorf("%s: %+v", format, f)
			}
		}
	}
	write(t, dir, "t.svm", "1 5:2 7:1\n0 5:1\n")
	rep, err = Inspect(t.Context(), job.Data{Root: dir, Format: "libsvm", Train: []string{"t.svm"}}, quiet())
	if err != nil || rep.Fields[0].Top[0] != (ValueCount{"5", 2}) {
		t.Errorf("libsvm: %v %+v", err, rep)
	}
	if _, err := Inspect(t.Context(), job.Data{Root: dir, Format: "libffm", Train: []string{"t.svm"}}, quiet()); err == nil {
		t.Error("libffm without fields was accepted")
	}
}

func TestInspectIsBounded(t *testing.T) {
	t.Parallel()
	var text bytes.Buffer
	text.WriteString("label,f\n")
	const n = 150_000
	for i := range n {
		text.WriteString("1,")
		if i%10 == 0 {
			text.WriteString("often\n")
		} else {
			text.WriteString(strings.ToUpper(string(appendFloatText(nil, float64(i), 64))) + "\n")
		}
	}
	dir := t.TempDir()
	write(t, dir, "t.csv", text.String())
	rep, err := Inspect(t.Context(), job.Data{Root: dir, Format: "csv", Train: []string{"t.csv"}}, quiet())
	if err != nil {
		t.Fatal(err)
	}
	f := rep.Fields[0]
	if f.DistinctExact || math.Abs(float64(f.Distinct)/(0.9*n+1)-1) > 0.03 || f.Top[0] != (ValueCount{"often", n / 10}) {
		t.Errorf("%+v", f)
	}
	syn, err := Inspect(t.Context(), synthetic(100, 100), quiet())
	if err != nil || syn.TeacherAUC == 0 || *syn.Fields[0].PlantedWidth != 0 && *syn.Fields[0].PlantedWidth > 8 {
		t.Errorf("synthetic: %v", err)
	}
}
