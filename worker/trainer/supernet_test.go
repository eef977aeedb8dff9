package trainer_test

import (
	"bytes"
	"context"
	"testing"

	"github.com/fathom-train/fathom/compute/eval"
	"github.com/fathom-train/fathom/coordinator/search"
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
