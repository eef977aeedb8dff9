package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"sync"
	"syscall"
	"testing"
	"time"
)

// longJob trains long enough, when slowed down, for servers to come and go.
var longJob = []string{"--set", "spec.train.epochs=12", "--set", "spec.cluster.shards=4"}

// slow stops the workers most of the time until the returned function is called.
func (r *fathomRun) slow() (atFullSpeed func()) {
	r.t.Helper()
	workers := r.children("worker")
	stop, stopped := make(chan struct{}), make(chan struct{})
	signal := func(s syscall.Signal) {
		for _, w := range workers {
			_ = syscall.Kill(w.pid, s) // one that ended is no harm
		}
	}
	go func() {
		defer close(stopped)
		for {
			signal(syscall.SIGCONT)
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
			}
			signal(syscall.SIGSTOP)
			select {
			case <-stop:
			case <-time.After(430 * time.Millisecond):
			}
		}
	}()
	atFullSpeed = sync.OnceFunc(func() { close(stop); <-stopped })
	r.t.Cleanup(atFullSpeed)
	return atFullSpeed
}

// coordinatorAddress reads where the run's coordinator is.
func (r *fathomRun) coordinatorAddress() string {
	r.t.Helper()
	servers := r.children("ps")
	if len(servers) == 0 {
		r.t.Fatal("no server runs")
	}
	return servers[0].flag("--coordinator")
}

// cli runs a command against the cluster of the run and returns what it printed.
func (r *fathomRun) cli(args ...string) string {
	r.t.Helper()
	out, _ := cli(r.t, 0, append(args, "--coordinator", r.coordinatorAddress(), "--credentials", r.credentials())...)
	return out
}

// server is one parameter server as `fathom nodes` tells it.
type server struct {
	Node, Role, Address string
	Alive, Draining     bool
	Replicas, Leaders   uint32
}

// servers asks the coordinator.
func (r *fathomRun) servers() map[string]server {
	r.t.Helper()
	var all []server
	if err := json.Unmarshal([]byte(r.cli("nodes", "-o", "json")), &all); err != nil {
		r.t.Fatal(err)
	}
	servers := map[string]server{}
	for _, s := range all {
		if s.Role == "ps" {
			servers[s.Node] = s
		}
	}
	return servers
}

// detail is the job's status line.
func (r *fathomRun) detail() string {
	r.t.Helper()
	var s struct{ Detail, Phase string }
	if err := json.Unmarshal([]byte(r.cli("status", "-o", "json")), &s); err != nil {
		r.t.Fatal(err)
	}
	return s.Phase + ": " + s.Detail
}

// until waits for a condition while the run goes on.
func (r *fathomRun) until(what string, ok func() bool) {
	r.t.Helper()
	deadline := time.After(limit)
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-r.done:
			r.t.Fatalf("the run ended before: %s", what)
		case <-deadline:
			r.t.Fatalf("not within %v: %s; the job is %s, the servers are %+v", limit, what, r.detail(), r.servers())
		case <-tick.C:
		}
	}
}

var replaces = regexp.MustCompile(`shards replace a replica`)

// settled waits until no group changes and the servers hold what is wanted.
func (r *fathomRun) settled(what string, replicas map[string]uint32) {
	r.t.Helper()
	r.until(what, func() bool {
		servers := r.servers()
		for name, n := range replicas {
			if servers[name].Replicas != n {
				return false
			}
		}
		return !replaces.MatchString(r.detail())
	})
}

func kill(t *testing.T, c child, s syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(c.pid, s); err != nil {
		t.Fatal(err)
	}
}

// Servers lose their disks, join, are drained and die in the majority while a
// job trains: the model is that of the undisturbed run.
func TestServersComeAndGoWhileTraining(t *testing.T) {
	t.Parallel()
	job := writeFile(t, "small.yaml", smallJob)
	want := start(t, nil, append([]string{"run", job}, longJob...)...).result(limit)
	r := start(t, nil, append([]string{"run", job}, longJob...)...)
	victim := r.leaderPast(10, limit)
	atFullSpeed := r.slow()
	kill(t, victim, syscall.SIGKILL)
	if err := os.RemoveAll(victim.flag("--data-dir")); err != nil {
		t.Fatal(err)
	}
	r.until("the wiped server is given new replicas", func() bool { return replicaFolder(t, victim, ".1") })
	r.settled("they have become voters", map[string]uint32{"ps-0": 4, "ps-1": 4, "ps-2": 4})
	t.Log("the wiped server is replaced")

	extra := filepath.Join(t.TempDir(), "ps-3")
	cli(t, 0, "certs", "issue", "ps", "ps-3", "--ca", filepath.Join(r.workdir, "credentials", "ca"), "--host", "127.0.0.1", "--out", extra)
	start(t, nil, "ps", "--name", "ps-3", "--listen", "127.0.0.1:0", "--data-dir", t.TempDir(),
		"--coordinator", r.coordinatorAddress(), "--credentials", extra)
	r.settled("the new server holds its share", map[string]uint32{"ps-0": 3, "ps-1": 3, "ps-2": 3, "ps-3": 3})
	t.Log("the new server has its share")

	r.cli("node", "drain", "ps-0", "--wait")
	r.settled("the drained server is empty", map[string]uint32{"ps-0": 0, "ps-1": 4, "ps-2": 4, "ps-3": 4})
	t.Log("the drained server is empty")

	for _, s := range r.children("ps") {
		if s.flag("--name") != "ps-0" { // two of three
			kill(t, s, syscall.SIGKILL)
		}
	}
	atFullSpeed()
	got := r.result(limit)
	if got.ModelHash != want.ModelHash {
		t.Errorf("model hash %s, want %s", got.ModelHash, want.ModelHash)
	}
}

// replicaFolder tells whether the server has a replica with such a number.
func replicaFolder(t *testing.T, c child, number string) bool {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(c.flag("--data-dir"), "groups", "*", "*"+number))
	if err != nil {
		t.Fatal(err)
	}
	return len(found) > 0
}
