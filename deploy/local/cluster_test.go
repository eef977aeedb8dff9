package local

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fathom-train/fathom/deploy/plan"
)

// patience bounds what a test waits for; it is only reached by a failure.
const patience = 2 * time.Minute

func options(t *testing.T) Options {
	t.Helper()
	return Options{WorkDir: t.TempDir(), Env: []string{fakeChild, "LOCAL_TEST_EXTRA=extra"},
		BackoffMin: time.Millisecond, BackoffMax: 5 * time.Millisecond, ReadyTimeout: patience}
}

func process(name string, role plan.Role, args ...string) plan.Process {
	return plan.Process{Name: name, Role: role, Args: args, Restart: true}
}

// serving returns a process that notes its end in file and listens on its port.
func serving(name string, role plan.Role, file string) plan.Process {
	p := process(name, role, "serve", name, file, plan.Port{Process: name, Name: "listen"}.String())
	p.Ports = []plan.Port{{Process: name, Name: "listen"}}
	p.Data = true
	return p
}

func planOf(processes ...plan.Process) plan.Plan {
	return plan.Plan{Job: "test", Processes: processes}
}

func start(t *testing.T, p plan.Plan, o Options) *Cluster {
	t.Helper()
	c, err := Start(t.Context(), p, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(context.Background()); err != nil {
			t.Logf("stop: %v", err)
		}
	})
	return c
}

// await returns the next event of the kind.
func await(t *testing.T, c *Cluster, kind EventKind) Event {
	t.Helper()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for {
		select {
		case e, ok := <-c.Events():
			if !ok {
				t.Fatalf("no event %s before the end", kind)
			}
			if e.Kind == kind {
				return e
			}
		case <-timeout.C:
			t.Fatalf("no event %s", kind)
		}
	}
}

func TestClusterServesRestartsAndStopsInOrder(t *testing.T) {
	o, ended := options(t), filepath.Join(t.TempDir(), "ended")
	c := start(t, planOf(
		serving("etcd", plan.Etcd, ended), serving("coordinator", plan.Coordinator, ended),
		serving("ps-0", plan.PS, ended), serving("worker-0", plan.Worker, ended),
	), o)
	conn, err := net.Dial("tcp", c.CoordinatorAddress())
	if err != nil {
		t.Fatalf("the coordinator does not serve: %v", err)
	}
	conn.Close()

	before, running := c.Process("ps-0")
	if !running {
		t.Fatal("ps-0 does not run")
	}
	if err := c.Kill("ps-0"); err != nil {
		t.Fatal(err)
	}
	if e := await(t, c, Died); e.Process != "ps-0" || !strings.Contains(e.Detail, "killed") {
		t.Errorf("event %v", e)
	}
	e := await(t, c, Restarted)
	if after, _ := c.Process("ps-0"); after == before || e.PID != after || e.String() != "restarted ps-0" {
		t.Errorf("event %v pid %d, processes %d and then %d", e, e.PID, before, after)
	}
	address, _ := c.Address(plan.Port{Process: "ps-0", Name: "listen"})
	if conn, err = net.Dial("tcp", address); err != nil {
		t.Fatalf("ps-0 does not serve on its address again: %v", err)
	}
	conn.Close()

	if err := c.Stop(t.Context()); err != nil {
		t.Errorf("stop: %v", err)
	}
	if diff := cmp.Diff("worker-0\nps-0\ncoordinator\netcd\n", read(ended)); diff != "" {
		t.Errorf("order of the ends (-want +got):\n%s", diff)
	}
	log := read(LogFile(o.WorkDir, "ps-0"))
	if strings.Count(log, "ps-0 listens, env extra") != 2 || !strings.Contains(log, "ready address=") {
		t.Errorf("log of ps-0: %s", log)
	}
	u := c.Usage()
	if u[plan.PS].Processes != 2 || u[plan.Worker].Processes != 1 || u[plan.Etcd].User+u[plan.Etcd].System <= 0 || u[plan.PS].MemoryPeak < 1<<20 {
		t.Errorf("usage %+v", u)
	}
	if _, running := c.Process("ps-0"); running {
		t.Error("ps-0 runs after the stop")
	}
	if err := c.Kill("ps-0"); !errors.Is(err, ErrNotRunning) {
		t.Errorf("kill after the stop: %v", err)
	}
	if err := c.Stop(t.Context()); err != nil {
		t.Errorf("another stop: %v", err)
	}
	if _, open := <-c.Events(); open {
		for range c.Events() { // what nobody has read yet
		}
	}
}

func TestSameDirectoryHasTheSamePortsAndData(t *testing.T) {
	o, ended := options(t), filepath.Join(t.TempDir(), "ended")
	p := planOf(serving("ps-0", plan.PS, ended), serving("ps-1", plan.PS, ended))
	port := plan.Port{Process: "ps-1", Name: "listen"}
	c := start(t, p, o)
	first, _ := c.Address(port)
	if err := c.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	kept := filepath.Join(o.WorkDir, "data", "ps-1", "kept")
	appendLine(kept, "x")
	c = start(t, p, o)
	if again, _ := c.Address(port); again != first {
		t.Errorf("address %s, first it was %s", again, first)
	}
	if read(kept) == "" {
		t.Error("the data are gone")
	}
	if _, ok := c.Address(plan.Port{Process: "ps-9"}); ok {
		t.Error("ps-9 has an address")
	}
}

func TestWorkingDirectoryHasOneCluster(t *testing.T) {
	o := options(t)
	p := planOf(serving("ps-0", plan.PS, filepath.Join(t.TempDir(), "ended")))
	c := start(t, p, o)
	_, err := Start(t.Context(), p, o)
	if !errors.Is(err, ErrWorkDirInUse) || !strings.Contains(err.Error(), fmt.Sprintf("process %d runs", os.Getpid())) {
		t.Errorf("second start: %v", err)
	}
	if _, running := c.Process("ps-0"); !running {
		t.Error("the first cluster was disturbed")
	}
	if err := c.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	start(t, p, o)
}

func TestFlakyProcessComesUp(t *testing.T) {
	count := filepath.Join(t.TempDir(), "count")
	c := start(t, planOf(process("ps-0", plan.PS, "flaky", count, "3")), options(t))
	if n := strings.Count(read(count), "\n"); n != 4 {
		t.Errorf("%d starts, want 4", n)
	}
	if e := await(t, c, Died); e.Detail != "ended with status 7" {
		t.Errorf("event %+v", e)
	}
}

func TestProcessThatKeepsDyingFailsTheCluster(t *testing.T) {
	o := options(t)
	o.RestartsMax = 3
	count := filepath.Join(t.TempDir(), "count")
	_, err := Start(t.Context(), planOf(process("ps-0", plan.PS, "flaky", count, "100")), o)
	if err == nil || !strings.Contains(err.Error(), "ps-0: ended with status 7, for the 4. time within 5m0s") {
		t.Errorf("start: %v", err)
	}
	if n := strings.Count(read(count), "\n"); n != 4 {
		t.Errorf("%d starts, want 4", n)
	}
}

func TestFailureAfterTheStartIsDelivered(t *testing.T) {
	o := options(t)
	o.RestartsMax = 2
	c := start(t, planOf(serving("ps-0", plan.PS, filepath.Join(t.TempDir(), "ended"))), o)
	for range 3 {
		if err := c.Kill("ps-0"); err != nil {
			t.Fatal(err)
		}
		for e := range c.Events() {
			if e.Kind == Restarted || e.Kind == Failed {
				break
			}
		}
	}
	select {
	case err := <-c.Err():
		if !strings.Contains(err.Error(), "ended by signal: killed") || !strings.Contains(err.Error(), "ps-0 listens") {
			t.Errorf("failure %v", err)
		}
	case <-time.After(patience):
		t.Fatal("no failure")
	}
}

func TestWrongInputIsNotTriedAgain(t *testing.T) {
	o := options(t)
	_, err := Start(t.Context(), planOf(process("ps-0", plan.PS, "exit", "64")), o)
	if err == nil || !strings.Contains(err.Error(), "ended with status 64; the end of") || !strings.Contains(err.Error(), "\tthis is the trouble") {
		t.Errorf("start: %v", err)
	}
	if n := strings.Count(read(LogFile(o.WorkDir, "ps-0")), "trouble"); n != 1 {
		t.Errorf("%d starts, want 1", n)
	}
}

func TestStartThatDoesNotFinishLeavesNothing(t *testing.T) {
	ended := filepath.Join(t.TempDir(), "ended")
	p := planOf(serving("etcd", plan.Etcd, ended), process("ps-0", plan.PS, "silent"), process("worker-0", plan.Worker, "silent"))

	o := options(t)
	o.ReadyTimeout = 200 * time.Millisecond
	if _, err := Start(t.Context(), p, o); err == nil || !strings.Contains(err.Error(), "is not ready after 200ms") {
		t.Errorf("timeout: %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("interrupted"))
	if _, err := Start(ctx, p, options(t)); err == nil || !strings.Contains(err.Error(), "interrupted") {
		t.Errorf("interrupted: %v", err)
	}
	o = options(t)
	o.Binary = filepath.Join(t.TempDir(), "missing")
	o.RestartsMax = 1
	if _, err := Start(t.Context(), p, o); err == nil || !strings.Contains(err.Error(), "cannot be started") {
		t.Errorf("no binary: %v", err)
	}
	if _, err := Start(t.Context(), p, Options{}); err == nil {
		t.Error("no working directory: no error")
	}
	file := filepath.Join(t.TempDir(), "file")
	appendLine(file, "x")
	if _, err := Start(t.Context(), p, Options{WorkDir: file}); err == nil {
		t.Error("working directory is a file: no error")
	}
	o = options(t)
	appendLine(filepath.Join(o.WorkDir, "ports.json"), "not JSON")
	if _, err := Start(t.Context(), p, o); err == nil || !strings.Contains(err.Error(), "remove the file") {
		t.Errorf("broken ports file: %v", err)
	}
}

func TestStubbornProcessIsKilled(t *testing.T) {
	t.Run("after the timeout", func(t *testing.T) {
		o := options(t)
		o.StopTimeout = 50 * time.Millisecond
		c := start(t, planOf(process("ps-0", plan.PS, "stubborn")), o)
		if err := c.Stop(t.Context()); err == nil || !strings.Contains(err.Error(), "were killed: ps-0") {
			t.Errorf("stop: %v", err)
		}
	})
	t.Run("at the end of the context", func(t *testing.T) {
		c := start(t, planOf(process("ps-0", plan.PS, "stubborn")), options(t))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := c.Stop(ctx); err == nil {
			t.Error("stop says nothing")
		}
	})
	t.Run("by a second stop", func(t *testing.T) {
		o := options(t)
		o.StopTimeout = time.Hour
		c := start(t, planOf(process("ps-0", plan.PS, "stubborn")), o)
		first := make(chan error, 1)
		go func() { first <- c.Stop(context.Background()) }()
		<-c.stopping
		if err := c.Stop(t.Context()); err == nil {
			t.Error("second stop says nothing")
		}
		if err := <-first; err == nil {
			t.Error("first stop says nothing")
		}
	})
	t.Run("also when it is suspended", func(t *testing.T) {
		o := options(t)
		o.StopTimeout = 50 * time.Millisecond
		c := start(t, planOf(serving("ps-0", plan.PS, filepath.Join(t.TempDir(), "ended"))), o)
		if err := c.Signal("ps-0", syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		if err := c.Stop(t.Context()); err == nil {
			t.Error("stop says nothing")
		}
	})
}

func TestUnknownProcess(t *testing.T) {
	c := start(t, planOf(), options(t))
	if err := c.Kill("ps-7"); !errors.Is(err, ErrUnknownProcess) {
		t.Errorf("kill: %v", err)
	}
	if _, ok := c.Process("ps-7"); ok {
		t.Error("ps-7 runs")
	}
}

func TestLogIsBounded(t *testing.T) {
	o := options(t)
	o.LogBytesMax = 64 << 10
	start(t, planOf(process("ps-0", plan.PS, "noisy", "1000000")), o)
	for _, file := range []string{LogFile(o.WorkDir, "ps-0"), LogFile(o.WorkDir, "ps-0") + ".1"} {
		if info, err := os.Stat(file); err != nil || info.Size() > o.LogBytesMax+32<<10 || info.Size() == 0 {
			t.Errorf("%s: %v, %v", file, info, err)
		}
	}
}

// A parent that is killed cannot stop its children; the kernel must.
func TestLostLogLinesAreToldAndHarmless(t *testing.T) {
	if _, err := os.Stat("/dev/full"); err != nil {
		t.Skip("needs /dev/full")
	}
	o, ended := options(t), filepath.Join(t.TempDir(), "ended")
	path := LogFile(o.WorkDir, "etcd")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("/dev/full", path); err != nil {
		t.Fatal(err)
	}
	c := start(t, planOf(serving("etcd", plan.Etcd, ended), serving("coordinator", plan.Coordinator, ended)), o)
	if err := c.Stop(t.Context()); err != nil {
		t.Errorf("stop: %v", err)
	}
	if e := await(t, c, LogLost); e.Process != "etcd" || !strings.Contains(e.Detail, "no space") {
		t.Errorf("event %v", e)
	}
}

func TestChildrenDieWithTheirParent(t *testing.T) {
	l, err := hold(0)
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	parent := exec.Command(os.Args[0], "parent", t.TempDir(), address, filepath.Join(t.TempDir(), "ended"))
	parent.Env = append(os.Environ(), fakeChild)
	out, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, len("ready\n"))); err != nil {
		t.Fatalf("the parent does not come up: %v", err)
	}
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	// The child holds the connection as long as it lives.
	if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the child outlived its parent")
	}
	_ = parent.Wait() // it was killed
}

func TestReadyWatcher(t *testing.T) {
	for _, c := range []struct {
		chunks []string
		want   int
	}{
		{[]string{"ready\n"}, 1}, {[]string{"re", "ady a=b", "\nready\n"}, 1}, {[]string{"x\nready"}, 0},
		{[]string{"already\nreadying\n not ready\n"}, 0}, {[]string{strings.Repeat("x", 10_000), "ready\n", "ready \n"}, 1},
	} {
		log, err := openLog(filepath.Join(t.TempDir(), "log"), 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		got := 0
		w := &readyWatcher{next: log, ready: func() { got++ }}
		for _, chunk := range c.chunks {
			if n, err := w.Write([]byte(chunk)); n != len(chunk) || err != nil {
				t.Errorf("%.20q: wrote %d, %v", chunk, n, err)
			}
		}
		if got != c.want {
			t.Errorf("%.40q: ready %d times, want %d", c.chunks, got, c.want)
		}
		if err := log.close(); err != nil {
			t.Error(err)
		}
		if got := read(log.path); got != strings.Join(c.chunks, "") {
			t.Errorf("log has %.40q", got)
		}
	}
}
