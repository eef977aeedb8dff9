package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// killedRun is a run that was killed as a whole once shard 0 was past a version and a
// checkpoint was complete.
func killedRun(t *testing.T, job string, version uint64, sets ...string) (workdir string) {
	t.Helper()
	args := []string{"run", job}
	for _, s := range append(sets, "spec.checkpoint.every_steps=20", "spec.checkpoint.keep=2") {
		args = append(args, "--set", s)
	}
	r := start(t, nil, args...)
	r.heldWithCheckpoint(version, limit)
	r.killAll()
	return r.workdir
}

// heldWithCheckpoint is heldPast for a run that has a complete checkpoint, too.
func (r *fathomRun) heldWithCheckpoint(version uint64, limit time.Duration) {
	r.t.Helper()
	for ; ; version += 5 {
		_, goOn := r.heldPast(version, limit)
		if strings.Contains(r.logOf("coordinator"), "checkpoint is complete") {
			return
		}
		goOn() // its next step may be what the checkpoint waits for
	}
}

// killAll kills all processes of a run.
func (r *fathomRun) killAll() {
	r.t.Helper()
	all := r.everyone()
	if err := r.cmd.Process.Kill(); err != nil {
		r.t.Fatal(err)
	}
	for _, c := range all {
		_ = syscall.Kill(c.pid, syscall.SIGKILL) // it may have ended with its parent
	}
	<-r.done
}

// TestRunIsResumedAfterTheWholeClusterWasKilled: from the servers' logs, and from
// a checkpoint with a cluster of another size, the model is the undisturbed one.
func TestRunIsResumedAfterTheWholeClusterWasKilled(t *testing.T) {
	t.Parallel()
	job := writeFile(t, "small.yaml", smallJob)
	want := start(t, nil, "run", job).result(limit)
	same := func(name string, got result) {
		t.Helper()
		if got.ModelHash != want.ModelHash || got.Metrics["test"] != want.Metrics["test"] {
			t.Errorf("%s: hash %s, metrics %v; undisturbed %s, %v", name, got.ModelHash, got.Metrics["test"], want.ModelHash, want.Metrics["test"])
		}
	}
	dir := killedRun(t, job, 50)
	again := startIn(t, dir, nil, "run", "--resume")
	again.heldPast(55, limit)
	again.killAll()
	same("from the logs, killed once more on the way", startIn(t, dir, nil, "run", "--resume").result(limit))

	dir = killedRun(t, job, 50)
	if err := os.RemoveAll(filepath.Join(dir, "data", "etcd")); err != nil {
		t.Fatal(err)
	}
	r := startIn(t, dir, nil, "run", "--resume")
	if code := r.wait(limit); code == 0 || !strings.Contains(r.stderr.String(), "add --from-checkpoint") {
		t.Errorf("with etcd's data lost: exit code %d\n%s", code, r.stderr.String())
	}
	same("from a checkpoint", startIn(t, dir, nil, "run", "--from-checkpoint",
		"--ps", "1", "--replicas", "1", "--shards", "3", "--workers", "1").result(limit))
}

func TestCheckpointIsVerifiedAndDamageNamed(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(killedRun(t, writeFile(t, "small.yaml", smallJob), 50), "checkpoints")
	out, _ := cli(t, 0, "checkpoint", "list", dir, "-o", "json")
	var found []struct {
		Location string `json:"location"`
		Step     uint64 `json:"step"`
	}
	if err := json.Unmarshal([]byte(out), &found); err != nil || len(found) == 0 || found[len(found)-1].Step%20 != 0 {
		t.Fatalf("checkpoint list: %v\n%s", err, out)
	}
	newest := found[len(found)-1].Location
	if out, _ := cli(t, 0, "checkpoint", "verify", dir); !strings.Contains(out, newest+" is sound") {
		t.Errorf("verify: %s", out)
	}
	files, err := filepath.Glob(filepath.Join(newest, "*.fck"))
	if err != nil || len(files) != 4 {
		t.Fatalf("files %v, error %v", files, err)
	}
	text, err := os.ReadFile(files[2])
	if err != nil {
		t.Fatal(err)
	}
	text[len(text)/2] ^= 1
	if err := os.WriteFile(files[2], text, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, stderr := cli(t, 1, "checkpoint", "verify", newest); !strings.Contains(stderr, filepath.Base(files[2])+": damaged checkpoint") {
		t.Errorf("a flipped bit in %s: %s", files[2], stderr)
	}
	r := startIn(t, filepath.Dir(dir), nil, "run", "--from-checkpoint")
	if code := r.wait(limit); code == 0 || !strings.Contains(r.stderr.String(), filepath.Base(files[2])) {
		t.Errorf("exit code %d after a restore from a damaged checkpoint:\n%s", code, r.stderr.String())
	}
	if _, stderr := cli(t, 64, "checkpoint", "delete", dir); !strings.Contains(stderr, dir+" is no checkpoint") {
		t.Errorf("delete of a folder: %s", stderr)
	}
	if err := os.Remove(files[2]); err != nil {
		t.Fatal(err)
	}
	if _, stderr := cli(t, 1, "checkpoint", "verify", newest); !strings.Contains(stderr, "it is gone") {
		t.Errorf("without %s: %s", files[2], stderr)
	}
	cli(t, 0, "checkpoint", "delete", newest)
	if _, err := os.Stat(newest); !os.IsNotExist(err) {
		t.Errorf("%s is still there: %v", newest, err)
	}
}

// TestHashOfEveryStep: runs on other clusters have the same hash at every step,
// and a run with another seed is told apart at the first.
func TestHashOfEveryStep(t *testing.T) {
	t.Parallel()
	job := writeFile(t, "small.yaml", smallJob)
	one := start(t, nil, "run", job)
	want := one.result(limit)
	two := start(t, nil, "run", job, "--ps", "1", "--replicas", "1", "--shards", "2")
	two.result(limit)
	if out, _ := cli(t, 0, "hash", "--run", one.workdir); !strings.Contains(out, want.ModelHash) {
		t.Errorf("the hash of the last step is not the model's, %s:\n%s", want.ModelHash, out)
	}
	if out, _ := cli(t, 0, "diff", one.workdir, two.workdir); !strings.Contains(out, "equal at all 81 common steps, 0 to 80") {
		t.Errorf("diff of equal runs: %s", out)
	}
	other := start(t, nil, "run", job, "--set", "spec.train.seed=8", "--set", "spec.train.epochs=1")
	other.result(limit)
	if _, stderr := cli(t, 1, "diff", one.workdir, other.workdir); !strings.Contains(stderr, "differ from step 0 on") {
		t.Errorf("diff of runs with other seeds: %s", stderr)
	}
}
