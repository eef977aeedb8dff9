package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/fathom-train/fathom/proto"
	"github.com/fathom-train/fathom/proto/identity"
)

// fakeCluster is a local cluster without processes.
type fakeCluster struct {
	job     *job.Job
	dir     string
	dead    chan error
	died    map[string]int
	stopErr error
	stopped int
	killed  int
	options clusterOptions
}

func (c *fakeCluster) told(j *job.Job, dir string, o clusterOptions) map[string]int {
	c.job, c.dir, c.options = j, dir, o
	return c.died
}

func (c *fakeCluster) coordinators() []string     { return []string{"c:1"} }
func (c *fakeCluster) identity() *identity.Source { return nil }
func (c *fakeCluster) failed() <-chan error       { return c.dead }
func (c *fakeCluster) restarts() map[string]int   { return c.died }
func (c *fakeCluster) kill()                      { c.killed++ }
func (c *fakeCluster) stop() (map[string]float64, error) {
	c.stopped++
	return map[string]float64{"etcd": 1, "ps": 3}, c.stopErr
}

// runCommand runs `fathom run` of the small job on the cluster.
func runCommand(t *testing.T, a *app, c interface {
	cluster
	told(*job.Job, string, clusterOptions) map[string]int
}, args ...string) (code int, dir string) {
	t.Helper()
	a.startCluster = func(_ context.Context, j *job.Job, dir string, o clusterOptions, restarted func(string, int)) (cluster, error) {
		for p, n := range c.told(j, dir, o) {
			restarted(p, n)
		}
		return c, os.MkdirAll(filepath.Join(dir, dataDir, "ps-0"), 0o700)
	}
	dir = filepath.Join(t.TempDir(), "work")
	return a.execute(append([]string{"run", writeJob(t, smallSpec), "--workdir", dir}, args...)), dir
}

func TestRunTrainsAndReports(t *testing.T) {
	t.Parallel()
	f := &fakeControl{watched: []*proto.JobStatus{training(1), doneStatus()}}
	a, out, errs := newTestApp(t, f)
	c := &fakeCluster{died: map[string]int{"ps-1": 1}}
	code, dir := runCommand(t, a, c, "-o", "json", "--workers", "5", "--set", "spec.train.epochs=3")
	if code != 0 {
		t.Fatalf("code %d, errors:\n%s", code, errs.String())
	}
	if c.job.Spec.Cluster.Workers != 5 || c.job.Spec.Cluster.PS != 3 || c.job.Spec.Train.Epochs != 3 {
		t.Errorf("started %+v with %d epochs", c.job.Spec.Cluster, c.job.Spec.Train.Epochs)
	}
	var printed, written result
	text, err := os.ReadFile(filepath.Join(dir, "result.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(json.Unmarshal([]byte(out.String()), &printed), json.Unmarshal(text, &written)); err != nil {
		t.Fatalf("%v in\n%s\nor\n%s", err, out.String(), text)
	}
	if d := cmp.Diff(printed, written); d != "" {
		t.Errorf("printed and written results differ:\n%s", d)
	}
	if d := cmp.Diff(map[string]float64{"etcd": 1, "ps": 3, "worker": 4}, written.CPUSeconds); d != "" || written.Restarts["ps-1"] != 1 {
		t.Errorf("restarts %v, cpu seconds (-want +got):\n%s", written.Restarts, d)
	}
	for line := range strings.Lines(errs.String()) {
		if !json.Valid([]byte(line)) {
			t.Errorf("progress line %q is not JSON", line)
		}
	}
	if !strings.Contains(errs.String(), `"process":"ps-1","restarts":1`) {
		t.Errorf("the restart was not told:\n%s", errs.String())
	}
	if _, err := os.Stat(filepath.Join(dir, dataDir)); !errors.Is(err, os.ErrNotExist) || c.stopped != 1 || c.killed != 0 {
		t.Errorf("data %v, stopped %d times, killed %d times", err, c.stopped, c.killed)
	}
}

func TestRunKeepsTheDataWhenAsked(t *testing.T) {
	t.Parallel()
	a, out, errs := newTestApp(t, &fakeControl{watched: []*proto.JobStatus{doneStatus()}})
	code, dir := runCommand(t, a, &fakeCluster{}, "--keep")
	if _, err := os.Stat(filepath.Join(dir, dataDir)); err != nil || code != 0 {
		t.Errorf("code %d, data %v", code, err)
	}
	if !strings.Contains(errs.String(), "working in "+dir) || !strings.Contains(out.String(), "small: done in") {
		t.Errorf("output %q, errors %q", out.String(), errs.String())
	}
}

func TestRunThatFails(t *testing.T) {
	t.Parallel()
	dead := make(chan error, 1)
	dead <- errors.New("ps-1 ended 5 times")
	for name, c := range map[string]struct {
		last    *proto.JobStatus
		cluster fakeCluster
		code    int
		errs    []string
	}{
		"job":     {&proto.JobStatus{Job: "small", Phase: proto.Phase_PHASE_FAILED, Error: "no space"}, fakeCluster{}, 1, []string{"small failed: no space", "logs are in"}},
		"data":    {&proto.JobStatus{Job: "small", Phase: proto.Phase_PHASE_FAILED, Error: "x.csv:3", ErrorIsInput: true}, fakeCluster{}, 64, []string{"x.csv:3"}},
		"process": {training(1), fakeCluster{dead: dead}, 1, []string{"ps-1 ended 5 times"}},
		"stop":    {doneStatus(), fakeCluster{stopErr: errors.New("etcd does not stop")}, 1, []string{"etcd does not stop"}},
	} {
		f := &fakeControl{watched: []*proto.JobStatus{c.last}, wait: c.cluster.dead != nil}
		a, out, errs := newTestApp(t, f)
		code, dir := runCommand(t, a, &c.cluster)
		if code != c.code || out.String() != "" || c.cluster.stopped != 1 {
			t.Errorf("%s: code %d, output %q, stopped %d times", name, code, out.String(), c.cluster.stopped)
		}
		for _, want := range c.errs {
			if !strings.Contains(errs.String(), want) {
				t.Errorf("%s: %q is missing in:\n%s", name, want, errs.String())
			}
		}
		if _, err := os.Stat(filepath.Join(dir, "result.json")); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: result.json was written: %v", name, err)
		}
	}
}

func TestRunInterrupted(t *testing.T) {
	t.Parallel()
	f := &fakeControl{watched: []*proto.JobStatus{training(1)}, wait: true}
	a, _, errs := newTestApp(t, f)
	f.told = func() { a.interrupts.raise() }
	c := &fakeCluster{}
	code, _ := runCommand(t, a, c)
	if code != exitInterrupted || c.stopped != 1 || len(f.canceled) != 1 {
		t.Errorf("code %d, stopped %d times, cancelled %v, errors:\n%s", code, c.stopped, f.canceled, errs.String())
	}
	if a.interrupts.raise(); c.killed != 1 {
		t.Error("a second interrupt must kill the cluster")
	}
}

func TestRunRefusesAUsedDirectory(t *testing.T) {
	t.Parallel()
	a, _, errs := newTestApp(t, nil)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if code := a.execute([]string{"run", writeJob(t, smallSpec), "--workdir", dir}); code != exitInput || !strings.Contains(errs.String(), "not empty") {
		t.Errorf("code %d, errors %q", code, errs.String())
	}
}

func TestRunMakesADirectoryOfItsOwn(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	dir, err := makeWorkdir("")
	if err != nil || filepath.Dir(dir) != os.TempDir() {
		t.Errorf("made %s, %v", dir, err)
	}
}
