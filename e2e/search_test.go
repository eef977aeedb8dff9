package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

const searchJob = smallJob + `
  search:
    strategy: evolution
    seed_sensitivity: true
    generations: 6
    population: 12
    widths: [0, 1, 2, 4, 8]
    rows: [0.5, 1]
    oov: true
    budget: {fraction: 0.4}
    tolerance: 0.001
    pruning: {learning_rate: 0.5, weight: 0.01}
`

// A search ends with the same winner and the same model whatever the cluster, and
// when the coordinator and a worker are killed in the middle of a generation and
// a shard's leader while the winner is trained.
func TestSearchFindsTheSameWinnerWhateverIsKilled(t *testing.T) {
	t.Parallel()
	job := writeFile(t, "search.yaml", searchJob)
	alone := start(t, nil, "run", job, "--ps", "1", "--replicas", "1", "--shards", "1", "--workers", "1")
	want := alone.result(limit)
	if want.Metrics["test"].AUC < 0.6 {
		t.Errorf("test AUC %.4f: nothing was learnt", want.Metrics["test"].AUC)
	}
	r := start(t, nil, "run", job)
	r.logged("generation is scored", limit)
	r.signal(syscall.SIGKILL, r.children("coordinator")[0], r.children("worker")[0])
	// Two epochs of 40 steps for the supernet, one version for the new tables.
	leader := r.leaderPast(90, limit)
	r.signal(syscall.SIGKILL, leader)
	got := r.result(limit)
	if got.ModelHash != want.ModelHash || got.Metrics["test"] != want.Metrics["test"] {
		t.Errorf("model %s with %+v, want %s with %+v", got.ModelHash, got.Metrics["test"], want.ModelHash, want.Metrics["test"])
	}
	report, err := os.ReadFile(filepath.Join(r.workdir, "report.html"))
	if err != nil || !strings.Contains(string(report), "winner, trained anew") {
		t.Errorf("report.html has %d bytes without the winner, error %v", len(report), err)
	}
	if alone.artifact() != r.artifact() {
		t.Error("the exported files are others")
	}
	out, _ := cli(t, 0, "predict", "--model", filepath.Join(r.workdir, "artifact"), "--split", "test", "-o", "json")
	if !strings.Contains(out, `"as_reported": true`) {
		t.Errorf("predicted from the files alone: %.200s", out[max(0, len(out)-200):])
	}

	// Everything is killed in every stage, and goes on from the newest checkpoint in
	// another cluster.
	r = start(t, nil, "run", job, "--set", "spec.checkpoint.every_steps=20")
	goOn := func(args ...string) {
		r.killAll()
		r = startIn(t, r.workdir, nil, append([]string{"run", "--from-checkpoint"}, args...)...)
	}
	r.heldWithCheckpoint(50, limit)
	goOn("--ps", "1", "--replicas", "1", "--shards", "2", "--workers", "1")
	r.logged("generation is scored", limit)
	goOn("--ps", "3", "--replicas", "3", "--shards", "3")
	r.heldPast(110, limit)
	goOn("--ps", "2", "--replicas", "1", "--shards", "1")
	got = r.result(limit)
	if got.ModelHash != want.ModelHash || got.Metrics["test"] != want.Metrics["test"] {
		t.Errorf("from checkpoints: model %s with %+v, want %s with %+v", got.ModelHash, got.Metrics["test"], want.ModelHash, want.Metrics["test"])
	}
}

// The same of a search that finds clusters of samples: the winner has the network that
// tells the cluster, and the files alone score as was reported.
func TestClustersOfSamplesAreTheSameWhateverIsKilled(t *testing.T) {
	t.Parallel()
	const patience = 3 * time.Minute
	job := writeFile(t, "search.yaml", smallJob+`
  search:
    strategy: ihas
    budget: {fraction: 0.4}
    gates: {clusters: 3, learning_rate: 0.02, penalty: 0.3, warmup: 0.1}
`)
	alone := start(t, nil, "run", job, "--ps", "1", "--replicas", "1", "--shards", "1", "--workers", "1")
	want := alone.result(patience)
	if s := want.Search; len(s.Clusters) != 3 || s.Best.Parameters > s.LimitParameters || s.Best.Parameters == 0 {
		t.Errorf("clusters %v, %d weights within %d", s.Clusters, s.Best.Parameters, s.LimitParameters)
	}
	r := start(t, nil, "run", job, "--set", "spec.checkpoint.every_steps=20")
	if err := syscall.Kill(r.leaderPast(30, patience).pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	r.logged("generation is scored", patience)
	for _, role := range []string{"coordinator", "worker"} {
		if err := syscall.Kill(r.children(role)[0].pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	r.leaderPast(110, patience)
	r.killAll()
	r = startIn(t, r.workdir, nil, "run", "--from-checkpoint", "--ps", "2", "--replicas", "1", "--shards", "2", "--workers", "1")
	got := r.result(patience)
	if got.ModelHash != want.ModelHash || got.Metrics["test"] != want.Metrics["test"] {
		t.Errorf("model %s with %+v, want %s with %+v", got.ModelHash, got.Metrics["test"], want.ModelHash, want.Metrics["test"])
	}
	if alone.artifact() != r.artifact() {
		t.Error("the exported files are others")
	}
	out, _ := cli(t, 0, "predict", "--model", filepath.Join(r.workdir, "artifact"), "--split", "test", "-o", "json")
	if !strings.Contains(out, `"as_reported": true`) {
		t.Errorf("predicted from the files alone: %.200s", out[max(0, len(out)-200):])
	}
}

// A supernet that is kept serves other searches: the same one ends with the same model,
// one of a smaller budget with a smaller model.
func TestSearchesShareASupernet(t *testing.T) {
	t.Parallel()
	job := writeFile(t, "search.yaml", searchJob)
	small := []string{"--ps", "1", "--replicas", "1", "--shards", "1", "--workers", "1"}
	run := func(args ...string) result {
		t.Helper()
		return start(t, nil, append(append([]string{"run", job}, small...), args...)...).result(limit)
	}
	want := run("--set", "spec.search.keep_supernet=true", "--set", "spec.train.restore_best=true", "--set", "spec.checkpoint.keep=1")
	from := want.Search.Checkpoint
	if from == "" {
		t.Fatal("the result does not name the supernet's checkpoint")
	}
	if again := run("--restore", from, "--shards", "2", "--set", "spec.train.restore_best=true"); again.ModelHash != want.ModelHash {
		t.Errorf("model %s from the supernet's checkpoint, want %s", again.ModelHash, want.ModelHash)
	}
	less := run("--restore", from, "--set", "spec.search.strategy=sensitivity", "--set", "spec.search.budget.fraction=0.2")
	if n, limit := less.Search.Best.Parameters, less.Search.LimitParameters; n > limit || limit >= want.Search.LimitParameters || n == 0 {
		t.Errorf("%d weights within %d, the first search had a limit of %d", n, limit, want.Search.LimitParameters)
	}
}

// logged waits until the coordinator's log has the text.
func (r *fathomRun) logged(text string, limit time.Duration) {
	r.t.Helper()
	end := time.After(limit)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		log, err := os.ReadFile(filepath.Join(r.workdir, "logs", "coordinator.log"))
		if err == nil && strings.Contains(string(log), text) {
			return
		}
		select {
		case <-tick.C:
		case <-r.done:
			r.t.Fatalf("the run ended before %q was logged", text)
		case <-end:
			r.t.Fatalf("%q was not logged within %v", text, limit)
		}
	}
}
