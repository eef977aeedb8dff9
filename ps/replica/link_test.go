package replica

import (
	"context"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// narrow is the connections to one replica: slow, or cut after some bytes.
type narrow struct {
	to atomic.Pointer[string] // the replica's address; nil: no connection is meant
	// rate is bytes per second, 0 without a bound; cutAfter is how much the next
	// connection with more than that takes, 0 all.
	rate, cutAfter atomic.Int64
	cuts           atomic.Int64
}

func (n *narrow) dial(ctx context.Context, addr string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if to := n.to.Load(); err != nil || to == nil || *to != addr {
		return conn, err
	}
	return &narrowConn{Conn: conn, link: n}, nil
}

type narrowConn struct {
	net.Conn
	link *narrow
	sent int64
}

func (c *narrowConn) Write(b []byte) (int, error) {
	const packet = 1500
	for rest := len(b); rest > 0; rest -= packet {
		if rate := c.link.rate.Load(); rate > 0 {
			<-time.After(time.Duration(min(rest, packet)) * time.Second / time.Duration(rate)) // the link's speed
		}
	}
	c.sent += int64(len(b))
	if over := c.sent - c.link.cutAfter.Load(); over > 0 && over < c.sent && c.link.cuts.Load() < cutsMax {
		c.link.cuts.Add(1)
		c.link.cutAfter.Store(5 * c.link.cutAfter.Load()) // the next one gets further
		n, _ := c.Conn.Write(b[:max(0, int64(len(b))-over)])
		c.Conn.Close()
		return n, syscall.ECONNRESET
	}
	return c.Conn.Write(b)
}

// cutsMax is how often a connection is cut: after every time raft waits longer.
const cutsMax = 2

// absent trains until a replica that is not there needs a snapshot of some
// hundred kilobytes.
func absent(t *testing.T, link *narrow, rows int) (c *cluster, away int) {
	t.Helper()
	c = newCluster(t, 3)
	c.dial = link.dial
	c.tune = func(_ int, cfg *Config) {
		cfg.SnapshotBytes, cfg.SegmentBytes, cfg.OutstandingEntries, cfg.TrailingEntries, cfg.CachedEntries = 64<<10, 64<<10, 8, 9, 1
	}
	c.heartbeat = calm // connections are what is looked at
	c.tcp()
	c.elect(0)
	c.push([][]byte{configureCommand()})
	c.train(1, 1, rows)
	away = (c.leader(-1) + 1) % 3
	c.close(away)
	c.train(2, 12, rows)
	for i, g := range c.groups {
		if i != away {
			eventually(t, "the log is past the absent member", func() bool {
				first, err := g.store.FirstIndex()
				return err == nil && first > 8
			})
		}
	}
	link.to.Store(&c.members[away].Address)
	return c, away
}

// The connection that carries a snapshot breaks after 64 KiB, the next one after
// 320: no part of a snapshot is taken for one, and in the end the replica has it.
func TestSnapshotThatIsCutOffIsSentAgain(t *testing.T) {
	t.Parallel()
	const rows = 5000
	link := new(narrow)
	c, away := absent(t, link, rows)
	link.cutAfter.Store(64 << 10)
	c.open(away)
	for limit := time.Now().Add(2 * time.Minute); time.Now().Before(limit); <-time.After(50 * time.Millisecond) { // raft waits between attempts
		if v, _ := c.groups[away].state.Version(); v > 0 {
			if n := link.cuts.Load(); n < cutsMax {
				t.Errorf("version %d after %d cuts, want none before the %dth", v, n, cutsMax)
			}
			break
		}
	}
	c.train(13, 14, rows)
	c.settled(14, rows)
}

// A snapshot over a link of 0.1 Mbit/s takes half a minute: the others go on meanwhile
// under the same leader.
func TestSnapshotOverASlowLinkHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	const rows = 5000
	link := new(narrow)
	c, away := absent(t, link, rows)
	link.rate.Store(1e5 / 8)
	leader := c.leader(-1)
	c.open(away)
	c.train(13, 15, rows)
	if v, _ := c.groups[away].state.Version(); v >= 12 {
		t.Errorf("the slow replica is at version %d already: the link was not slow", v)
	}
	if now := c.leader(-1); now != leader {
		t.Errorf("n%d leads, n%d did", now, leader)
	}
	link.rate.Store(0)
	c.settled(15, rows)
}

// A follower that writes nothing for as long as a disk may take holds up neither
// the leader nor the other follower, and catches up.
func TestFollowerWithASlowDiskHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	disks := make([]*faultyDisk, 3)
	c.openLog = func(i int, _ string) Disk {
		disks[i] = &faultyDisk{Disk: memDisk{raft.NewInmemStore()}, hang: make(chan struct{})}
		return disks[i]
	}
	c.tune = func(_ int, cfg *Config) { cfg.DiskTimeout = 10 * time.Minute }
	c.heartbeat = calm
	c.memory()
	c.elect(0)
	c.push([][]byte{configureCommand()})
	c.train(1, 3, 5)
	leader := c.leader(-1)
	slow := (leader + 1) % 3
	disks[slow].hung.Store(true)
	c.train(4, 40, 5)
	if v, _ := c.groups[slow].state.Version(); v >= 40 {
		t.Errorf("the slow replica is at version %d already: its disk was not slow", v)
	}
	if now := c.leader(-1); now != leader {
		t.Errorf("n%d leads, n%d did", now, leader)
	}
	disks[slow].hung.Store(false)
	close(disks[slow].hang)
	c.settled(40, 5)
}

// Of five replicas the leader and one follower are cut off from the others, and
// later everyone hears only two neighbours: what the majority acknowledged stays.
func TestPartitionsOfFive(t *testing.T) {
	t.Parallel()
	const n = 5
	c := newCluster(t, n)
	c.tune = func(_ int, cfg *Config) { cfg.Heartbeat = 300 * time.Millisecond }
	c.memory()
	c.push([][]byte{configureCommand()})
	c.train(1, 5, 5)
	leader := c.leader(-1)
	friend := (leader + 1) % n
	for i := range n {
		if i != leader && i != friend {
			for _, j := range []int{leader, friend} {
				c.link(i, j, false)
				c.link(j, i, false)
			}
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := c.groups[leader].Propose(ctx, laneChunks(6, 0, 5)); err == nil {
		t.Error("a leader with one follower of four acknowledged a push")
	}
	eventually(t, "the majority elects another", func() bool {
		at := c.leads(leader)
		return at >= 0 && at != friend
	})
	eventually(t, "the old leader steps down", func() bool { return c.groups[leader].raft.State() != raft.Leader })
	c.train(6, 10, 5)
	for i := range n {
		c.heal(i)
	}
	c.train(11, 12, 5)
	for i := range n { // a ring
		for j := range n {
			if d := (i - j + n) % n; d != 0 && d != 1 && d != n-1 {
				c.link(i, j, false)
			}
		}
	}
	c.train(13, 15, 5)
	for i := range n {
		c.heal(i)
	}
	c.train(16, 17, 5)
	c.settled(17, 5)
}

// Messages of a term that is over are refused and change nothing.
func TestMessagesOfAnOldTermAreRefused(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3).memory()
	c.push([][]byte{configureCommand()})
	c.train(1, 5, 5)
	old := c.leader(-1)
	term := c.groups[old].raft.CurrentTerm()
	c.cut(old)
	c.leader(old)
	c.train(6, 8, 5)
	c.heal(old)
	c.train(9, 10, 5)
	c.settled(10, 5)
	from := raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(c.members[old].ID()), Addr: []byte(c.members[old].Address)}
	for i, m := range c.members {
		if i == old {
			continue
		}
		id, addr := raft.ServerID(m.ID()), raft.ServerAddress(m.Address)
		before := c.groups[i].raft.LastIndex()
		var appended raft.AppendEntriesResponse
		forged := &raft.Log{Index: 4, Term: term, Type: raft.LogCommand, Data: laneChunks(99, 0, 5)[0]}
		if err := c.inmem[old].AppendEntries(id, addr, &raft.AppendEntriesRequest{RPCHeader: from, Term: term, PrevLogEntry: 3, PrevLogTerm: term,
			Entries: []*raft.Log{seal(forged)}, LeaderCommitIndex: 4}, &appended); err != nil || appended.Success || appended.Term <= term {
			t.Errorf("entries of term %d: %+v, %v", term, appended, err)
		}
		var vote raft.RequestVoteResponse
		if err := c.inmem[old].RequestVote(id, addr, &raft.RequestVoteRequest{RPCHeader: from, Term: term, LastLogIndex: 1000, LastLogTerm: term}, &vote); err != nil || vote.Granted {
			t.Errorf("a vote for term %d: %+v, %v", term, vote, err)
		}
		if after := c.groups[i].raft.LastIndex(); after < before {
			t.Errorf("the log of n%d ends at %d, it did at %d", i, after, before)
		}
	}
	c.train(11, 12, 5)
	c.settled(12, 5)
}
