package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"

	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/fathom-train/fathom/proto"
)

func TestFaultsAreAFunctionOfTheSeed(t *testing.T) {
	j := &job.Job{}
	j.Spec.Cluster = job.Cluster{Workers: 2, PS: 3}
	a, b, other := drawFaults(4, 200, false, j), drawFaults(4, 200, false, j), drawFaults(5, 200, false, j)
	if !reflect.DeepEqual(a, b) || reflect.DeepEqual(a, other) {
		t.Error("the same seed must give the same faults, another seed others")
	}
	seen := map[string]bool{}
	for i, f := range a {
		for _, n := range f.names {
			seen[n] = true
		}
		seen[string(f.kind)] = true
		if f.at < 0 || f.at >= 1 || i > 0 && f.at < a[i-1].at {
			t.Errorf("fault %d is due at %v of the job", i, f.at)
		}
	}
	for _, f := range drawFaults(4, 20, true, j) {
		if f.kind != kindLeader || f.names != nil {
			t.Errorf("a fault of leaders only is %s", f)
		}
	}
	for _, want := range []string{"etcd", "coordinator", "ps-0", "ps-1", "ps-2", "worker-0", "worker-1", string(kindKill), string(kindStop), string(kindLeader)} {
		if !seen[want] {
			t.Errorf("200 faults never name %q", want)
		}
	}
}

func TestChaosReportTellsWhetherTheModelIsTheSame(t *testing.T) {
	for _, c := range []struct{ got, verdict string }{{strings.Repeat("a", 32), "the same model"}, {strings.Repeat("b", 32), "ANOTHER MODEL"}} {
		r := &chaosReport{Expected: strings.Repeat("a", 32), Got: c.got, Faults: []chaosOutcome{
			{Fault: "kill -9 ps-0", Made: true, Step: 7, Effect: "paused", Recovery: 0.5},
			{Fault: "kill -9 ps-1", Made: true, Step: 9, Effect: "paused", Recovery: 2},
			{Fault: "kill -9 etcd", Made: true, Step: 11, Effect: "no pause"},
			{Fault: "kill -9 ps-2, leader of shard 0", Effect: "not made: it was down"}, // the longest
		}}
		r.finish()
		if r.Made != 3 || r.Recovery.Median != 2 || r.Recovery.Max != 2 {
			t.Errorf("%d made, recovery %+v", r.Made, r.Recovery)
		}
		var out bytes.Buffer
		if err := (&app{out: &out}).printChaos(outputText, r); err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"kill -9 ps-0", "0.50s", "3 of 4 faults made", c.verdict} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("%q is missing in\n%s", want, out.String())
			}
		}
		for line := range strings.Lines(out.String()) {
			if n := len(strings.TrimSpace(line)); n > 80 {
				t.Errorf("a line of %d columns does not fit a terminal:\n%s", n, line)
			}
		}
	}
}

func TestChaosRefusesABadCommandLine(t *testing.T) {
	for _, f := range []chaosFlags{{faults: 0}, {faults: 1, hash: "abc"}} {
		if err := f.check(); exitCode(err) != exitInput {
			t.Errorf("%+v is refused with %v", f, err)
		}
	}
	// A cluster whose processes cannot be signalled is refused, too.
	m := &faultMaker{}
	if _, err := m.start(context.Background(), struct{ cluster }{}, ""); err == nil || errors.Is(err, errInterrupted) {
		t.Errorf("start: %v", err)
	}
}

// killableCluster is a fake whose processes take signals.
type killableCluster struct{ *fakeCluster }

func (killableCluster) Signal(string, syscall.Signal) error { return nil }
func (killableCluster) servers() map[string]string          { return nil }

// What was found out is told also when the cluster did not stop in order. The
// servers' data are deleted when all went well only.
func TestChaosReportsBeforeItComplains(t *testing.T) {
	for name, stopErr := range map[string]error{"in order": nil, "killed": errors.New("ps-0 had to be killed")} {
		t.Run(name, func(t *testing.T) {
			a, out, errs := newTestApp(t, &fakeControl{watched: []*proto.JobStatus{doneStatus()}})
			c := killableCluster{&fakeCluster{stopErr: stopErr}}
			a.startCluster = func(_ context.Context, _ *job.Job, dir string, _ clusterOptions, _ func(string, int)) (cluster, error) {
				return c, os.MkdirAll(filepath.Join(dir, dataDir, "ps-0"), 0o700)
			}
			dir := filepath.Join(t.TempDir(), "work")
			code := a.execute([]string{"chaos", writeJob(t, smallSpec), "--faults", "2", "--workdir", dir})
			if !strings.Contains(out.String(), "the same model") || c.stopped != 2 {
				t.Errorf("stopped %d times, printed:\n%s", c.stopped, out.String())
			}
			data, err := filepath.Glob(filepath.Join(dir, "*", dataDir))
			if err != nil {
				t.Fatal(err)
			}
			if stopErr == nil && (code != exitDone || len(data) != 0) {
				t.Errorf("exit code %d, left are %v: %s", code, data, errs.String())
			}
			if stopErr != nil && (code != exitFailed || len(data) != 2 || !strings.Contains(errs.String(), stopErr.Error())) {
				t.Errorf("exit code %d, left are %v: %s", code, data, errs.String())
			}
		})
	}
}
