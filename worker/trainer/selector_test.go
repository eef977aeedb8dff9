package trainer_test

import (
	"bytes"
	"context"
	"reflect"
	"slices"
	"testing"

	"github.com/fathom-train/fathom/compute/supernet"
	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/fathom-train/fathom/coordinator/search"
	"github.com/fathom-train/fathom/ps/client"
)

const instanceJob = "spec.search={strategy: ihas, gates: {learning_rate: 0.05, penalty: 1, warmup: 0.2, clusters: 3, hidden: 8}}"

// halves are two clusters of which the first, or the second, has the first two of four
// dimensions open in all fields, the other the last two.
func halves(fields int, first bool) []float32 {
	open := make([]float32, 2*4*fields)
	for i := range open {
		if front, cluster := i%4 < 2, i/(4*fields); front == (cluster == 0) == first {
			open[i] = 1
		}
	}
	return open
}

func clustersOf(open []float32, n int) (all []search.Cluster) {
	size := len(open) / n
	for i := range n {
		c := search.Cluster{Open: make([]uint64, supernet.Words(size))}
		supernet.Pack(c.Open, open[i*size:(i+1)*size])
		all = append(all, c)
	}
	return all
}

// Gates of single samples are trained, and their clusters found, whichever workers and
// shards there are; the gates stay as they were in the warm-up.
func TestGatesOfSamplesAreTheSameForAnyCluster(t *testing.T) {
	ctx := context.Background()
	cl := newCluster(t, parse(t, instanceJob), 1)
	cl.trainAll(t, [][]int{{0, 1, 2, 3}}, cl.steps())
	other := newCluster(t, parse(t, instanceJob), 3)
	other.trainAll(t, [][]int{{3}, {1, 2}, {0}}, other.steps())
	if cl.hash() != other.hash() {
		t.Error("another model on other workers and shards")
	}
	if plain := newCluster(t, parse(t, "spec.search={sampling: none}"), 1); plain.hash() == cl.hash() {
		t.Error("the gates train nothing")
	}
	survey, err := cl.trainer(t).Survey(ctx, cl.steps(), 0)
	if err != nil {
		t.Fatal(err)
	}
	var parts []*search.Survey
	for i := range 3 {
		s, err := other.trainer(t).Survey(ctx, other.steps(), i)
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, s)
	}
	merged, err := search.Merge(parts)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(merged.Clusters, survey.Clusters) || !reflect.DeepEqual(merged.Gates, survey.Gates) {
		t.Errorf("clusters %v and gates %v on three shards, want %v and %v", merged.Clusters, merged.Gates, survey.Clusters, survey.Gates)
	}
	split, _ := cl.data.Split("valid")
	n := int64(0)
	for _, c := range survey.Clusters {
		n += c.Samples
	}
	if len(survey.Clusters) != 3 || n != split.Rows() || !survey.ByDimension {
		t.Errorf("clusters %v of %d samples, want 3 of %d", survey.Clusters, n, split.Rows())
	}
	closed := 0
	for _, gates := range survey.Gates {
		for _, v := range gates {
			if v < 1 {
				closed++
			}
		}
	}
	if closed == 0 {
		t.Error("no gate was closed for any sample")
	}
	warm := newCluster(t, parse(t, instanceJob, "spec.search.gates.warmup=1"), 1)
	warm.trainAll(t, [][]int{{0, 1, 2, 3}}, warm.steps())
	if survey, err = warm.trainer(t).Survey(ctx, warm.steps(), 0); err != nil {
		t.Fatal(err)
	}
	for f, gates := range survey.Gates {
		if !slices.Equal(gates, []float32{1, 1, 1, 1}) {
			t.Errorf("gates %v of field %d moved in the warm-up", gates, f)
		}
	}
}

// A sample sees of a candidate what its cluster has open. At the start all gates are
// open, so clusters with as many open ones are equally near, and the first is taken.
func TestCandidatesAreScoredByClusters(t *testing.T) {
	ctx := context.Background()
	cl := newCluster(t, parse(t, instanceJob, "spec.search.gates.clusters=2", "spec.search.gates.warmup=1"), 1)
	cl.trainAll(t, [][]int{{0, 1, 2, 3}}, cl.steps())
	tr := cl.trainer(t)
	split, _ := cl.data.Split("valid")
	full, half := search.NewCandidate([]int{4, 4, 4, 4, 4, 4}), search.NewCandidate([]int{2, 2, 2, 2, 2, 2})
	score := func(open []float32, c search.Candidate, dims ...int) []byte {
		t.Helper()
		o := search.Order{Candidates: []search.Candidate{c}, Share: 1, Clusters: clustersOf(open, 2), Dims: [][][]int{{dims, dims, dims, dims, dims, dims}}}
		all, err := tr.EvaluateCandidates(ctx, "valid", cl.steps(), 0, split.Rows(), o)
		if err != nil {
			t.Fatal(err)
		}
		return all[0].Append(nil)
	}
	none := make([]float32, 2*4*6) // closed for all, so nobody is masked
	for _, c := range []struct {
		first bool
		dims  []int
	}{{true, []int{0, 1}}, {false, []int{2, 3}}} {
		got, want := score(halves(6, c.first), full, 0, 1, 2, 3), score(none, half, c.dims...)
		if !bytes.Equal(got, want) {
			t.Errorf("the cluster with dimensions %v is not scored with these", c.dims)
		}
		if bytes.Equal(got, score(none, full, 0, 1, 2, 3)) {
			t.Errorf("the cluster with dimensions %v is scored with all", c.dims)
		}
	}
	for _, bad := range [][]search.Cluster{nil, clustersOf(none, 4), {{Open: []uint64{1, 2}}, {Open: []uint64{1}}}} {
		if _, err := tr.EvaluateCandidates(ctx, "valid", cl.steps(), 0, 10, search.Order{Candidates: []search.Candidate{full}, Share: 1, Clusters: bad}); err == nil {
			t.Errorf("clusters %v were taken", bad)
		}
	}
}

// In the winner samples see and train only what their cluster has open, and the selector
// stays as it is.
func TestSamplesTrainTheDimensionsOfTheirCluster(t *testing.T) {
	ctx := context.Background()
	sets := []string{"spec.embedding={tables: per_field, selector: {clusters: 2, hidden: 8}}", "spec.train.optimizer={name: sgd, learning_rate: 0.1}"}
	cl := newCluster(t, parse(t, sets...), 1)
	cl.trainAll(t, [][]int{{0, 1, 2, 3}}, cl.steps())
	other := newCluster(t, parse(t, sets...), 3)
	other.trainAll(t, [][]int{{3}, {1, 2}, {0}}, other.steps())
	if cl.hash() != other.hash() {
		t.Error("another model on other workers and shards")
	}
	read := func(c *cluster, version uint64, of client.Rows) ([]float32, [][]float32) {
		t.Helper()
		of.Values = make([]float32, len(of.Keys)*of.Width)
		dense, err := c.job.Dense()
		if err != nil {
			t.Fatal(err)
		}
		values := make([][]float32, len(dense))
		for i, d := range dense {
			values[i] = make([]float32, d.Size)
		}
		if err := c.client.Pull(ctx, version, []client.Rows{of}, values); err != nil {
			t.Fatal(err)
		}
		return of.Values, values[len(values)-len(c.job.SelectorParams()):]
	}
	first := newCluster(t, parse(t, sets...), 1)
	seen := 0
	for table := range 6 {
		keys, _, _, err := cl.states[0].Scan(run, cl.steps(), uint16(table), 0, 1000)
		if err != nil {
			t.Fatal(err)
		}
		of := client.Rows{Table: uint16(table), Width: 5, Keys: keys}
		before, selector := read(first, 0, of)
		after, trained := read(cl, cl.steps(), of)
		if !reflect.DeepEqual(selector, trained) {
			t.Fatal("the selector was trained")
		}
		for i := range before {
			switch d := i%5 - 1; { // behind the first-order weight
			case d >= 2 && before[i] != after[i]:
				t.Fatalf("dimension %d, which the cluster has closed, went from %v to %v", d, before[i], after[i])
			case d >= 0 && before[i] != after[i]:
				seen++
			}
		}
	}
	if seen == 0 {
		t.Error("nothing was trained")
	}
}

// mask gives the winner's clusters to the tests: a model alone has none.
func mask(j *job.Job, name string, size int) []float32 {
	if name != job.MaskTensor || j.Spec.Search != nil {
		return nil
	}
	return halves(size/8, true)
}
