package e2e

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

const smallJob = `
apiVersion: fathom.dev/v1alpha1
kind: TrainingJob
metadata: {name: small}
spec:
  data:
    format: synthetic
    synthetic: {train_rows: 20000, valid_rows: 3000, test_rows: 3000, numeric: 3, categorical: 6, vocabulary: 2000, seed: 5}
  model: {name: deepfm, embedding_dim: 8, hidden: [32, 16], dropout: 0.1, batch_norm: true}
  train:
    epochs: 2
    batch_size: 512
    seed: 7
    optimizer: {name: lamb, learning_rate: 0.01, trust_floor: 0.1}
    embedding_init: {kind: normal, scale: 0.01}
`

// limit is when something has failed that does not come; it says nothing of how fast
// anything is.
const limit = 5 * time.Minute

func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestSameModelWhateverTheClusterAndWhateverIsKilled(t *testing.T) {
	t.Parallel()
	job := writeFile(t, "small.yaml", smallJob)
	first := start(t, nil, "run", job)
	want := first.result(limit)
	model := first.artifact()
	if want.Metrics["test"].AUC < 0.6 || want.Metrics["valid"].AUC < 0.6 {
		t.Errorf("metrics %+v: nothing was learnt", want.Metrics)
	}
	if want.TeacherAUC <= want.Metrics["test"].AUC {
		t.Errorf("test AUC %.4f is above the teacher's own %.4f", want.Metrics["test"].AUC, want.TeacherAUC)
	}
	same := func(t *testing.T, r *fathomRun) {
		t.Helper()
		got := r.result(limit)
		if r.artifact() != model {
			t.Error("the exported files are others")
		}
		if got.ModelHash != want.ModelHash {
			t.Errorf("model hash %s, want %s", got.ModelHash, want.ModelHash)
		}
		if got.Metrics["test"] != want.Metrics["test"] {
			t.Errorf("test metrics %+v, want %+v", got.Metrics["test"], want.Metrics["test"])
		}
	}
	for name, c := range map[string]struct{ env, flags []string }{
		"one worker":    {nil, []string{"--workers", "1"}},
		"three workers": {nil, []string{"--workers", "3"}},
		"one server":    {nil, []string{"--ps", "1", "--replicas", "1", "--shards", "1"}},
		"seven shards":  {nil, []string{"--shards", "7"}},
		"portable code": {[]string{"FATHOM_CPU=portable"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			same(t, start(t, c.env, append([]string{"run", job}, c.flags...)...))
		})
	}
	for role, signal := range map[string]syscall.Signal{"ps": syscall.SIGKILL, "worker": syscall.SIGKILL, "coordinator": syscall.SIGKILL} {
		t.Run("killed "+role, func(t *testing.T) {
			t.Parallel()
			r := start(t, nil, "run", job)
			victim, goOn := r.heldPast(30, limit)
			if role != "ps" {
				victim = r.children(role)[0]
			}
			r.signal(signal, victim)
			goOn()
			same(t, r)
		})
	}
	t.Run("all workers killed", func(t *testing.T) {
		t.Parallel()
		r := start(t, nil, "run", job)
		r.heldPast(30, limit)
		r.signal(syscall.SIGKILL, r.children("worker")...) // the run starts others
		same(t, r)
	})
	t.Run("worker stopped", func(t *testing.T) {
		t.Parallel()
		r := start(t, nil, "run", job)
		_, goOn := r.heldPast(30, limit)
		victim, now := r.children("worker")[0], r.version()
		goOn()
		r.signal(syscall.SIGSTOP, victim)
		// Woken up with an old lane in its hands, but not before the others have
		// gone on without it.
		r.leaderPast(now+10, limit)
		r.signal(syscall.SIGCONT, victim)
		same(t, r)
	})
}

// TestAsyncSurvivesKills has the leader of a shard and a worker killed in mode
// async, later everything, and goes on from the checkpoint of the first epoch in
// another cluster. What is lost or applied twice, the state machine's own tests find;
// here training ends, as good as in mode sync.
func TestAsyncSurvivesKills(t *testing.T) {
	t.Parallel()
	job := writeFile(t, "small.yaml", smallJob)
	r := start(t, nil, "run", job, "--set", "spec.train.mode=async", "--set", "spec.train.staleness=2", "--set", "spec.checkpoint.every_steps=10")
	leader, goOn := r.heldPast(20, limit)
	r.signal(syscall.SIGKILL, leader, r.children("worker")[0])
	goOn()
	r.heldWithCheckpoint(50, limit)
	r.killAll()
	r = startIn(t, r.workdir, nil, "run", "--from-checkpoint", "--shards", "3")
	if got := r.result(limit); got.Metrics["test"].AUC < 0.6 {
		t.Errorf("metrics %+v: nothing was learnt", got.Metrics)
	}
}

// Steps that wait for sums over all shards go on whoever is killed, also the
// worker that adds them, and give the same model.
func TestSumsOverShardsWhateverIsKilled(t *testing.T) {
	t.Parallel()
	run := []string{"run", writeFile(t, "small.yaml", smallJob), "--set", "spec.train.clip_norm=0.02",
		"--set", "spec.train.optimizer.granularity=field", "--set", "spec.embedding.tables=per_field"}
	want := start(t, nil, append(run, "--ps", "1", "--replicas", "1", "--shards", "1")...).result(limit)
	for _, role := range []string{"ps", "worker"} {
		t.Run("killed "+role, func(t *testing.T) {
			t.Parallel()
			r := start(t, nil, run...)
			victim, goOn := r.heldPast(30, limit)
			if role != "ps" {
				victim = r.children(role)[0]
			}
			r.signal(syscall.SIGKILL, victim)
			goOn()
			if got := r.result(limit); got.ModelHash != want.ModelHash {
				t.Errorf("model hash %s, want %s", got.ModelHash, want.ModelHash)
			}
		})
	}
}

func TestInterruptLeavesNoProcess(t *testing.T) {
	t.Parallel()
	r := start(t, nil, "run", writeFile(t, "small.yaml", smallJob), "--set", "spec.train.epochs=200")
	r.leaderPast(3, limit)
	started := r.everyone()
	if len(started) != 7 {
		t.Errorf("%d child processes, want etcd, coordinator, 3 ps and 2 workers", len(started))
	}
	if err := r.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if code := r.wait(limit); code != 130 {
		t.Errorf("exit code %d after an interrupt, want 130", code)
	}
	for _, c := range started {
		if alive(c.pid) {
			t.Errorf("process %d %v is still there", c.pid, c.args[1:3])
		}
	}
}
