package main

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/fathom-train/fathom/proto"
)

func TestRunTrainsEverySeedAndTellsTheSpread(t *testing.T) {
	t.Parallel()
	f := &fakeControl{watched: []*proto.JobStatus{doneStatus()}}
	a, out, errs := newTestApp(t, f)
	c := &fakeCluster{died: map[string]int{"ps-1": 1}}
	code, dir := runCommand(t, a, c, "--set", "spec.train.seeds=[1, 2, 3]")
	if code != 0 {
		t.Fatalf("code %d, errors:\n%s", code, errs.String())
	}
	if len(f.submits) != 3 || c.stopped != 1 {
		t.Errorf("%d jobs, the cluster stopped %d times", len(f.submits), c.stopped)
	}
	text, err := os.ReadFile(filepath.Join(dir, "result.json"))
	if err != nil {
		t.Fatal(err)
	}
	var s sweep
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	if m := s.Metrics["test"]; len(s.Seeds) != 3 || s.Seeds[2].Seed != 3 || s.Seeds[2].Result.ModelHash == "" || math.Abs(m.AUC-0.7) > 1e-12 || m.AUCDeviation > 1e-12 {
		t.Errorf("result %s", text)
	}
	// What the processes used from start to end is the sweep's; a seed has its job's.
	spent := map[string]float64{"ps": 2.5, "worker": 4}
	for _, one := range s.Seeds {
		if d := cmp.Diff(spent, one.Result.CPUSeconds); d != "" || len(one.Result.Restarts) > 0 {
			t.Errorf("seed %d: restarts %v, cpu seconds (-want +got):\n%s", one.Seed, one.Result.Restarts, d)
		}
	}
	if d := cmp.Diff(map[string]float64{"etcd": 1, "ps": 3}, s.CPUSeconds); d != "" || s.Restarts["ps-1"] != 1 {
		t.Errorf("restarts %v, cpu seconds of all (-want +got):\n%s", s.Restarts, d)
	}
	// Three times 2 epochs of 1,000 samples in the 4 seconds of all processes.
	for _, told := range []string{"0.7000 +- 0.0000", "1,235 parameters, 1,500 samples per second of processor time"} {
		if !strings.Contains(out.String(), told) {
			t.Errorf("no %q in:\n%s", told, out.String())
		}
	}
	for _, line := range strings.Split(out.String(), "\n") {
		if n := utf8.RuneCountInString(line); n > 80 {
			t.Errorf("line of %d characters: %s", n, line)
		}
	}
}

func TestMeanAndDeviationAreThoseOfASample(t *testing.T) {
	if mean, d := meanDeviation([]float64{1, 2, 4, 5}); mean != 3 || math.Abs(d-math.Sqrt(10.0/3)) > 1e-12 {
		t.Errorf("mean %v, deviation %v", mean, d)
	}
	if mean, d := meanDeviation([]float64{7}); mean != 7 || d != 0 {
		t.Errorf("of one: mean %v, deviation %v", mean, d)
	}
}
