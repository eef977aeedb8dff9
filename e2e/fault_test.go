package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/fathom-train/fathom/proto"
	"github.com/fathom-train/fathom/proto/identity"
)

// allFaults runs the long series, too: every role, every phase, every signal
// (`make faults`).
var allFaults = os.Getenv("FATHOM_FAULTS") == "all"

// faultJob is long enough for a fault in every phase: with all of them, an
// evaluation lasts until the test has seen it.
func faultJob() string {
	if !allFaults {
		return smallJob
	}
	return strings.Replace(smallJob, "valid_rows: 3000, test_rows: 3000", "valid_rows: 100000, test_rows: 100000", 1)
}

// signal sends a signal to processes; one that is gone is no error, its
// supervisor is about to start it again.
func (r *fathomRun) signal(s syscall.Signal, victims ...child) {
	r.t.Helper()
	for _, v := range victims {
		if err := syscall.Kill(v.pid, s); err != nil && err != syscall.ESRCH {
			r.t.Fatal(err)
		}
	}
}

// await waits until the job is in the phase, or beyond the step.
func (r *fathomRun) await(phase proto.Phase, step uint64) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var last *proto.JobStatus
	for {
		select {
		case <-r.done:
			r.t.Fatal("the run ended before the fault could be made")
		case <-ctx.Done():
			r.t.Fatalf("not in %s at step %d after %v, last %v", phase, step, limit, last)
		case <-tick.C:
		}
		if s, err := r.status(ctx); err == nil {
			if last = s; s.GetPhase() == phase && s.GetStep() >= step {
				return
			}
		}
	}
}

func (r *fathomRun) status(ctx context.Context) (*proto.JobStatus, error) {
	all := r.children("coordinator")
	if len(all) == 0 {
		return nil, os.ErrNotExist
	}
	transport := insecure.NewCredentials()
	if self, err := identity.Load(r.credentials(), nil); err == nil {
		transport = self.Dialer(identity.Coordinator)
	}
	conn, err := grpc.NewClient(all[0].flag("--listen"), grpc.WithTransportCredentials(transport))
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	return proto.NewControlClient(conn).Status(ctx, &proto.StatusRequest{})
}

// everyone lists all processes of the cluster.
func (r *fathomRun) everyone() (all []child) {
	for _, role := range []string{"etcd", "coordinator", "ps", "worker"} {
		all = append(all, r.children(role)...)
	}
	return all
}

// flipByte damages one byte in the used part of a file.
func flipByte(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	used := len(bytes.TrimRight(b, "\x00"))
	if used < 200 {
		t.Fatalf("%s has %d bytes, too few to damage one", path, used)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte{b[used/2] ^ 0x10}, int64(used/2)); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// files returns those of a server's first shard, by name.
func files(t *testing.T, server child, pattern string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(server.flag("--data-dir"), "groups", "*", "0", pattern))
	if err != nil || len(found) == 0 {
		t.Fatalf("no %s of %s: %v", pattern, server.flag("--name"), err)
	}
	return found
}

// TestFaultsChangeNothing makes faults in a running cluster of real processes.
// The model must be that of the undisturbed run.
func TestFaultsChangeNothing(t *testing.T) {
	t.Parallel()
	job := writeFile(t, "small.yaml", faultJob())
	want := start(t, nil, "run", job).result(limit)
	runs := map[string]func(t *testing.T, job string) *fathomRun{}
	scenarios := map[string]func(r *fathomRun){
		"a leading server stands still for two seconds": func(r *fathomRun) {
			victim := r.leaderPast(30, limit)
			r.signal(syscall.SIGSTOP, victim)
			<-time.After(2 * time.Second) // the length of the fault
			r.signal(syscall.SIGCONT, victim)
		},
		"everything is killed at once": func(r *fathomRun) {
			r.heldPast(30, limit)
			r.signal(syscall.SIGKILL, r.everyone()...)
		},
		"a byte of a log is flipped": func(r *fathomRun) {
			victim, goOn := r.heldPast(30, limit)
			r.signal(syscall.SIGSTOP, victim)
			segments := files(r.t, victim, filepath.Join("wal", "*.wal"))
			flipByte(r.t, segments[len(segments)-1])
			r.signal(syscall.SIGKILL, victim)
			goOn()
		},
	}
	if allFaults {
		addPhases(scenarios)
		runs["the file system of the servers is full"] = fillDisk
		runs["servers are killed while they restore a checkpoint"] = killRestore
	}
	for name, fault := range scenarios {
		runs[name] = func(t *testing.T, job string) *fathomRun {
			r := start(t, nil, "run", job)
			fault(r)
			return r
		}
	}
	for name, disturbed := range runs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := disturbed(t, job)
			if got := r.result(limit); got.ModelHash != want.ModelHash || got.Metrics["test"] != want.Metrics["test"] {
				t.Errorf("model hash %s and test scores %+v, want %s and %+v", got.ModelHash, got.Metrics["test"], want.ModelHash, want.Metrics["test"])
			}
		})
	}
}

// addPhases adds SIGKILL and SIGSTOP of every role in every phase.
func addPhases(scenarios map[string]func(*fathomRun)) {
	phases := map[string]func(*fathomRun){
		"while it starts":    func(r *fathomRun) { r.await(proto.Phase_PHASE_STARTING, 0) },
		"while it trains":    func(r *fathomRun) { r.await(proto.Phase_PHASE_TRAINING, 20) },
		"while it evaluates": func(r *fathomRun) { r.await(proto.Phase_PHASE_EVALUATING, 1) },
	}
	for phase, reached := range phases {
		for _, role := range []string{"etcd", "coordinator", "ps", "worker"} {
			scenarios[fmt.Sprintf("kill -9 %s %s", role, phase)] = func(r *fathomRun) {
				reached(r)
				r.signal(syscall.SIGKILL, r.children(role)[0])
			}
			scenarios[fmt.Sprintf("kill -9 every %s %s", role, phase)] = func(r *fathomRun) {
				reached(r)
				r.signal(syscall.SIGKILL, r.children(role)...)
			}
			scenarios[fmt.Sprintf("stop %s %s", role, phase)] = func(r *fathomRun) {
				reached(r)
				r.pause(r.children(role)[0])
			}
		}
	}
	scenarios["stop all servers while it trains"] = func(r *fathomRun) {
		phases["while it trains"](r)
		r.pause(r.children("ps")...)
	}
	scenarios["stop a worker and the coordinator while it trains"] = func(r *fathomRun) {
		phases["while it trains"](r)
		r.pause(r.children("worker")[0], r.children("coordinator")[0])
	}
}

// pause stops processes for longer than every patience.
func (r *fathomRun) pause(victims ...child) {
	r.t.Helper()
	r.signal(syscall.SIGSTOP, victims...)
	<-time.After(6 * time.Second) // the length of the fault
	r.signal(syscall.SIGCONT, victims...)
}

// killRestore goes on from a checkpoint and kills every server as soon as it runs,
// which is before or while it reads the checkpoint.
func killRestore(t *testing.T, job string) *fathomRun {
	r := startIn(t, killedRun(t, job, 50), nil, "run", "--from-checkpoint")
	killed := map[string]bool{}
	for end := time.Now().Add(limit); len(killed) < 3; {
		if time.Now().After(end) {
			t.Fatalf("servers killed within %v: %v", limit, killed)
		}
		for _, c := range r.children("ps") {
			if !killed[c.flag("--name")] {
				r.signal(syscall.SIGKILL, c)
				killed[c.flag("--name")] = true
			}
		}
	}
	return r
}

// fillDisk runs the job on a small file system, fills it while it trains, and
// makes room again.
func fillDisk(t *testing.T, job string) *fathomRun {
	if os.Getuid() != 0 {
		t.Skip("mounting a file system needs root")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=512m"); err != nil {
		t.Skipf("mount a file system in memory: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(dir, syscall.MNT_DETACH) })
	r := startIn(t, filepath.Join(dir, "run"), nil, "run", job)
	r.leaderPast(30, limit)
	atFullSpeed := r.slow() // so that the job is not over before the disk is full
	filler := filepath.Join(dir, "filler")
	f, err := os.Create(filler)
	if err != nil {
		t.Fatal(err)
	}
	block := make([]byte, 1<<20)
	for err == nil {
		_, err = f.Write(block)
	}
	if !strings.Contains(err.Error(), "no space") {
		t.Fatal(err)
	}
	f.Close()
	<-time.After(3 * time.Second) // the length of the fault
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	atFullSpeed()
	return r
}
