package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// bestEpoch is the epoch that a result marks as the best of its validations.
func bestEpoch(t *testing.T, r *fathomRun) (best, last uint64) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(r.workdir, "result.json"))
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Epochs []struct {
			Epoch uint64 `json:"epoch"`
			Best  bool   `json:"best"`
		} `json:"epochs"`
	}
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	for _, e := range got.Epochs {
		if last = e.Epoch; e.Best {
			best = e.Epoch
		}
	}
	return best, last
}

// A job that goes back to its best validation ends with the very model that a
// job of so many epochs has, on any cluster and whatever is killed.
func TestTheBestModelIsRestored(t *testing.T) {
	t.Parallel()
	job := writeFile(t, "small.yaml", smallJob)
	restore := []string{"run", job, "--set", "spec.train.epochs=8", "--set", "spec.train.restore_best=true"}
	r := start(t, nil, restore...)
	want := r.result(limit)
	best, last := bestEpoch(t, r)
	if best == 0 || best >= last {
		t.Fatalf("epoch %d of %d is the best: the job is too short for this test", best, last)
	}
	dir := filepath.Join(t.TempDir(), "artifact") // of the newest checkpoint
	cli(t, 0, "export", "--checkpoint", filepath.Join(r.workdir, "checkpoints"), "--out", dir)
	if out, _ := cli(t, 0, "predict", "--model", dir, "--split", "valid", "-o", "json"); !strings.Contains(out, `"as_reported": true`) {
		t.Errorf("the checkpoint of the best validation, exported: %.200s", out[max(0, len(out)-200):])
	}
	same := func(t *testing.T, got result) {
		t.Helper()
		if got.ModelHash != want.ModelHash || got.Metrics["test"] != want.Metrics["test"] {
			t.Errorf("model %s, test %+v, want %s, %+v", got.ModelHash, got.Metrics["test"], want.ModelHash, want.Metrics["test"])
		}
	}
	t.Run("as after so many epochs", func(t *testing.T) {
		t.Parallel()
		same(t, start(t, nil, "run", job, "--set", "spec.train.epochs="+strconv.FormatUint(best, 10)).result(limit))
	})
	t.Run("another cluster, killed", func(t *testing.T) {
		t.Parallel()
		r := start(t, nil, append(restore, "--workers", "1", "--shards", "3")...)
		_, goOn := r.heldPast(60, limit)
		r.signal(syscall.SIGKILL, r.children("coordinator")[0], r.children("ps")[0])
		goOn()
		same(t, r.result(limit))
	})
}

// The model of the widths that a search found goes back, too.
func TestTheBestModelOfASearchIsRestored(t *testing.T) {
	t.Parallel()
	job := writeFile(t, "search.yaml", smallJob+`
  search: {strategy: uniform, epochs: 1, widths: [1, 4, 8], budget: {fraction: 0.6}}
`)
	r := start(t, nil, "run", job, "--set", "spec.train.epochs=8", "--set", "spec.train.restore_best=true")
	want := r.result(limit)
	best, last := bestEpoch(t, r)
	if best == 0 || best >= last {
		t.Fatalf("epoch %d of %d is the best: the job is too short for this test", best, last)
	}
	got := start(t, nil, "run", job, "--set", "spec.train.epochs="+strconv.FormatUint(best, 10)).result(limit)
	if got.ModelHash != want.ModelHash || got.Metrics["test"] != want.Metrics["test"] || got.Metrics["valid"] != want.Metrics["valid"] {
		t.Errorf("model %s with %+v, want that after epoch %d, %s with %+v", want.ModelHash, want.Metrics, best, got.ModelHash, got.Metrics)
	}
}
