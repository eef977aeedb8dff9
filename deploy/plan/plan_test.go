package plan_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/fathom-train/fathom/deploy/plan"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func parse(t *testing.T, sets ...string) *job.Job {
	t.Helper()
	j, err := job.Parse("test.yaml", []byte(`apiVersion: fathom.dev/v1alpha1
kind: TrainingJob
metadata: {name: test}
spec:
  data: {format: synthetic, synthetic: {train_rows: 10}}
  cluster: {ps: 3, workers: 2}
`), sets)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func TestPlanIsGolden(t *testing.T) {
	p, err := plan.New(parse(t), plan.Options{Threads: 2, LogLevel: "debug"})
	if err != nil {
		t.Fatal(err)
	}
	number := map[plan.Port]int{}
	for i, port := range p.Ports() {
		number[port] = 7000 + i
	}
	address := func(port plan.Port) string { return fmt.Sprintf("127.0.0.1:%d", number[port]) }
	var b strings.Builder
	for _, q := range p.Processes {
		fmt.Fprintf(&b, "%s (%s) data=%v restart=%v\n  %s\n  %s\n", q.Name, q.Role, q.Data, q.Restart,
			strings.Join(q.Args, " "), strings.Join(p.Expand(q.Args, address, "/data/"+q.Name, "/credentials/"+q.Name), " "))
	}
	const golden = "testdata/plan.golden"
	if *update {
		if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), b.String()); diff != "" {
		t.Errorf("plan (-want +got), -update rewrites it:\n%s", diff)
	}
	if strings.ContainsAny(b.String()[strings.LastIndex(b.String(), "\n  "):], "{}") {
		t.Error("a symbol is left after Expand")
	}
}

func TestPlanHasWhatTheJobAsksFor(t *testing.T) {
	p, err := plan.New(parse(t, "spec.cluster={ps: 5, workers: 7}"), plan.Options{})
	if err != nil {
		t.Fatal(err)
	}
	count, names := map[plan.Role]int{}, map[string]bool{}
	stage := map[plan.Role]int{}
	for i, r := range plan.Roles() {
		stage[r] = i
	}
	last := 0
	for _, q := range p.Processes {
		count[q.Role]++
		if names[q.Name] {
			t.Errorf("two processes are called %s", q.Name)
		}
		names[q.Name] = true
		if stage[q.Role] < last {
			t.Errorf("%s comes after a process that needs it", q.Name)
		}
		last = stage[q.Role]
	}
	want := map[plan.Role]int{plan.Etcd: 1, plan.Coordinator: 1, plan.PS: 5, plan.Worker: 7}
	if diff := cmp.Diff(want, count); diff != "" {
		t.Errorf("processes (-want +got):\n%s", diff)
	}
}

func TestPlanRefuses(t *testing.T) {
	for _, o := range []plan.Options{{Threads: -1}, {Threads: 2000}, {LogLevel: "loud"}} {
		if _, err := plan.New(parse(t), o); !errors.Is(err, plan.ErrOptions) {
			t.Errorf("%+v: got %v", o, err)
		}
	}
	if _, err := plan.New(&job.Job{}, plan.Options{}); !errors.Is(err, job.ErrInvalid) {
		t.Errorf("empty job: got %v", err)
	}
}
