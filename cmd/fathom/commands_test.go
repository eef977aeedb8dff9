package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/fathom-train/fathom/deploy/local"
	"github.com/fathom-train/fathom/proto"
	"github.com/fathom-train/fathom/worker/dataset"
)

func TestExitCodes(t *testing.T) {
	t.Parallel()
	wrap := func(err error) error { return fmt.Errorf("around: %w", err) }
	for name, c := range map[string]struct {
		err  error
		want int
	}{
		"done":             {nil, 0},
		"usage":            {usageError{errors.New("x"), "fathom x"}, 64},
		"input":            {wrap(inputError{errors.New("x")}), 64},
		"faulty spec":      {wrap(&job.Faults{}), 64},
		"faulty data":      {wrap(&dataset.InputError{}), 64},
		"refused spec":     {wrap(status.Error(codes.InvalidArgument, "x")), 64},
		"failed":           {errors.New("x"), 1},
		"unreachable":      {wrap(status.Error(codes.Unavailable, "x")), 1},
		"interrupted":      {wrap(errInterrupted), 130},
		"interrupted, too": {errors.Join(errors.New("stop"), errInterrupted), 130},
	} {
		if got := exitCode(c.err); got != c.want {
			t.Errorf("%s: exit code %d, want %d", name, got, c.want)
		}
	}
}

func TestErrorsAreOneLinePerFaultWithoutDecoration(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err  error
		want string
	}{
		"plain":    {errors.New("x: y"), "fathom: x: y\n"},
		"faults":   {&job.Faults{List: []job.Fault{{Path: "a", Message: "b"}, {Path: "c", Message: "d"}}}, "fathom: a: b\nfathom: c: d\n"},
		"rpc":      {fmt.Errorf("submit: %w", status.Error(codes.AlreadyExists, "job x is active")), "fathom: submit: job x is active\n"},
		"mute rpc": {status.Error(codes.Unavailable, ""), "fathom: unavailable\n"},
		"usage":    {usageError{errors.New("what?"), "fathom x Y"}, "fathom: what?\nfathom: usage: fathom x Y; --help says more\n"},
		"none":     {nil, ""},
	} {
		var out lockedBuffer
		report(&out, c.err)
		if out.String() != c.want {
			t.Errorf("%s: %q, want %q", name, out.String(), c.want)
		}
	}
}

func TestCommandLineFaults(t *testing.T) {
	t.Setenv(coordinatorEnv, "")
	for _, c := range []struct{ line, want string }{
		{"nonsense", "nonsense"},
		{"status --nonsense", "nonsense"},
		{"status -o yaml", "text or json"},
		{"status", "FATHOM_COORDINATOR"},
		{"submit", "usage: fathom submit JOB.yaml"},
		{"cancel a b", "accepts 1 arg"},
		{"coordinator --name c", "etcd"},
		{"ps --name a", "data-dir"},
		{"worker --name a --log-level info+1", "info+1"},
		{"run /no/such/job.yaml", "/no/such/job.yaml"},
		{"job validate /no/such/job.yaml", "/no/such/job.yaml"},
	} {
		code, out, errs := command(t, &fakeControl{}, strings.Fields(c.line)...)
		if code != exitInput || !strings.Contains(errs, c.want) || out != "" {
			t.Errorf("%s: code %d, want 64 and %q in:\n%s%s", c.line, code, c.want, errs, out)
		}
		for line := range strings.Lines(errs) {
			if !strings.HasPrefix(line, "fathom: ") {
				t.Errorf("%s: line %q is not one of ours", c.line, line)
			}
		}
	}
}

func TestHelpIsNoError(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{{}, {"--help"}, {"run", "--help"}, {"job"}, {"data"}, {"completion", "bash"}} {
		code, out, errs := command(t, nil, args...)
		if code != 0 || out == "" || errs != "" {
			t.Errorf("%v: code %d, %d bytes of output, errors %q", args, code, len(out), errs)
		}
	}
}

// writeJob writes the small job as a file (JSON is YAML).
func writeJob(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "job.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestSubmitHandsOverTheResolvedJob(t *testing.T) {
	t.Parallel()
	f := &fakeControl{}
	path := writeJob(t, strings.Replace(smallSpec, `"format"`, `"root":"sub","format"`, 1))
	code, out, errs := command(t, f, "submit", path, "--coordinator", "127.0.0.1:1", "--insecure", "--set", "spec.train.epochs=7")
	if code != 0 || out != "small\n" {
		t.Fatalf("code %d, output %q, errors %q", code, out, errs)
	}
	j, err := job.FromJSON(f.submits[0])
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(filepath.Dir(path), "sub"); j.Spec.Train.Epochs != 7 || j.Spec.Data.Root != want {
		t.Errorf("submitted %d epochs and root %s, want 7 and %s", j.Spec.Train.Epochs, j.Spec.Data.Root, want)
	}
	if !f.closed {
		t.Error("the connection was left open")
	}
}

func TestSubmitReportsEveryFault(t *testing.T) {
	t.Parallel()
	path := writeJob(t, strings.NewReplacer(`"epochs":2`, `"epochs":-1`, `"lr"`, `"lrr"`).Replace(smallSpec))
	code, _, errs := command(t, &fakeControl{}, "submit", path, "--coordinator", "127.0.0.1:1", "--insecure")
	if code != exitInput || strings.Count(errs, "fathom: "+path+":") != 2 {
		t.Errorf("code %d, errors:\n%s", code, errs)
	}
}

func TestJobCommands(t *testing.T) {
	t.Parallel()
	path := writeJob(t, smallSpec)
	code, out, errs := command(t, nil, "job", "validate", path)
	if code != 0 || !strings.Contains(out, "job small is valid, digest ") {
		t.Errorf("validate: %d %q %q", code, out, errs)
	}
	code, again, _ := command(t, nil, "job", "validate", path, "-o", "json", "--set", "spec.cluster.workers=9")
	var digest struct {
		Digest string `json:"spec_digest"`
	}
	if err := json.Unmarshal([]byte(again), &digest); err != nil || code != 0 || !strings.Contains(out, digest.Digest) {
		t.Errorf("validate -o json: %d %q %v, want the digest of %q", code, again, err, out)
	}
	if code, out, errs := command(t, nil, "job", "explain", path); code != 0 || !strings.Contains(out, "batch_size: 100") {
		t.Errorf("explain: %d %q %q", code, out, errs)
	}
	if code, _, _ := command(t, nil, "job", "explain", path, "--train-rows", "-1"); code != exitInput {
		t.Errorf("explain with negative rows: %d, want 64", code)
	}
	code, out, _ = command(t, nil, "job", "schema")
	if code != 0 || !json.Valid([]byte(out)) {
		t.Errorf("schema: %d %q", code, out)
	}
}

func TestJobFromStandardInput(t *testing.T) {
	t.Parallel()
	a, out, errs := newTestApp(t, nil)
	a.in = strings.NewReader(smallSpec)
	if code := a.execute([]string{"job", "validate", "-"}); code != 0 || !strings.Contains(out.String(), "valid") {
		t.Errorf("code %d, %q %q", code, out.String(), errs.String())
	}
	a, _, errs = newTestApp(t, nil)
	a.in = strings.NewReader(strings.Repeat("#", jobBytesMax+1))
	if code := a.execute([]string{"job", "validate", "-"}); code != exitInput || !strings.Contains(errs.String(), "larger than") {
		t.Errorf("code %d of a huge job, %q", code, errs.String())
	}
}

func TestListStatusAndCancel(t *testing.T) {
	t.Parallel()
	waiting := &proto.JobStatus{Job: "next", Phase: proto.Phase_PHASE_PENDING, Steps: 1000, CreatedUnixNano: start.Add(-90e9).UnixNano()}
	f := &fakeControl{jobs: []*proto.JobStatus{waiting, doneStatus()}}
	_, out, _ := command(t, f, "list", "--coordinator", "127.0.0.1:1", "--insecure")
	want := `job    phase       step  valid auc    age
next   pending  0/1,000          -  1m30s
small  done       20/20     0.7100   0.0s
`
	if out != want {
		t.Errorf("list:\n%swant:\n%s", out, want)
	}
	var jobs []jobJSON
	_, out, _ = command(t, f, "list", "--coordinator", "127.0.0.1:1", "--insecure", "-o", "json")
	if err := json.Unmarshal([]byte(out), &jobs); err != nil || len(jobs) != 2 || jobs[1].ModelHash == "" || jobs[1].Scores[1].AUC != 0.71 {
		t.Errorf("list -o json: %v\n%s", err, out)
	}
	if _, out, _ = command(t, f, "status", "--coordinator", "127.0.0.1:1", "--insecure"); !strings.HasPrefix(out, "next  pending\n") {
		t.Errorf("status of the newest:\n%s", out)
	}
	if _, out, _ = command(t, f, "status", "small", "--coordinator", "127.0.0.1:1", "--insecure"); !strings.Contains(out, "model    0011") {
		t.Errorf("status of a job that is done:\n%s", out)
	}
	code, _, errs := command(t, f, "status", "other", "--coordinator", "127.0.0.1:1", "--insecure")
	if code != exitFailed || errs != "fathom: get job status: no job \"other\"\n" {
		t.Errorf("status of no job: %d %q", code, errs)
	}
	code, out, _ = command(t, f, "cancel", "next", "--coordinator", "127.0.0.1:1", "--insecure")
	if code != 0 || len(f.canceled) != 1 || !strings.Contains(out, "next  cancelled") {
		t.Errorf("cancel: %d %v %q", code, f.canceled, out)
	}
}

func TestWatchEndsLikeTheJob(t *testing.T) {
	t.Parallel()
	failed := &proto.JobStatus{Job: "small", Phase: proto.Phase_PHASE_FAILED, Error: "train.csv:3: bad label"}
	faulty := &proto.JobStatus{Job: "small", Phase: proto.Phase_PHASE_FAILED, Error: "train.csv:3: bad label", ErrorIsInput: true}
	for name, c := range map[string]struct {
		last *proto.JobStatus
		err  error
		code int
		errs string
	}{
		"done":         {doneStatus(), nil, 0, "epoch 2: test auc 0.7000"},
		"failed":       {failed, nil, 1, "fathom: job small failed: train.csv:3: bad label\n"},
		"faulty":       {faulty, nil, 64, "fathom: job small failed: train.csv:3: bad label\n"},
		"cancelled":    {&proto.JobStatus{Job: "small", Phase: proto.Phase_PHASE_CANCELLED}, nil, 1, "was cancelled"},
		"disconnected": {training(3), nil, 1, "stopped telling"},
		"unreachable":  {training(3), status.Error(codes.Unavailable, "no coordinator answers"), 1, "no coordinator answers"},
	} {
		f := &fakeControl{watched: []*proto.JobStatus{training(1), c.last}, err: c.err}
		code, out, errs := command(t, f, "watch", "--coordinator", "127.0.0.1:1", "--insecure")
		if code != c.code || !strings.Contains(errs, c.errs) || (out != "") != (c.code == 0) {
			t.Errorf("%s: code %d, want %d and %q in:\n%s\noutput:\n%s", name, code, c.code, c.errs, errs, out)
		}
	}
}

func TestWatchPrintsExactlyTheResultAsJSON(t *testing.T) {
	t.Parallel()
	f := &fakeControl{watched: []*proto.JobStatus{training(1), doneStatus()}}
	_, out, errs := command(t, f, "watch", "--coordinator", "127.0.0.1:1", "--insecure", "-o", "json")
	var r result
	if err := json.Unmarshal([]byte(out), &r); err != nil || r.ModelHash == "" {
		t.Errorf("output: %v\n%s", err, out)
	}
	for line := range strings.Lines(errs) {
		if !json.Valid([]byte(line)) {
			t.Errorf("progress line %q is not JSON", line)
		}
	}
}

func TestWatchInterrupted(t *testing.T) {
	t.Parallel()
	a, _, errs := newTestApp(t, &fakeControl{watched: []*proto.JobStatus{training(1)}})
	a.interrupts.raise()
	if code := a.execute([]string{"watch", "--coordinator", "127.0.0.1:1", "--insecure"}); code != exitInterrupted || !strings.Contains(errs.String(), "fathom: interrupted\n") {
		t.Errorf("code %d, errors %q", code, errs.String())
	}
}

func TestSecondInterruptKills(t *testing.T) {
	t.Parallel()
	i := newInterrupts(t.Context())
	killed := 0
	i.onSecond(func() { killed++ })
	if i.raise() || i.ctx.Err() == nil || killed != 0 {
		t.Error("the first signal must only end the context")
	}
	if !i.raise() || killed != 1 {
		t.Error("the second signal must kill")
	}
}

func TestNodesAndTheirLogs(t *testing.T) {
	t.Parallel()
	e, err := openEndpoint("127.0.0.1:0", ringOf("one\ntwo\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	e.serve()
	defer e.close()
	f := &fakeControl{nodes: []*proto.NodeStatus{
		{Node: "ps-0", Role: "ps", Address: "127.0.0.1:7", MetricsAddress: e.address(), Alive: true, CpuSeconds: 61},
		{Node: "worker-0", Role: "worker"},
	}}
	_, out, _ := command(t, f, "nodes", "--coordinator", "127.0.0.1:1", "--insecure")
	if !strings.Contains(out, "ps-0") || !strings.Contains(out, "1m01s") || !strings.Contains(out, "worker-0  worker  -     no            -      -       -  -") {
		t.Errorf("nodes:\n%s", out)
	}
	var nodes []nodeJSON
	_, out, _ = command(t, f, "nodes", "--coordinator", "127.0.0.1:1", "--insecure", "-o", "json")
	if err := json.Unmarshal([]byte(out), &nodes); err != nil || len(nodes) != 2 || !nodes[0].Alive {
		t.Errorf("nodes -o json: %v\n%s", err, out)
	}
	if code, out, errs := command(t, f, "logs", "ps/0", "--coordinator", "127.0.0.1:1", "--insecure"); code != 0 || out != "one\ntwo\n" {
		t.Errorf("logs: %d %q %q", code, out, errs)
	}
	code, _, errs := command(t, f, "logs", "ps-9", "--coordinator", "127.0.0.1:1", "--insecure")
	if code != exitInput || !strings.Contains(errs, "ps-0, worker-0") {
		t.Errorf("logs of no node: %d %q", code, errs)
	}
}

func TestLogsOfANodeThatAnswersOtherwise(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.NotFoundHandler())
	defer s.Close()
	f := &fakeControl{nodes: []*proto.NodeStatus{{Node: "ps-0", MetricsAddress: s.Listener.Addr().String()}}}
	code, _, errs := command(t, f, "logs", "ps-0", "--coordinator", "127.0.0.1:1", "--insecure")
	if code != exitFailed || !strings.Contains(errs, "404") {
		t.Errorf("code %d, errors %q", code, errs)
	}
}

func TestLogsOfALocalRun(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := local.LogFile(dir, "ps-1")
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("hello\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out, errs := command(t, nil, "logs", "ps/1", "--workdir", dir); code != 0 || out != "hello\n" {
		t.Errorf("logs: %d %q %q", code, out, errs)
	}
	if code, _, errs := command(t, nil, "logs", "ps/2", "--workdir", dir); code != exitInput || !strings.Contains(errs, "ps-2.log") {
		t.Errorf("logs of no process: %d %q", code, errs)
	}
}

func TestLogFileIsFollowed(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "x.log")
	if err := os.WriteFile(path, []byte("one\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := newInterrupts(t.Context())
	w := &notify{wrote: make(chan struct{}, 10)}
	ended := make(chan error)
	go func() { ended <- fileLog(f.ctx, w, path, true) }()
	<-w.wrote
	file, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if _, err := file.WriteString("two\n"); err != nil {
		t.Fatal(err)
	}
	<-w.wrote
	f.raise()
	if err := <-ended; err == nil || w.String() != "one\ntwo\n" {
		t.Errorf("copied %q, %v", w.String(), err)
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	if code, out, _ := command(t, nil, "version"); code != 0 || !strings.Contains(out, "cpu path") {
		t.Errorf("version: %d %q", code, out)
	}
	var v versions
	_, out, _ := command(t, nil, "version", "-o", "json")
	if err := json.Unmarshal([]byte(out), &v); err != nil || v.Go == "" || v.CPU == "" || v.Platform == "" {
		t.Errorf("version -o json: %v\n%s", err, out)
	}
}
