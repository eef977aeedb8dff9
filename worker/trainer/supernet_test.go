package trainer_test

import (
	"bytes"
	"context"
	"testing"
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
	full, none := []int{4, 4, 4, 4, 4, 4}, []int{1, 2, 3, 4, 1, 1}
	all, err := tr.EvaluateCandidates(context.Background(), "valid", cl.steps(), 0, split.Rows(), [][]int{none, full, none})
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
	if _, err := tr.EvaluateCandidates(context.Background(), "valid", cl.steps(), 0, 10, [][]int{{1}}); err == nil {
		t.Error("a candidate of one width for six tables was scored")
	}
	if _, err := newCluster(t, parse(t), 1).trainer(t).EvaluateCandidates(context.Background(), "valid", 0, 0, 10, nil); err == nil {
		t.Error("a job without a search scored candidates")
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
