package trainer_test

import (
	"bytes"
	"context"
	"math"
	"slices"
	"testing"

	"github.com/fathom-train/fathom/compute/eval"
	"github.com/fathom-train/fathom/compute/supernet"
	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/fathom-train/fathom/coordinator/search"
	"github.com/fathom-train/fathom/worker/dataset"
)

const supernetJob = `spec.search={pruning: {learning_rate: 0.1, weight: 0.01}}`

func TestSupernetIsTheSameForAnyNumberOfWorkersAndShards(t *testing.T) {
	want := ""
	for _, c := range []struct {
		shards int
		lanes  [][]int
	}{
		{1, [][]int{{0, 1, 2, 3}}},
		{3, [][]int{{3}, {1, 2}, {0}}},
	} {
		cl := newCluster(t, parse(t, supernetJob), c.shards)
		cl.trainAll(t, c.lanes, cl.steps())
		if got := cl.hash(); want == "" {
			want = got
		} else if got != want {
			t.Errorf("%d shards, lanes %v: model hash %s, want %s", c.shards, c.lanes, got, want)
		}
	}
	for _, sets := range [][]string{{`spec.search={}`}, {`spec.search={sampling: none}`}, {`spec.search={sampling: batch}`}, {`spec.search={full_width: 0.9}`}} {
		cl := newCluster(t, parse(t, sets...), 1)
		cl.trainAll(t, [][]int{{0, 1, 2, 3}}, cl.steps())
		if cl.hash() == want {
			t.Errorf("%v trains the same model", sets)
		}
	}
}

// Without masks a supernet is the model itself.
func TestSupernetWithoutMasksIsThePlainModel(t *testing.T) {
	plain := newCluster(t, parse(t, "spec.embedding.tables=per_field"), 1)
	bare := newCluster(t, parse(t, "spec.search={sampling: none}"), 1)
	for _, c := range []*cluster{plain, bare} {
		c.trainAll(t, [][]int{{0, 1, 2, 3}}, c.steps())
	}
	if plain.hash() != bare.hash() {
		t.Error("the models differ")
	}
}

func TestCandidatesAreScoredAsPrefixesOfTheSupernet(t *testing.T) {
	cl := newCluster(t, parse(t, supernetJob), 2)
	cl.trainAll(t, [][]int{{0, 1, 2, 3}}, cl.steps())
	tr := cl.trainer(t)
	split, _ := cl.data.Split("valid")
	full, none := search.NewCandidate([]int{4, 4, 4, 4, 4, 4}), search.NewCandidate([]int{1, 2, 3, 4, 1, 1})
	order := search.Order{Candidates: []search.Candidate{none, full, none}, Share: 1}
	all, err := tr.EvaluateCandidates(context.Background(), "valid", cl.steps(), 0, split.Rows(), order)
	if err != nil {
		t.Fatal(err)
	}
	whole, err := tr.Evaluate(context.Background(), "valid", cl.steps(), 0, split.Rows())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(all[1].Append(nil), whole.Append(nil)) {
		t.Error("the candidate of the full widths is not the supernet")
	}
	if !bytes.Equal(all[0].Append(nil), all[2].Append(nil)) || bytes.Equal(all[0].Append(nil), whole.Append(nil)) {
		t.Error("equal candidates differ, or different ones do not")
	}
	if _, err := tr.EvaluateCandidates(context.Background(), "valid", cl.steps(), 0, 10, search.Order{Candidates: []search.Candidate{search.NewCandidate([]int{1})}, Share: 1}); err == nil {
		t.Error("a candidate of one width for six tables was scored")
	}
	if _, err := newCluster(t, parse(t), 1).trainer(t).EvaluateCandidates(context.Background(), "valid", 0, 0, 10, search.Order{Share: 1}); err == nil {
		t.Error("a job without a search scored candidates")
	}
}

// Rows that a candidate drops read as zeros; they are those that the survey counts.
func TestCandidatesAreScoredWithoutTheirDroppedRows(t *testing.T) {
	ctx := context.Background()
	cl := newCluster(t, parse(t, `spec.search={rows: [0.3, 0.6, 1], widths: [0, 2, 4]}`), 1)
	cl.trainAll(t, [][]int{{0, 1, 2, 3}}, cl.steps())
	tr := cl.trainer(t)
	survey, err := tr.Survey(ctx, cl.steps(), 0)
	if err != nil {
		t.Fatal(err)
	}
	space, err := survey.Space([]string{"a", "b", "c", "d", "e", "f"}, []int{0, 2, 4}, []float64{0.3, 0.6, 1})
	if err != nil {
		t.Fatal(err)
	}
	for i, of := range survey.Tables {
		n := int64(0)
		for _, c := range of.Classes {
			n += c
		}
		if n != of.Kept || n == 0 {
			t.Errorf("table %d: norms of %d rows, %d are kept", i, n, of.Kept)
		}
		// The last column of a row is how often its value occurred, and with the label 1.
		_, w, _, err := cl.states[0].Scan(run, cl.steps(), uint16(i), 0, int(of.Rows))
		if err != nil {
			t.Fatal(err)
		}
		train, _ := cl.data.Split("train")
		uses, ones, width := 0.0, 0.0, len(w)/int(of.Rows)
		for u := width - 1; u < len(w); u += width {
			uses += float64(w[u-1]) / supernet.UsesUnit
			ones += float64(w[u]) / supernet.UsesUnit
		}
		epochs := float64(cl.job.Spec.Train.Epochs)
		if want := float64(train.Rows()) * epochs; width != 1+4+2 || uses != want {
			t.Errorf("table %d has rows of %d weights, used %v times, want %v", i, width, uses, want)
		}
		var b dataset.Batch
		if err := train.Read(ctx, &b, 0, train.Rows()); err != nil {
			t.Fatal(err)
		}
		want := 0.0
		for _, y := range b.Labels {
			want += float64(y) * epochs
		}
		if ones != want {
			t.Errorf("table %d counts the label 1 %v times, want %v", i, ones, want)
		}
	}
	split, _ := cl.data.Split("valid")
	none := search.NewCandidate(make([]int, 6))
	o := space.Order([]search.Candidate{space.Largest(), space.Smallest(), space.Largest()}, 1)
	o.Candidates[1] = o.Candidates[0] // full widths, the fewest rows
	all := []float32{9, 9, 9, 9, 9, 9}
	o.Candidates, o.Above = append(o.Candidates, o.Candidates[0], none), append(o.Above, all, o.Above[0])
	got, err := tr.EvaluateCandidates(ctx, "valid", cl.steps(), 0, split.Rows(), o)
	if err != nil {
		t.Fatal(err)
	}
	whole, err := tr.Evaluate(ctx, "valid", cl.steps(), 0, split.Rows())
	if err != nil {
		t.Fatal(err)
	}
	text := func(a *eval.Accumulator) string { return string(a.Append(nil)) }
	if text(got[0]) != text(whole) || text(got[2]) != text(whole) {
		t.Error("the candidate of all rows is not the supernet")
	}
	if text(got[1]) == text(whole) || text(got[1]) == text(got[3]) {
		t.Error("dropping some rows changes nothing, or drops all")
	}
	if text(got[3]) != text(got[4]) {
		t.Error("without any rows the model is not that of width 0")
	}
	for _, bad := range []search.Order{{Candidates: o.Candidates, Above: o.Above[:1], Share: 1}, {Candidates: o.Candidates[:1], Above: [][]float32{{1}}, Share: 1}} {
		if _, err := tr.EvaluateCandidates(ctx, "valid", cl.steps(), 0, 10, bad); err == nil {
			t.Error("rows of another number of candidates or tables were taken")
		}
	}
}

// A learned vector in the place of pruned rows makes another model, the same for any
// shards, and its row is always kept.
func TestPrunedRowsMayReadALearnedVector(t *testing.T) {
	hash := func(shards int, lanes [][]int, oov string) (string, *cluster) {
		cl := newCluster(t, parse(t, "spec.search={pruning: {learning_rate: 0.1, weight: 0.01}, rows: [0.5, 1]"+oov+"}"), shards)
		cl.trainAll(t, lanes, cl.steps())
		return cl.hash(), cl
	}
	zero, plain := hash(1, [][]int{{0, 1, 2, 3}}, "")
	want, cl := hash(1, [][]int{{0, 1, 2, 3}}, ", oov: true")
	if other, _ := hash(3, [][]int{{3}, {1, 2}, {0}}, ", oov: true"); other != want || zero == want {
		t.Errorf("model %s on one shard, %s on three, %s with zeros", want, other, zero)
	}
	survey, err := cl.trainer(t).Survey(context.Background(), cl.steps(), 0)
	if err != nil {
		t.Fatal(err)
	}
	before, err := plain.trainer(t).Survey(context.Background(), plain.steps(), 0)
	if err != nil {
		t.Fatal(err)
	}
	for i, of := range survey.Tables {
		n := int64(0)
		for _, c := range of.Classes {
			n += c
		}
		if of.Kept != n+1 || of.Rows != before.Tables[i].Rows+1 {
			t.Errorf("table %d has %d rows and keeps %d, of which %d have norms; without the vector it has %d", i, of.Rows, of.Kept, n, before.Tables[i].Rows)
		}
	}
}

// Soft thresholds rise by themselves, by whichever workers and shards, and the survey
// counts what they leave.
func TestSoftThresholdsArePEPs(t *testing.T) {
	spec := "spec.search={strategy: pep, pruning: {kind: soft, learning_rate: 2}}"
	cl := newCluster(t, parse(t, spec), 1)
	cl.trainAll(t, [][]int{{0, 1, 2, 3}}, cl.steps())
	other := newCluster(t, parse(t, spec), 3)
	other.trainAll(t, [][]int{{3}, {1, 2}, {0}}, other.steps())
	if cl.hash() != other.hash() {
		t.Error("another model on other workers and shards")
	}
	survey, err := cl.trainer(t).Survey(context.Background(), cl.steps(), 0)
	if err != nil {
		t.Fatal(err)
	}
	dropped := int64(0)
	for i, of := range survey.Tables {
		dropped += of.Rows - of.Kept
		if at := survey.Thresholds[i]; at < 1e-6 || at >= 1 { // it began at 3e-7
			t.Errorf("threshold %d is %v", i, at)
		}
		if left := of.Moments[0].Float64(); (left > 0) != (of.Kept > 0) && of.Kept > 1 {
			t.Errorf("table %d keeps %d rows with the squares %v", i, of.Kept, left)
		}
	}
	if dropped == 0 {
		t.Error("no row fell below its threshold")
	}
}

// Every width is trained in every step: with one width that is the plain model,
// and what the full width teaches makes another one.
func TestEveryWidthIsTrained(t *testing.T) {
	hash := func(sets ...string) string {
		cl := newCluster(t, parse(t, sets...), 1)
		cl.trainAll(t, [][]int{{0, 1, 2, 3}}, cl.steps())
		return cl.hash()
	}
	if plain, one := hash("spec.embedding.tables=per_field"), hash("spec.search={sampling: all, widths: [4]}"); plain != one {
		t.Error("with one width it is not the plain model")
	}
	several := hash("spec.search={sampling: all, widths: [1, 2, 4]}")
	for _, other := range []string{"{sampling: all, widths: [4]}", "{sampling: all, widths: [1, 2, 4], distillation: 1}", "{sampling: all, widths: [1, 2, 4], progressive: 0.5}"} {
		if hash("spec.search="+other) == several {
			t.Errorf("%s trains the same model", other)
		}
	}
}

// Gates are trained on the validation split, by whichever workers and shards, only
// after the warm-up, and stay about where they mean something.
func TestGatesAreTrained(t *testing.T) {
	for _, strategy := range []string{"dnis", "autodim"} {
		sets := []string{"spec.search={strategy: " + strategy + ", gates: {learning_rate: 0.1, warmup: 0.1}}"}
		cl := newCluster(t, parse(t, sets...), 1)
		cl.trainAll(t, [][]int{{0, 1, 2, 3}}, cl.steps())
		other := newCluster(t, parse(t, sets...), 3)
		other.trainAll(t, [][]int{{3}, {1, 2}, {0}}, other.steps())
		if cl.hash() != other.hash() {
			t.Errorf("%s: another model on other workers and shards", strategy)
		}
		survey, err := cl.trainer(t).Survey(context.Background(), cl.steps(), 0)
		if err != nil {
			t.Fatal(err)
		}
		moved := 0
		for f, gates := range survey.Gates {
			for _, v := range gates {
				if strategy == "dnis" && (v < -0.6 || v > 4.6 /* one update of six times the mean */) {
					t.Errorf("dnis: the soft width of field %d is %v", f, v)
				}
				if v != 4 && v != 0 {
					moved++
				}
			}
		}
		if len(survey.Gates) != 6 || moved < 4 {
			t.Errorf("%s: gates %v, %d moved", strategy, survey.Gates, moved)
		}
		warm := newCluster(t, parse(t, "spec.search={strategy: "+strategy+", gates: {warmup: 1}}"), 1)
		warm.trainAll(t, [][]int{{0, 1, 2, 3}}, warm.steps())
		if survey, err = warm.trainer(t).Survey(context.Background(), warm.steps(), 0); err != nil {
			t.Fatal(err)
		}
		if first := survey.Gates[0][0]; first != 4 && first != 0 {
			t.Errorf("%s: gates %v moved in the warm-up", strategy, survey.Gates)
		}
	}
}

// Gates of dimensions are trained by whichever workers and shards, all are at 1 first,
// and candidates of single dimensions are scored as such.
func TestGatesOfDimensions(t *testing.T) {
	ctx := context.Background()
	spec := "spec.search={strategy: dnis, gates: {kind: dimension, learning_rate: 0.1, warmup: 0.1}}"
	cl := newCluster(t, parse(t, spec), 1)
	cl.trainAll(t, [][]int{{0, 1, 2, 3}}, cl.steps())
	other := newCluster(t, parse(t, spec), 3)
	other.trainAll(t, [][]int{{3}, {1, 2}, {0}}, other.steps())
	if cl.hash() != other.hash() {
		t.Error("another model on other workers and shards")
	}
	tr := cl.trainer(t)
	survey, err := tr.Survey(ctx, cl.steps(), 0)
	if err != nil {
		t.Fatal(err)
	}
	first := newCluster(t, parse(t, spec), 1)
	before, err := first.trainer(t).Survey(ctx, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	moved := 0
	for f, gates := range survey.Gates {
		if !slices.Equal(before.Gates[f], []float32{1, 1, 1, 1}) {
			t.Errorf("field %d begins with gates %v", f, before.Gates[f])
		}
		for _, v := range gates {
			if v < -0.5 || v > 1.5 { // one update of four times the mean and the penalty
				t.Errorf("field %d has gates %v", f, gates)
			}
			if v != 1 {
				moved++
			}
		}
	}
	if !survey.ByDimension || len(survey.Gates) != 6 || moved < 12 {
		t.Errorf("gates %v, %d moved", survey.Gates, moved)
	}

	split, _ := cl.data.Split("valid")
	widths := search.NewCandidate([]int{2, 2, 2, 2, 2, 2})
	dims := func(d ...int) [][]int { return [][]int{d, d, d, d, d, d} }
	score := func(o search.Order) []string {
		t.Helper()
		o.Share = 1
		all, err := tr.EvaluateCandidates(ctx, "valid", cl.steps(), 0, split.Rows(), o)
		if err != nil {
			t.Fatal(err)
		}
		var text []string
		for _, a := range all {
			text = append(text, string(a.Append(nil)))
		}
		return text
	}
	prefix := score(search.Order{Candidates: []search.Candidate{widths}})
	single := score(search.Order{Candidates: []search.Candidate{widths, widths, widths}, Dims: [][][]int{dims(0, 1), dims(1, 3), dims(0, 1)}})
	if single[0] != prefix[0] || single[2] != prefix[0] || single[1] == prefix[0] {
		t.Error("dimensions 0 and 1 are not the prefix of width 2, or 1 and 3 are")
	}
	for _, bad := range [][][][]int{{dims(0)[:2]}, {dims(0), dims(0)}} {
		if _, err := tr.EvaluateCandidates(ctx, "valid", cl.steps(), 0, 10, search.Order{Candidates: []search.Candidate{widths}, Share: 1, Dims: bad}); err == nil {
			t.Errorf("dimensions %v of one candidate for six tables were taken", bad)
		}
	}
}

// Of a supernet whose gates cost much, those of the fields without influence close
// first: dnis finds the planted ones.
func TestSoftWidthsOfUselessFieldsShrink(t *testing.T) {
	cl := newCluster(t, parse(t, "spec.data.synthetic={train_rows: 20000, valid_rows: 5000, numeric: 0, categorical: 6, vocabulary: 30, teacher_dim: 4, seed: 3}",
		"spec.train.batch_size=200", "spec.train.epochs=2", "spec.search={strategy: dnis, gates: {learning_rate: 0.05, penalty: 0.3, warmup: 0.3}}"), 1)
	cl.trainAll(t, [][]int{{0, 1, 2, 3}}, cl.steps())
	survey, err := cl.trainer(t).Survey(context.Background(), cl.steps(), 0)
	if err != nil {
		t.Fatal(err)
	}
	var useless, useful, n float32
	for f, planted := range survey.Planted {
		if planted == 0 {
			useless += survey.Gates[f][0]
			n++
		} else {
			useful += survey.Gates[f][0]
		}
	}
	if n == 0 || useless/n > 0.75*useful/(6-n) {
		t.Errorf("planted %v, soft widths %v", survey.Planted, survey.Gates)
	}
}

// A share of the rows is the same whoever scores which block, and about as large
// as was asked for.
func TestAShareOfTheRowsIsScored(t *testing.T) {
	cl := newCluster(t, parse(t, supernetJob, "spec.data.synthetic.valid_rows=9000"), 2)
	tr := cl.trainer(t)
	order := search.Order{Candidates: []search.Candidate{search.NewCandidate([]int{1, 2, 3, 4, 1, 1})}, Share: 0.3}
	scored := func(from ...int64) eval.Result {
		var all []*eval.Accumulator
		for i, lo := range from[:len(from)-1] {
			part, err := tr.EvaluateCandidates(context.Background(), "valid", 0, lo, from[i+1], order)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, part...)
		}
		return eval.Merge(all)
	}
	whole := scored(0, 9000)
	if n := whole.Samples; n < 2200 || n > 3200 {
		t.Errorf("%d of 9000 samples are 0.3 of them", n)
	}
	if halves := scored(0, 4096, 9000); halves.AUC != whole.AUC || halves.Samples != whole.Samples {
		t.Errorf("in two blocks %+v, in one %+v", halves, whole)
	}
}

// The thresholds rise while the regulariser outweighs the loss.
func TestThresholdsAreTrained(t *testing.T) {
	cl := newCluster(t, parse(t, supernetJob), 1)
	cl.trainAll(t, [][]int{{0, 1, 2, 3}}, cl.steps())
	dense, err := cl.job.Dense()
	if err != nil {
		t.Fatal(err)
	}
	values := make([][]float32, len(dense))
	last := len(dense) - 1
	values[last] = make([]float32, dense[last].Size)
	if err := cl.client.Pull(context.Background(), cl.steps(), nil, values); err != nil {
		t.Fatal(err)
	}
	if len(values[last]) != 6 {
		t.Fatalf("thresholds %v, want one per field", values[last])
	}
	for f, v := range values[last] {
		if v == 0 {
			t.Errorf("the threshold of field %d did not move", f)
		}
	}
}

// With a threshold for every row, a step moves them, together with what their table
// shares, by as much as it moves the table's without; the survey compares every row
// with its own.
func TestEveryRowMayHaveAThreshold(t *testing.T) {
	ctx := context.Background()
	spec := func(per string) string {
		return "spec.search={sampling: none, pruning: {learning_rate: 0.1, weight: 0.01, per: " + per + "}}"
	}
	sums := func(per string) []float64 {
		cl := newCluster(t, parse(t, spec(per)), 1)
		cl.trainAll(t, [][]int{{0, 1, 2, 3}}, 1)
		survey, err := cl.trainer(t).Survey(ctx, 1, 0)
		if err != nil {
			t.Fatal(err)
		}
		all := make([]float64, len(survey.Tables))
		for i := range all {
			all[i] = float64(survey.Thresholds[i])
			_, w, rows, err := cl.states[0].Scan(run, 1, uint16(i), 0, 1<<20)
			if err != nil {
				t.Fatal(err)
			}
			for u := 5; per == job.PerFeature && u < rows*6; u += 6 {
				all[i] += float64(w[u])
			}
		}
		return all
	}
	field, feature := sums(job.PerField), sums(job.PerFeature)
	for i := range field {
		if d := math.Abs(field[i] - feature[i]); field[i] == 0 || d > 1e-5*math.Abs(field[i]) {
			t.Errorf("table %d: its threshold is %v, those of its rows come to %v", i, field[i], feature[i])
		}
	}

	cl := newCluster(t, parse(t, spec(job.PerFeature)), 1)
	cl.trainAll(t, [][]int{{0, 1, 2, 3}}, cl.steps())
	other := newCluster(t, parse(t, spec(job.PerFeature)), 3)
	other.trainAll(t, [][]int{{3}, {1, 2}, {0}}, other.steps())
	if cl.hash() != other.hash() {
		t.Error("another model on other workers and shards")
	}
	var instead []string // with a vector for pruned rows, on one shard and on three
	for _, shards := range []int{1, 3} {
		c := newCluster(t, parse(t, "spec.search={oov: true, pruning: {learning_rate: 0.1, weight: 0.01, per: feature}}"), shards)
		c.trainAll(t, [][]int{{3}, {1, 2}, {0}}, c.steps())
		instead = append(instead, c.hash())
	}
	if instead[0] != instead[1] || instead[0] == cl.hash() {
		t.Errorf("models %v with a vector for pruned rows", instead)
	}
	survey, err := cl.trainer(t).Survey(ctx, cl.steps(), 0)
	if err != nil {
		t.Fatal(err)
	}
	differ := false
	for i, of := range survey.Tables {
		_, w, rows, err := cl.states[0].Scan(run, cl.steps(), uint16(i), 0, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		kept, shared := int64(0), int64(0)
		for u := range rows {
			row, at := w[u*6:(u+1)*6], survey.Thresholds[i] // first-order weight, embedding, threshold
			if supernet.L1.Keeps(row[1:5], at+row[5]) {
				kept++
			}
			if supernet.L1.Keeps(row[1:5], at) {
				shared++
			}
		}
		if of.Kept != kept || of.Rows != int64(rows) {
			t.Errorf("table %d: the survey keeps %d of %d rows, want %d of %d", i, of.Kept, of.Rows, kept, rows)
		}
		differ = differ || kept != shared
	}
	if !differ {
		t.Error("what rows add to their threshold makes no difference: the test sees nothing")
	}
}
