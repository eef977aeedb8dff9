package e2e

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"testing"
)

// loopback returns addresses of the loopback on a host of their own, which no other
// process of this machine listens on: a port that is only free now may be taken before
// its owner has started, or has started again.
func loopback() (host string, next func() (address string)) {
	host = fmt.Sprintf("127.%d.%d.%d", 64+rand.IntN(64), rand.IntN(256), 1+rand.IntN(254))
	port := 7000
	return host, func() string { port++; return fmt.Sprintf("%s:%d", host, port) }
}

// cli runs a command that ends by itself and returns what it printed.
func cli(t *testing.T, want int, args ...string) (stdout, stderr string) {
	t.Helper()
	r := start(t, nil, args...)
	if code := r.wait(limit); code != want {
		t.Fatalf("%v: exit code %d, want %d\n%s", args, code, want, r.stderr.String())
	}
	return r.stdout.String(), r.stderr.String()
}

// authority makes a certificate authority and returns what issues credentials
// for a process on this machine, also under the host, and their directory.
func authority(t *testing.T, host string) (issue func(role, name string) string) {
	t.Helper()
	ca := filepath.Join(t.TempDir(), "ca")
	cli(t, 0, "certs", "create", "--ca", ca)
	return func(role, name string) string {
		t.Helper()
		dir := filepath.Join(t.TempDir(), name)
		cli(t, 0, "certs", "issue", role, name, "--ca", ca, "--host", "127.0.0.1", "--host", host, "--out", dir)
		return dir
	}
}

// A cluster whose processes are started one by one, with an etcd of its own,
// is driven by the commands and gives the model of `fathom run`.
func TestClusterStartedByHand(t *testing.T) {
	t.Parallel()
	job := writeFile(t, "small.yaml", smallJob)
	want := start(t, nil, "run", job, "--ps", "1").result(limit)

	host, next := loopback()
	client, peer, address := "https://"+next(), "https://"+next(), next()
	issue := authority(t, host)
	start(t, nil, "etcd", "--name", "etcd", "--data-dir", t.TempDir(), "--client-url", client, "--peer-url", peer, "--credentials", issue("etcd", "etcd"))
	start(t, nil, "coordinator", "--name", "c", "--listen", address, "--etcd", client, "--credentials", issue("coordinator", "c"))
	start(t, nil, "ps", "--name", "ps-0", "--listen", next(), "--data-dir", t.TempDir(), "--coordinator", address, "--credentials", issue("ps", "ps-0"))

	at := []string{"--coordinator", address, "--credentials", issue("admin", "me")}
	// Two jobs: the second waits for the first, which waits for a worker, and is cancelled.
	cli(t, 0, append([]string{"submit", job, "--set", "spec.cluster.ps=1", "--set", "spec.cluster.replicas=1"}, at...)...)
	cli(t, 0, append([]string{"submit", job, "--set", "metadata.name=second", "--set", "spec.cluster.ps=1", "--set", "spec.cluster.replicas=1"}, at...)...)
	_, twice := cli(t, 1, append([]string{"submit", job}, at...)...)
	if !strings.Contains(twice, "small") {
		t.Errorf("a second submission under the same name is refused with %q", twice)
	}
	cli(t, 0, append([]string{"cancel", "second"}, at...)...)
	start(t, nil, "worker", "--name", "worker-0", "--coordinator", address, "--credentials", issue("worker", "worker-0"))

	out, _ := cli(t, 0, append([]string{"watch", "small", "-o", "json"}, at...)...)
	var got result
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatalf("watch -o json: %v\n%s", err, out)
	}
	if got.ModelHash != want.ModelHash {
		t.Errorf("model hash %s, want that of fathom run, %s", got.ModelHash, want.ModelHash)
	}
	status, _ := cli(t, 0, append([]string{"status", "small"}, at...)...)
	if !strings.Contains(status, want.ModelHash) {
		t.Errorf("status does not tell the model's hash:\n%s", status)
	}
	list, _ := cli(t, 0, append([]string{"list"}, at...)...)
	if !strings.Contains(list, "small") || !strings.Contains(list, "cancelled") {
		t.Errorf("list:\n%s", list)
	}
	nodes, _ := cli(t, 0, append([]string{"nodes"}, at...)...)
	logs, _ := cli(t, 0, append([]string{"logs", "worker/0"}, at...)...)
	if !strings.Contains(nodes, "ps-0") || !strings.Contains(nodes, "worker-0") || logs == "" {
		t.Errorf("nodes:\n%s\nlogs of worker-0:\n%s", nodes, logs)
	}
}
