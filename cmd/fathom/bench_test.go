package main

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/fathom-train/fathom/proto"
)

// TestBenchPrintsALineForEveryMeasurement is not parallel: the benchmarks set
// how many processors are used.
func TestBenchPrintsALineForEveryMeasurement(t *testing.T) {
	code, out, errs := command(t, &fakeControl{}, "bench", "--quick", "--threads", "1,2", "--model", "fm,deepfm", "--shards", "2", "--lanes", "2")
	if code != 0 {
		t.Fatalf("code %d: %s", code, errs)
	}
	seen := map[string]int{}
	for line := range strings.Lines(out) {
		var m measurement
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		seen[m.Bench]++
		if m.Unit != "B/row" && (m.Median <= 0 || m.Min > m.Median || m.Median > m.Max || m.N < 1 || m.CPU == "" || m.Fathom == "") {
			t.Errorf("measurement %s", line)
		}
	}
	for _, k := range benchKinds {
		if (seen[k.name] > 0) == k.alone {
			t.Errorf("%d measurements of %s", seen[k.name], k.name)
		}
	}
	code, out, _ = command(t, &fakeControl{}, "bench", "wire", "--quick", "-o", "text")
	if head, _, _ := strings.Cut(out, "\n"); code != 0 || !strings.HasPrefix(head, "wire") || !strings.Contains(out, "parse push") {
		t.Errorf("code %d, table:\n%s", code, out)
	}
}

func TestBenchRefuses(t *testing.T) {
	t.Parallel()
	for want, args := range map[string][]string{
		`no benchmark "kernel": did you mean kernels?`: {"kernel"},
		`no benchmark "zzzzzzz": want kernels, gemm`:   {"zzzzzzz"},
		`no model "deepfn": did you mean deepfm?`:      {"step", "--model", "deepfn"},
		"--reps 0 is not in [1, 1000]":                 {"--reps", "0"},
		"--threads 0 is not in":                        {"--threads", "0"},
		"--ps 1 is not in [3, 256]":                    {"cluster", "--ps", "1", "--replicas", "3"},
	} {
		code, _, errs := command(t, &fakeControl{}, append([]string{"bench"}, args...)...)
		if code != exitInput || !strings.Contains(errs, want) {
			t.Errorf("%q: code %d, want %q in %s", args, code, want, errs)
		}
	}
}

func TestMedianAndRates(t *testing.T) {
	t.Parallel()
	if got := []float64{median([]float64{3, 1, 2}), median([]float64{4, 1, 2, 3}), median([]float64{5})}; !cmp.Equal(got, []float64{2, 2.5, 5}) {
		t.Errorf("medians %v", got)
	}
	if !math.IsNaN(median([]float64{1, math.NaN()})) || !math.IsNaN(median(nil)) {
		t.Error("a median of what is not known")
	}
	a, out, _ := newTestApp(t, &fakeControl{})
	b := newBencher(a, &benchFlags{output: outputJSON})
	b.kind = "k"
	all := []repeat{{work: 10, wall: 2, cpu: 1, others: 0.5}, {work: 10, wall: 5, cpu: 2, others: 0.5}}
	for _, c := range []benchCase{{name: "rate", threads: 1, unit: "x/s"}, {name: "time", threads: 1, unit: "ns/x", perItem: true}} {
		if err := b.report(c, all); err != nil {
			t.Fatal(err)
		}
	}
	var rate, each measurement
	lines := strings.Split(out.String(), "\n")
	if err := json.Unmarshal([]byte(lines[0]), &rate); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(lines[1]), &each); err != nil {
		t.Fatal(err)
	}
	if rate.Min != 2 || rate.Median != 3.5 || rate.Max != 5 || rate.PerCPU != 7.5 || rate.CPUSeconds != 3 || rate.WallSeconds != 7 || *rate.Others != 0.5 {
		t.Errorf("rate %s", lines[0])
	}
	if each.Min != 2e8 || each.Max != 5e8 || each.PerCPU != 1.5e8 {
		t.Errorf("time %s", lines[1])
	}
}

func TestGeneratedSamplesFollowZipf(t *testing.T) {
	t.Parallel()
	d, err := writeBenchData(t.TempDir(), 10, 512, 4)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(d.dir, d.file))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), "\n"); n != 1+4*512 || !strings.HasPrefix(string(text), "label,f0,f1,") {
		t.Errorf("%d lines", n)
	}
	if d.distinct < 100 || d.distinct > 10*512 {
		t.Errorf("%v different values in a batch", d.distinct)
	}
	counts := make([]int, 100)
	for _, v := range drawZipf(100_000, 100, 1) {
		counts[v]++
	}
	if r := float64(counts[0]) / float64(counts[9]); r < 9 || r > 14 { // 10^1.05 = 11.2
		t.Errorf("the first value is %v times as frequent as the tenth", r)
	}
	sum := 0
	for _, n := range fieldSizes(39) {
		sum += n
	}
	if sum != 1_000_000 {
		t.Errorf("39 fields have %d values", sum)
	}
	if names, err := d.repeated(3); err != nil || len(names) != 3 {
		t.Errorf("repeated: %v, %v", names, err)
	}
}

// fakeMetrics is a cluster of a worker and a server that export what the test
// says at the time.
func fakeMetrics(t *testing.T, export func(name string) map[string]float64) observed {
	c := observedCluster{addresses: map[string]string{}}
	for _, name := range []string{"worker-0", "ps-0"} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			for series, v := range export(name) {
				fmt.Fprintln(w, series, v)
			}
		}))
		t.Cleanup(s.Close)
		c.addresses[name] = strings.TrimPrefix(s.URL, "http://")
	}
	return c
}

func TestClusterIsMeasuredBetweenItsEdges(t *testing.T) {
	t.Parallel()
	j := &job.Job{Spec: job.Spec{Train: job.Train{BatchSize: 100, Lanes: 4}}}
	lanes, cpu := 0.0, 0.0
	m := &clusterWatch{job: j, reps: 2, steps: 100}
	m.cluster = fakeMetrics(t, func(name string) map[string]float64 {
		return map[string]float64{cpuSecondsMetric: cpu, pushedLanes: map[bool]float64{true: lanes}[name == "worker-0"]}
	})
	see := func(step uint64, phase proto.Phase) error {
		lanes, cpu = 4*float64(step), float64(step)/10
		return m.see(t.Context(), &proto.JobStatus{Step: step, Phase: phase})
	}
	training := proto.Phase_PHASE_TRAINING
	for _, step := range []uint64{0, 3, 16, 17, 40, 60} {
		if err := see(step, training); err != nil {
			t.Fatal(err)
		}
	}
	if err := see(97, training); err != errMeasured {
		t.Fatalf("after the last edge: %v", err)
	}
	if err := m.check(); err != nil {
		t.Error(err)
	}
	if len(m.repeats) != 2 || m.repeats[0].work != 4400 || m.repeats[1].work != 3700 || m.measuredSteps() != 81 {
		t.Errorf("repeats %+v of %v steps", m.repeats, m.measuredSteps())
	}
	if d := cmp.Diff(8.1, m.cpuByRole()["worker"], cmp.Comparer(func(a, b float64) bool { return math.Abs(a-b) < 1e-9 })); d != "" {
		t.Errorf("cpu seconds of the workers:\n%s", d)
	}

	// Over before anything was seen but its beginning.
	m = &clusterWatch{job: j, reps: 2, steps: 100, cluster: m.cluster}
	if err := m.check(); err == nil {
		t.Error("nothing was measured, and that is fine")
	}
	if err := see(2, training); err != nil {
		t.Fatal(err)
	}
	if err := see(100, proto.Phase_PHASE_DONE); err != errMeasured || len(m.repeats) != 1 || m.repeats[0].work != 9800 {
		t.Errorf("%v, repeats %+v", err, m.repeats)
	}
	name := "ps-0"
	m.died.Store(&name)
	if err := m.check(); err == nil || !strings.Contains(err.Error(), "ps-0 died") {
		t.Errorf("after a death: %v", err)
	}
	if err := see(3, proto.Phase_PHASE_FAILED); err == nil || err == errMeasured {
		t.Errorf("a job that failed: %v", err)
	}
}

func TestRoundsFillARepeat(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		wall   float64
		rounds int
		want   int
	}{{1, 1, 1}, {0.05, 1, 6}, {1e-9, 1, 10}, {0.001, 100, 1000}, {0.2, 100, 150}} {
		if got := roundsFor(300*time.Millisecond, c.wall, c.rounds); got != c.want {
			t.Errorf("%d rounds of %v s: then %d, want %d", c.rounds, c.wall, got, c.want)
		}
	}
}
