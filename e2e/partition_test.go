package e2e

import (
	"encoding/json"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// proxy stands between a server and everybody who calls it.
type proxy struct {
	t      *testing.T
	listen net.Listener
	to     string

	mu    sync.Mutex
	conns map[net.Conn]bool
	// cut is closed at the end of a partition; nil: there is none.
	cut chan struct{}
}

func newProxy(t *testing.T, to string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{t: t, listen: l, to: to, conns: map[net.Conn]bool{}}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() { p.serve(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		p.heal()
		p.reset()
		running.Wait()
	})
	return p
}

func (p *proxy) address() string { return p.listen.Addr().String() }

func (p *proxy) serve(in net.Conn) {
	defer in.Close()
	p.wait()
	out, err := net.Dial("tcp", p.to)
	if err != nil {
		return
	}
	defer out.Close()
	p.mu.Lock()
	p.conns[in], p.conns[out] = true, true
	p.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { p.copy(out, in) })
	both.Go(func() { p.copy(in, out) })
	both.Wait()
	p.mu.Lock()
	delete(p.conns, in)
	delete(p.conns, out)
	p.mu.Unlock()
}

// copy carries bytes one way; during a partition they wait, as on a network that
// loses every packet.
func (p *proxy) copy(to, from net.Conn) {
	defer to.Close()
	b := make([]byte, 64<<10)
	for {
		n, err := from.Read(b)
		p.wait()
		if n > 0 {
			if _, err := to.Write(b[:n]); err != nil {
				return
			}
		}
		if err != nil {
			if err != io.EOF {
				from.Close()
			}
			return
		}
	}
}

// wait returns when there is no partition.
func (p *proxy) wait() {
	p.mu.Lock()
	cut := p.cut
	p.mu.Unlock()
	if cut != nil {
		<-cut
	}
}

// part begins a partition: nothing gets through in either direction.
func (p *proxy) part() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cut == nil {
		p.cut = make(chan struct{})
	}
}

func (p *proxy) heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cut != nil {
		close(p.cut)
		p.cut = nil
	}
}

// reset breaks all connections.
func (p *proxy) reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.Close()
	}
}

// TestEtcdMembersAndPartitions: a cluster with an etcd of three members, whose
// servers are called through proxies. A member is lost for good, the others are
// killed and started again at once, calls to a server and to all servers get lost
// for a while, all connections break. The model is the undisturbed one.
func TestEtcdMembersAndPartitions(t *testing.T) {
	t.Parallel()
	job := writeFile(t, "small.yaml", smallJob)
	want := start(t, nil, "run", job, "--ps", "1", "--replicas", "1").result(limit)

	host, next := loopback()
	issue := authority(t, host)
	var etcd []*fathomRun
	var clients, peers, members []string
	for _, name := range []string{"etcd-0", "etcd-1", "etcd-2"} {
		clients, peers = append(clients, "https://"+next()), append(peers, "https://"+next())
		members = append(members, name+"="+peers[len(peers)-1])
	}
	var args [][]string
	for i, m := range members {
		name, _, _ := strings.Cut(m, "=")
		args = append(args, []string{"etcd", "--name", name, "--data-dir", t.TempDir(), "--client-url", clients[i], "--peer-url", peers[i],
			"--initial-cluster", strings.Join(members, ","), "--credentials", issue("etcd", name)})
		etcd = append(etcd, start(t, nil, args[i]...))
	}
	address := next()
	start(t, nil, "coordinator", "--name", "c", "--listen", address, "--etcd", strings.Join(clients, ","), "--credentials", issue("coordinator", "c"))
	var proxies []*proxy
	for _, name := range []string{"ps-0", "ps-1", "ps-2"} {
		at := next()
		p := newProxy(t, at)
		proxies = append(proxies, p)
		start(t, nil, "ps", "--name", name, "--listen", at, "--advertise", p.address(), "--data-dir", t.TempDir(), "--coordinator", address, "--credentials", issue("ps", name))
	}
	for _, name := range []string{"worker-0", "worker-1"} {
		start(t, nil, "worker", "--name", name, "--coordinator", address, "--credentials", issue("worker", name))
	}
	at := []string{"--coordinator", address, "--credentials", issue("admin", "me")}
	past := func(step uint64) {
		t.Helper()
		var last string
		for end := time.Now().Add(limit); time.Now().Before(end); {
			r := start(t, nil, append([]string{"status", "small", "-o", "json"}, at...)...)
			if r.wait(limit) != 0 {
				last = r.stderr.String() // no coordinator leads at the moment
				continue
			}
			var s struct {
				Step uint64 `json:"step"`
			}
			last = r.stdout.String()
			if err := json.Unmarshal([]byte(last), &s); err != nil {
				t.Fatalf("status: %v\n%s", err, last)
			}
			if s.Step >= step {
				return
			}
		}
		t.Fatalf("not past step %d: %s", step, last)
	}
	cli(t, 0, append([]string{"submit", job}, at...)...)
	past(5)
	proxies[0].part()
	if err := etcd[0].cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-time.After(3 * time.Second) // the length of the fault
	proxies[0].heal()
	past(25)
	for _, e := range etcd[1:] {
		if err := e.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		<-e.done
	}
	for _, p := range proxies {
		p.part()
	}
	<-time.After(3 * time.Second)
	for _, p := range proxies {
		p.heal()
	}
	start(t, nil, args[1]...)
	start(t, nil, args[2]...)
	past(45)
	for _, p := range proxies {
		p.reset()
	}
	out, _ := cli(t, 0, append([]string{"watch", "small", "-o", "json"}, at...)...)
	var got result
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatalf("watch -o json: %v\n%s", err, out)
	}
	if got.ModelHash != want.ModelHash {
		t.Errorf("model hash %s, want the undisturbed run's, %s", got.ModelHash, want.ModelHash)
	}
}
