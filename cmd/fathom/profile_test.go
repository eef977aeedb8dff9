package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fathom-train/fathom/proto"
)

// TestProcessWritesItsProfiles is not parallel: a process has one CPU profile.
func TestProcessWritesItsProfiles(t *testing.T) {
	dir := t.TempDir()
	for range 2 {
		stop, err := startProfile(dir, "ps-0")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := startProfile(dir, "other"); err == nil {
			t.Error("two CPU profiles at once")
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		os.Remove(filepath.Join(dir, "other.cpu.pprof"))
	}
	for _, prefix := range []string{"ps-0", "ps-0-2"} {
		for _, kind := range []string{"cpu", "heap", "mutex", "block"} {
			if i, err := os.Stat(filepath.Join(dir, prefix+"."+kind+".pprof")); err != nil || i.Size() == 0 {
				t.Errorf("profile %s of %s: %v", kind, prefix, err)
			}
		}
	}
	if _, err := makeProfileDir(dir); exitCode(err) != exitInput {
		t.Errorf("a directory with profiles: %v", err)
	}
	if _, err := startProfile(filepath.Join(dir, "absent"), "x"); err == nil {
		t.Error("profiles in a directory that is not there")
	}
	if stop, err := startProfile("", "x"); err != nil || stop() != nil {
		t.Errorf("no profile: %v", err)
	}
}

func TestExpositionIsRead(t *testing.T) {
	t.Parallel()
	got, err := parseExposition(strings.NewReader("# HELP a b\n\na 1\nb{x=\"} y\",z=\"2\"} 2.5e3 1700000000\n b_inf +Inf\n"))
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != 3 || got["a"] != 1 || got[`b{x="} y",z="2"}`] != 2500 {
		t.Errorf("got %v", got)
	}
	for _, bad := range []string{"nothing", "a{b=\"c\"}", "a b", " "} {
		if got, err := parseExposition(strings.NewReader(bad)); (err == nil) != (bad == " ") {
			t.Errorf("%q: %v, %v", bad, got, err)
		}
	}
}

// observedCluster is a cluster of fakes with endpoints.
type observedCluster struct {
	*fakeCluster
	addresses map[string]string
}

func (c observedCluster) metricsAddresses() map[string]string { return c.addresses }

func TestRunShowsWhereTheTimeWent(t *testing.T) {
	t.Parallel()
	serve := func(text string) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/metrics" {
				fmt.Fprint(w, text)
			}
		}))
		t.Cleanup(s.Close)
		return strings.TrimPrefix(s.URL, "http://")
	}
	stages := func(pull, compute, n int) string {
		const m = "fathom_trainer_stage_seconds"
		return fmt.Sprintf("%s_sum{stage=\"pull\"} %d\n%s_count{stage=\"pull\"} %d\n%s_sum{stage=\"compute\"} %d\n%s_count{stage=\"compute\"} %d\n",
			m, pull, m, n, m, compute, m, n)
	}
	c := observedCluster{&fakeCluster{}, map[string]string{
		"worker-0": serve(stages(2, 4, 10)), "worker-1": serve(stages(1, 1, 20)),
		"ps-0": serve("fathom_ps_push_seconds_sum 3\nfathom_ps_push_seconds_count 6\nfathom_replica_apply_seconds_total 0.5\nfathom_ps_cpu_seconds_total 9\nother_seconds_sum 1\n"),
		"ps-1": "127.0.0.1:1", "etcd": serve("a 1\n"),
	}}
	status := doneStatus()
	status.TrainSeconds = 10
	a, out, errs := newTestApp(t, &fakeControl{watched: []*proto.JobStatus{status}})
	dir := filepath.Join(t.TempDir(), "profiles")
	code, _ := runCommand(t, a, c, "--profile", dir)
	if code != 0 {
		t.Fatalf("code %d: %s", code, errs.String())
	}
	if c.options.profileDir != dir {
		t.Errorf("the processes were told to write profiles to %q", c.options.profileDir)
	}
	got := newProfileReport(t.Context(), dir, c, 10)
	want := &profileReport{Dir: dir, Missing: []string{"ps-1"},
		Stages: []stageTime{
			{Stage: "pull", Count: 30, Seconds: 3, Share: 0.375, Underway: 0.15},
			{Stage: "compute", Count: 30, Seconds: 5, Share: 0.625, Underway: 0.25},
		},
		Server: []stageTime{
			{Stage: "ps_push", Count: 6, Seconds: 3, Underway: 0.3},
			{Stage: "replica_apply", Seconds: 0.5, Underway: 0.05},
		}}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("report (-want +got):\n%s", d)
	}
	for _, line := range want.lines() {
		if !strings.Contains(out.String(), clip(line, 80)) {
			t.Errorf("line %q is missing in:\n%s", line, out.String())
		}
	}
}
