package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// runningProcess is a node command that runs within the test.
type runningProcess struct {
	facts map[string]string // of its ready line
	stop  func() (code int)
}

// startProcess runs a node command and waits until it is ready.
func startProcess(t *testing.T, args ...string) *runningProcess {
	t.Helper()
	a, _, errs := newTestApp(t, nil)
	r, w := io.Pipe()
	a.out = w
	ended := make(chan int, 1)
	go func() {
		ended <- a.execute(args)
		w.Close()
	}()
	line, err := bufio.NewReader(r).ReadString('\n')
	if err != nil {
		t.Fatalf("%v ended with %d before it was ready:\n%s", args, <-ended, errs.String())
	}
	p := &runningProcess{facts: map[string]string{}}
	for _, f := range strings.Fields(line) {
		k, v, _ := strings.Cut(f, "=")
		p.facts[k] = v
	}
	stopped := false
	p.stop = func() int {
		if stopped {
			return 0
		}
		stopped = true
		a.interrupts.raise()
		return <-ended
	}
	t.Cleanup(func() {
		if code := p.stop(); code != 0 {
			t.Errorf("%v: exit code %d after an orderly stop:\n%s", args, code, errs.String())
		}
	})
	return p
}

func TestServersAndWorkersJoinACoordinator(t *testing.T) {
	dir := t.TempDir()
	c := startProcess(t, "coordinator", "--name", "c-0", "--listen", "127.0.0.1:0", "--embedded-etcd", filepath.Join(dir, "etcd"), "--log-level", "warn", "--insecure")
	address := c.facts["listen"]
	startProcess(t, "ps", "--name", "ps-0", "--listen", "127.0.0.1:0", "--data-dir", filepath.Join(dir, "ps-0"), "--coordinator", address, "--log-level", "warn", "--insecure")
	w := startProcess(t, "worker", "--name", "worker-0", "--coordinator", address, "--log-level", "warn", "--insecure")

	deadline := time.After(2 * time.Minute)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		a, out, errs := newTestApp(t, nil)
		a.dial = dialControl
		if code := a.execute([]string{"nodes", "--coordinator", address, "--insecure", "-o", "json"}); code != 0 {
			t.Fatalf("nodes: %d %s", code, errs.String())
		}
		var nodes []nodeJSON
		if err := json.Unmarshal([]byte(out.String()), &nodes); err != nil {
			t.Fatal(err)
		}
		alive := map[string]string{}
		for _, n := range nodes {
			if n.Alive {
				alive[n.Node] = n.MetricsAddress
			}
		}
		if alive["ps-0"] != "" && alive["worker-0"] == w.facts["metrics"] {
			break
		}
		select {
		case <-deadline:
			t.Fatalf("the nodes have not joined: %s", out.String())
		case <-tick.C:
		}
	}
	if code := w.stop(); code != 0 {
		t.Errorf("the worker ended with %d", code)
	}
}

func TestEtcdServes(t *testing.T) {
	// A host of its own: a port that is free now may be taken before etcd listens.
	host := fmt.Sprintf("http://127.%d.%d.%d:", 64+rand.IntN(64), rand.IntN(256), 1+rand.IntN(254))
	client, peer := host+"2379", host+"2380"
	e := startProcess(t, "etcd", "--name", "etcd", "--data-dir", t.TempDir(), "--client-url", client, "--peer-url", peer, "--insecure")
	if e.facts["client"] != client {
		t.Errorf("serves on %s, want %s", e.facts["client"], client)
	}
	if got := get(t, client+"/health"); !strings.Contains(got, "true") {
		t.Errorf("health %s", got)
	}
}
