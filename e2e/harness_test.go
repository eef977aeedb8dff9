// Package e2e runs the real binary: real processes, a real etcd, real disks
// and real signals, the way a user does.
package e2e

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/fathom-train/fathom/proto"
	"github.com/fathom-train/fathom/proto/identity"
)

// built is the folder of the binary, empty before a test has needed it.
var built string

// binary builds fathom once for all tests.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "fathom-e2e-")
	if err != nil {
		return "", err
	}
	built = dir
	if err := os.Chmod(dir, 0o755); err != nil { // a test runs it as another user
		return "", err
	}
	path := filepath.Join(dir, "fathom")
	out, err := exec.Command("go", "build", "-o", path, "../cmd/fathom").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build fathom: %w\n%s", err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	if pod := os.Getenv(podEnv); pod != "" {
		if err := becomePod(pod); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	// Of the object store in TestCheckpointsInAnObjectStore, for every process there is.
	for name, value := range map[string]string{
		"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true",
	} {
		if err := os.Setenv(name, value); err != nil {
			panic(err)
		}
	}
	code := m.Run()
	if built != "" {
		os.RemoveAll(built)
	}
	os.Exit(code)
}

// fathomRun is a running `fathom run`.
type fathomRun struct {
	t       *testing.T
	cmd     *exec.Cmd
	workdir string
	stdout  bytes.Buffer
	stderr  bytes.Buffer
	done    chan struct{} // closed when it has ended
}

// start runs the binary with the arguments and environment added to ours.
func start(t *testing.T, env []string, args ...string) *fathomRun {
	t.Helper()
	return startIn(t, t.TempDir(), env, args...)
}

// startIn is start with a working directory of the caller's.
func startIn(t *testing.T, workdir string, env []string, args ...string) *fathomRun {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	return startBinary(t, path, workdir, env, args...)
}

// startBinary is startIn with another binary.
func startBinary(t *testing.T, path, workdir string, env []string, args ...string) *fathomRun {
	t.Helper()
	r := &fathomRun{t: t, workdir: workdir, done: make(chan struct{})}
	r.cmd = exec.Command(path, args...)
	if args[0] == "run" {
		r.cmd.Args = append(r.cmd.Args, "--workdir", r.workdir, "-o", "json")
	}
	r.cmd.Env = append(os.Environ(), env...)
	r.cmd.Stdout, r.cmd.Stderr = &r.stdout, &r.stderr
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(r.done)
		_ = r.cmd.Wait() // the exit code is read from ProcessState
	}()
	t.Cleanup(func() {
		select {
		case <-r.done:
		default:
			_ = r.cmd.Process.Kill() // it may just have ended
			<-r.done
		}
		if t.Failed() {
			logs, _ := filepath.Glob(filepath.Join(r.workdir, "logs", "*.log"))
			for _, log := range logs {
				text, err := os.ReadFile(log)
				t.Logf("%s: %v\n%s", log, err, tail(string(text), 2000))
			}
			t.Logf("stderr of %v:\n%s", args, tail(r.stderr.String(), 2000))
		}
	})
	return r
}

func tail(s string, n int) string {
	if len(s) > n {
		return "..." + s[len(s)-n:]
	}
	return s
}

// wait returns the exit code.
func (r *fathomRun) wait(limit time.Duration) int {
	r.t.Helper()
	select {
	case <-r.done:
	case <-time.After(limit):
		r.t.Fatalf("%v has not ended after %v", r.cmd.Args[1:], limit)
	}
	return r.cmd.ProcessState.ExitCode()
}

// result is the part of result.json that the tests read.
type result struct {
	ModelHash string `json:"model_hash"`
	Metrics   map[string]struct {
		AUC     float64 `json:"auc"`
		LogLoss float64 `json:"logloss"`
	} `json:"metrics"`
	TeacherAUC float64 `json:"teacher_auc"`
	Search     struct {
		Checkpoint      string  `json:"checkpoint"`
		LimitParameters int64   `json:"limit_parameters"`
		Clusters        []int64 `json:"clusters"`
		Best            struct {
			Parameters int64 `json:"parameters"`
		} `json:"best"`
	} `json:"search"`
}

// result waits for success and returns what the run reports, which must be the
// same on standard output and in the workdir.
func (r *fathomRun) result(limit time.Duration) result {
	r.t.Helper()
	if code := r.wait(limit); code != 0 {
		r.t.Fatalf("exit code %d, want 0", code)
	}
	var printed, written result
	if err := json.Unmarshal(r.stdout.Bytes(), &printed); err != nil {
		r.t.Fatalf("standard output is not the result: %v\n%s", err, r.stdout.String())
	}
	file, err := os.ReadFile(filepath.Join(r.workdir, "result.json"))
	if err != nil {
		r.t.Fatal(err)
	}
	if err := json.Unmarshal(file, &written); err != nil {
		r.t.Fatalf("result.json: %v", err)
	}
	if printed.ModelHash != written.ModelHash || len(printed.ModelHash) != 32 {
		r.t.Fatalf("model hash %q printed, %q written, want the same 32 digits", printed.ModelHash, written.ModelHash)
	}
	return printed
}

// artifact is a digest of the exported model's files, names and bytes.
func (r *fathomRun) artifact() string {
	r.t.Helper()
	dir := filepath.Join(r.workdir, "artifact")
	all, err := os.ReadDir(dir)
	if err != nil {
		r.t.Fatal(err)
	}
	sum := sha256.New()
	for _, f := range all { // by name
		text, err := os.ReadFile(filepath.Join(dir, f.Name()))
		if err != nil {
			r.t.Fatal(err)
		}
		fmt.Fprintf(sum, "%s %d\n%s", f.Name(), len(text), text)
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// child is one process of a local cluster.
type child struct {
	pid     int
	args    []string
	stopped bool
}

// flag returns the value of a flag of the child's command line.
func (c child) flag(name string) string {
	for i, a := range c.args {
		if a == name && i+1 < len(c.args) {
			return c.args[i+1]
		}
		if v, ok := strings.CutPrefix(a, name+"="); ok {
			return v
		}
	}
	return ""
}

// children lists the live processes of a role that the run started.
func (r *fathomRun) children(role string) []child {
	r.t.Helper()
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		r.t.Fatal(err)
	}
	var found []child
	for _, stat := range stats {
		b, err := os.ReadFile(stat)
		if err != nil {
			continue // ended meanwhile
		}
		_, rest, _ := strings.Cut(string(b), ") ")
		f := strings.Fields(rest)
		if len(f) < 2 || f[0] == "Z" || f[1] != strconv.Itoa(r.cmd.Process.Pid) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(stat)))
		if err != nil {
			r.t.Fatal(err)
		}
		cmdline, err := os.ReadFile(filepath.Join(filepath.Dir(stat), "cmdline"))
		if err != nil {
			continue
		}
		args := strings.Split(strings.TrimRight(string(cmdline), "\x00"), "\x00")
		if len(args) > 1 && args[1] == role {
			found = append(found, child{pid: pid, args: args, stopped: f[0] == "T"})
		}
	}
	return found
}

// leaderPast waits until shard 0 has passed the version and returns the process
// that leads it.
func (r *fathomRun) leaderPast(version uint64, limit time.Duration) child {
	r.t.Helper()
	leader, goOn := r.heldPast(version, limit)
	goOn()
	return leader
}

// heldPast is leaderPast with workers that stand still until goOn is called: the run
// cannot end before. They do so whenever it looks, or a run that gets more of the
// processors than this test would be far beyond the version, or over.
func (r *fathomRun) heldPast(version uint64, limit time.Duration) (leader child, goOn func()) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-r.done:
			r.t.Fatal("the run ended before the fault could be made")
		case <-ctx.Done():
			r.t.Fatalf("shard 0 has not passed version %d after %v", version, limit)
		case <-tick.C:
		}
		goOn = r.hold()
		servers := r.children("ps")
		for _, s := range servers {
			reply := r.shardStatus(ctx, s)
			if reply.GetVersion() < version {
				continue
			}
			i := slices.IndexFunc(servers, func(c child) bool { return c.flag("--name") == reply.GetLeaderNode() })
			if i >= 0 {
				return servers[i], goOn
			}
		}
		goOn()
	}
}

// hold stops the workers that run until goOn is called.
func (r *fathomRun) hold() (goOn func()) {
	r.t.Helper()
	workers := slices.DeleteFunc(r.children("worker"), func(c child) bool { return c.stopped })
	r.signal(syscall.SIGSTOP, workers...)
	return func() { r.signal(syscall.SIGCONT, workers...) }
}

// version is what the first server that answers says shard 0 has applied.
func (r *fathomRun) version() (version uint64) {
	r.t.Helper()
	r.until("a server tells its version", func() bool {
		for _, s := range r.children("ps") {
			if reply := r.shardStatus(context.Background(), s); reply != nil {
				version = reply.GetVersion()
				return true
			}
		}
		return false
	})
	return version
}

// shardStatus asks a server for the state of shard 0; nil: it does not tell.
func (r *fathomRun) shardStatus(ctx context.Context, server child) *proto.ShardStatusReply {
	groups, err := filepath.Glob(filepath.Join(server.flag("--data-dir"), "groups", "*"))
	if err != nil || len(groups) != 1 {
		return nil // not formed yet
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	reply, err := shardStatus(ctx, r.credentials(), server.flag("--listen"), filepath.Base(groups[0]))
	if err != nil {
		return nil
	}
	return reply
}

// credentials is the directory of those that let commands reach the cluster.
func (r *fathomRun) credentials() string { return filepath.Join(r.workdir, "credentials", "admin") }

func shardStatus(ctx context.Context, credentials, address, job string) (reply *proto.ShardStatusReply, err error) {
	self, err := identity.Load(credentials, nil)
	if err != nil {
		return nil, err
	}
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(self.Dialer(identity.PS)))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	return proto.NewParameterServerClient(conn).ShardStatus(ctx, &proto.ShardStatusRequest{Job: job})
}

// alive tells whether the process exists.
func alive(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	return !strings.HasPrefix(rest, "Z") && syscall.Kill(pid, 0) == nil
}
