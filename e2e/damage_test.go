package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// logOf is what a process of the run has logged.
func (r *fathomRun) logOf(process string) string {
	r.t.Helper()
	text, err := os.ReadFile(filepath.Join(r.workdir, "logs", process+".log"))
	if err != nil {
		r.t.Fatal(err)
	}
	return string(text)
}

// A flipped byte in every snapshot, which is all that is left of the beginning of the
// log: the replica says so, names the file and is made anew from the others.
func TestDamagedSnapshotIsNamedAndReplaced(t *testing.T) {
	t.Parallel()
	const epochs = "spec.train.epochs=8"
	job := writeFile(t, "small.yaml", smallJob)
	want := start(t, nil, "run", job, "--set", epochs).result(limit)
	// A group that was formed from a checkpoint begins with a snapshot.
	r := startIn(t, killedRun(t, job, 50, epochs), nil, "run", "--from-checkpoint")
	victim := r.leaderPast(60, limit)
	atFullSpeed := r.slow()
	r.signal(syscall.SIGSTOP, victim)
	// Each of them: a leader may have sent its own, too, and then one of two is enough.
	for _, snapshot := range files(t, victim, filepath.Join("snapshots", "*", "state.bin")) {
		flipByte(t, snapshot)
	}
	r.signal(syscall.SIGKILL, victim)
	r.until("the server with the damaged snapshot is given a new replica", func() bool { return replicaFolder(t, victim, ".1") })
	atFullSpeed()
	if got := r.result(limit); got.ModelHash != want.ModelHash {
		t.Errorf("model hash %s, want %s", got.ModelHash, want.ModelHash)
	}
	if log := r.logOf(victim.flag("--name")); !strings.Contains(log, "is damaged") || !strings.Contains(log, "snapshots/") {
		t.Errorf("the log does not name the damaged snapshot:\n%s", tail(log, 2000))
	}
}

// diverging is the code that the servers ps-1 run with in TestDivergedReplicaIsNamed
// in the place of accepted: one lane of a step counts twice.
const accepted, diverging = "\tm.put(c)\n\ts.applied = index\n", `	if slices.Contains(os.Args, "ps-1") && m.version == 20 && c.push.ID.Lane == 0 {
		for _, r := range c.push.Rows {
			m.tables[m.tableIndex(r.Table)].table.UpdateRows(nil, r.Keys, r.Counts, r.Grads, m.open())
		}
	}
` + accepted

// divergingBinary builds fathom with a server that computes other bits.
func divergingBinary(t *testing.T) string {
	t.Helper()
	source, err := filepath.Abs("../ps/fsm/apply.go")
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	code := string(b)
	for _, change := range [][2]string{{accepted, diverging}, {"import (\n", "import (\n\t\"os\"\n\t\"slices\"\n"}} {
		if strings.Count(code, change[0]) != 1 {
			t.Fatalf("%s: %q stands there %d times, want once", source, change[0], strings.Count(code, change[0]))
		}
		code = strings.Replace(code, change[0], change[1], 1)
	}
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{source: writeFile(t, "apply.go", code)}})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "fathom")
	out, err := exec.Command("go", "build", "-overlay", writeFile(t, "overlay.json", string(overlay)), "-o", path, "../cmd/fathom").CombinedOutput()
	if err != nil {
		t.Fatalf("build fathom: %v\n%s", err, out)
	}
	return path
}

// A server that computes other bits, as with a faulty processor: it is named, and
// either its replica is replaced and the model is the undisturbed one, or, because
// it has answered pulls, the job ends and says so.
func TestDivergedReplicaIsNamed(t *testing.T) {
	t.Parallel()
	if !allFaults {
		t.Skip("builds the system anew: make faults")
	}
	job := writeFile(t, "small.yaml", smallJob)
	want := start(t, nil, "run", job).result(limit)
	r := startBinary(t, divergingBinary(t), t.TempDir(), nil, "run", job)
	if code := r.wait(limit); code != 0 {
		if text := r.stderr.String(); !strings.Contains(text, "differs between its replicas at step ") || !strings.Contains(text, "the one on ps-1 is wrong") {
			t.Errorf("exit code %d without the name of the replica:\n%s", code, tail(text, 2000))
		}
		return
	}
	if got := r.result(limit); got.ModelHash != want.ModelHash {
		t.Errorf("model hash %s, want %s", got.ModelHash, want.ModelHash)
	}
	if log := r.logOf("ps-1"); !strings.Contains(log, "hold other bits") {
		t.Errorf("the replica does not say why it has stopped:\n%s", tail(log, 2000))
	}
}
