package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// measurement is a line of fathom bench.
type measurement struct {
	Bench       string   `json:"bench"`
	Case        string   `json:"case"`
	Threads     int      `json:"threads"`
	Unit        string   `json:"unit"`
	Min         *float64 `json:"min"`
	Median      *float64 `json:"median"`
	Max         *float64 `json:"max"`
	N           int      `json:"n"`
	CPUSeconds  *float64 `json:"cpu_seconds"`
	WallSeconds *float64 `json:"wall_seconds"`
	PerCPU      *float64 `json:"per_cpu"`
	Fathom      string   `json:"fathom"`
	CPU         string   `json:"cpu"`
}

// TestBenchMeasuresEverything runs every benchmark at its smallest and checks
// the form of what it prints, not how fast anything is.
func TestBenchMeasuresEverything(t *testing.T) {
	t.Parallel()
	for kind, want := range map[string]struct {
		cases []string // beginnings
		units []string
	}{
		"kernels": {[]string{"Dot n=", "Add n=", "ReLUGrad n=", "Exp n=", "SigmoidSlice n="}, []string{"GB/s", "ns/element"}},
		"gemm":    {[]string{"square ", "fwd Y=XW ", "dX=dY.Wt ", "dW=Xt.dY ", "fwd head "}, []string{"GFLOP/s"}},
		"table":   {[]string{"insert ", "memory beyond payload ", "lookup ", "LAMB update "}, []string{"rows/s", "B/row"}},
		"fsm":     {[]string{"apply step LAMB lanes=1 ", "apply step LAMB lanes=4 ", "lookup "}, []string{"rows/s"}},
		"wire": {[]string{"encode push ", "parse push ", "encode pull request ", "parse pull request ", "encode pull reply ", "parse pull reply "},
			[]string{"GB/s", "rows/s"}},
		"step":    {[]string{"lr ", "fm ", "deepfm "}, []string{"samples/s"}},
		"cluster": {[]string{"deepfm "}, []string{"samples/s"}},
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			if kind == "cluster" && testing.Short() {
				t.Skip("starts a cluster")
			}
			r := start(t, nil, "bench", kind, "--quick", "--threads", "1")
			if code := r.wait(2 * time.Minute); code != 0 {
				t.Fatalf("exit code %d", code)
			}
			cases, units := map[string]bool{}, map[string]bool{}
			lines := bufio.NewScanner(bytes.NewReader(r.stdout.Bytes()))
			for lines.Scan() {
				m := measurementOf(t, lines.Text())
				if m.Bench != kind {
					t.Errorf("a measurement of %q", m.Bench)
				}
				for _, c := range want.cases {
					if strings.HasPrefix(m.Case, c) {
						cases[c] = true
					}
				}
				units[m.Unit] = true
			}
			for _, c := range want.cases {
				if !cases[c] {
					t.Errorf("nothing measures %q in:\n%s", c, r.stdout.String())
				}
			}
			for _, u := range want.units {
				if !units[u] {
					t.Errorf("nothing is measured in %s", u)
				}
			}
		})
	}
}

// measurementOf parses one line and checks what holds for all.
func measurementOf(t *testing.T, line string) measurement {
	t.Helper()
	var m measurement
	if err := json.Unmarshal([]byte(line), &m); err != nil {
		t.Fatalf("%v in the line %q", err, line)
	}
	for _, v := range []*float64{m.Min, m.Median, m.Max, m.CPUSeconds, m.WallSeconds, m.PerCPU} {
		if v == nil {
			t.Fatalf("a number is missing in %s", line)
		}
	}
	switch {
	case m.Threads < 1, m.N < 1, m.Fathom == "", m.CPU == "":
		t.Errorf("unfinished: %s", line)
	case m.Unit == "B/row":
	case *m.Median <= 0, *m.Min > *m.Median, *m.Median > *m.Max, *m.WallSeconds <= 0:
		t.Errorf("numbers that cannot be: %s", line)
	}
	return m
}

func TestBenchNamesTheNearest(t *testing.T) {
	t.Parallel()
	r := start(t, nil, "bench", "gem")
	if code := r.wait(time.Minute); code != 64 {
		t.Errorf("exit code %d, want 64", code)
	}
	if e := r.stderr.String(); !strings.Contains(e, `no benchmark "gem": did you mean gemm?`) {
		t.Errorf("the error is %s", e)
	}
}
