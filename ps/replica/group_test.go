package replica

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"github.com/fathom-train/fathom/ps/fsm"
)

func TestRestartFromDiskKeepsTheState(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3).tcp()
	c.push([][]byte{configureCommand()})
	c.train(1, 6, 50)
	c.settled(6, 50)
	for i := range c.groups {
		c.close(i)
	}
	c.tune = func(_ int, cfg *Config) { cfg.Bootstrap = false }
	for i := range c.groups {
		c.open(i)
	}
	c.settled(6, 50)
	c.train(7, 9, 50)
	c.settled(9, 50)
}

func TestRestartFromSnapshotKeepsTheState(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	c.tune = func(_ int, cfg *Config) { cfg.SnapshotBytes, cfg.TrailingEntries = 1<<10, 4 }
	c.tcp()
	c.push([][]byte{configureCommand()})
	c.train(1, 30, 50)
	c.settled(30, 50)
	for i := range c.groups {
		g := c.groups[i]
		eventually(t, "a snapshot and a shorter log", func() bool {
			first, err := g.store.FirstIndex()
			return err == nil && first > 10
		})
		c.close(i)
	}
	for i := range c.groups {
		c.open(i)
	}
	c.settled(30, 50)
	// A member that missed the compacted part is brought up to date by a snapshot.
	follower := (c.leader(-1) + 1) % 3
	c.close(follower)
	c.train(31, 60, 50)
	for _, g := range c.groups {
		if g != nil {
			eventually(t, "the log is past the absent member", func() bool {
				first, err := g.store.FirstIndex()
				return err == nil && first > 70
			})
		}
	}
	c.open(follower)
	c.settled(60, 50)
}

func TestFailoverUnderLoadLosesNothingAndAppliesNothingTwice(t *testing.T) {
	t.Parallel()
	const steps, rows = 60, 40
	c := newCluster(t, 3)
	c.tune = func(_ int, cfg *Config) { cfg.Heartbeat = 300 * time.Millisecond }
	c.tcp()
	c.push([][]byte{configureCommand()})
	var mu sync.Mutex // guards the cluster's groups against the killer
	push := func(cmds [][]byte) {
		for attempt := 0; ; attempt++ {
			mu.Lock()
			g := c.groups[attempt%len(c.groups)]
			mu.Unlock()
			if g == nil {
				<-time.After(time.Millisecond)
				continue
			}
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			results, err := g.Propose(ctx, cmds)
			cancel()
			if err == nil && len(results) == len(cmds) {
				return
			}
			if t.Context().Err() != nil {
				return
			}
			if errors.Is(err, ErrNotLeader) {
				<-time.After(time.Millisecond)
			}
		}
	}
	killed := make(chan time.Duration, 1)
	for step := uint64(1); step <= steps; step++ {
		if step == steps/2 {
			go func() {
				mu.Lock()
				defer mu.Unlock()
				old := c.leader(-1)
				at := time.Now()
				g := c.groups[old]
				g.trans.stopNow(g) // as when the process dies: nobody is told
				c.groups[old] = nil
				c.leader(-1)
				killed <- time.Since(at)
				g.Close()
				c.open(old)
			}()
		}
		var wg sync.WaitGroup
		for lane := range uint16(testLanes) {
			wg.Go(func() {
				push(laneChunks(step, lane, rows))
				push(laneChunks(step, lane, rows)) // a copy changes nothing
			})
		}
		wg.Wait()
	}
	t.Logf("another leader after %v (heartbeat 300 ms)", <-killed)
	mu.Lock()
	defer mu.Unlock()
	c.settled(steps, rows)
}

// stopNow cuts a replica off at once.
func (x *transport) stopNow(g *Group) {
	tcp := x.carrier.(*raft.NetworkTransport)
	tcp.Close()
	tcp.CloseStreams()
	g.raft.Shutdown()
}

func TestProposeOnFollowerNamesTheLeader(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	c.heartbeat = calm
	c.memory()
	const leader = 0
	c.elect(leader)
	g := c.groups[1]
	eventually(t, "the follower knows the leader", func() bool { node, _ := g.Leader(); return node != "" })
	_, err := g.Propose(t.Context(), [][]byte{configureCommand()})
	var notLeader *NotLeaderError
	if !errors.As(err, &notLeader) || !errors.Is(err, ErrNotLeader) || notLeader.Leader != c.members[leader].Node {
		t.Errorf("error %v, want the name %s of the leader", err, c.members[leader].Node)
	}
}

func TestReadWaitsForItsVersion(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3).memory()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	nothing := func(*fsm.State) error { return nil }
	if err := c.groups[0].Read(ctx, 0, nothing); !errors.Is(err, ErrNotReady) {
		t.Errorf("read before the schema: %v", err)
	}
	c.push([][]byte{configureCommand()})
	read := make(chan error, 3)
	for _, g := range c.groups {
		go func() { read <- g.Read(t.Context(), 1, nothing) }()
	}
	c.train(1, 1, 5)
	for range c.groups {
		if err := <-read; err != nil {
			t.Errorf("read: %v", err)
		}
	}
	g := c.groups[0]
	go func() { read <- g.Read(t.Context(), 99, nothing) }()
	c.close(0)
	if err := <-read; !errors.Is(err, ErrClosed) {
		t.Errorf("read of a group that closes: %v", err)
	}
	if _, err := g.Propose(t.Context(), nil); !errors.Is(err, ErrClosed) {
		t.Errorf("proposal to a closed group: %v", err)
	}
	if g.Inspect(func(*fsm.State) {}) {
		t.Error("the state of a closed group was handed out")
	}
}

func TestEmptyDirectoryIsNoVoter(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3).tcp()
	c.close(0)
	c.dirs[0] = t.TempDir()
	c.tune = func(_ int, cfg *Config) { cfg.Bootstrap = false }
	err := c.tryOpen(0)
	if !errors.Is(err, ErrNoData) || !strings.Contains(err.Error(), c.dirs[0]) {
		t.Errorf("error %v, want one that says that %s is empty", err, c.dirs[0])
	}
	if HasData(c.dirs[0]) {
		t.Error("the refused replica left data behind")
	}
}

func TestConfigReportsAllFaults(t *testing.T) {
	t.Parallel()
	err := Config{Node: "c", Members: []Member{{Node: "a", Address: "x"}, {Node: "a", Address: "y"}}}.Validate()
	for _, want := range []string{"directory", "group name", "members have", "replica c"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not mention %s", err, want)
		}
	}
	if _, err := Open(Config{}, nil); err == nil {
		t.Error("an empty configuration opened")
	}
}
