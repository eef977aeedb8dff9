package replica

import (
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// A leader whose process is gone is succeeded although raft would wait for it
// much longer than the test does.
func TestDeadLeaderIsSucceededAtOnce(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	c.tune = func(_ int, cfg *Config) { cfg.Heartbeat = 2 * time.Minute }
	c.tcp()
	c.elect(2)
	c.push([][]byte{configureCommand()})
	c.train(1, 5, 10)
	c.settled(5, 10) // so that no log is longer than that of n0
	if err := c.muxes[2].Close(); err != nil {
		t.Fatal(err)
	}
	if got := c.leader(2); got != 0 {
		t.Errorf("n%d leads, want n0, which is the first of those left", got)
	}
	c.close(2)
	c.train(6, 10, 10)
	c.settled(10, 10)
}

// A connection that ends while the leader's process is there changes nothing.
func TestLeaderThatListensIsNotSucceeded(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	c.tune = func(_ int, cfg *Config) { cfg.Heartbeat = 2 * time.Minute }
	c.tcp()
	c.elect(2)
	c.push([][]byte{configureCommand()})
	term := c.groups[0].raft.CurrentTerm()
	for range 3 {
		for _, g := range c.groups[:2] {
			g.succeed()
		}
	}
	c.train(1, 5, 10)
	if got := c.groups[0].raft.CurrentTerm(); got != term {
		t.Errorf("term %d, want still %d", got, term)
	}
}

// A new group does not wait for raft's timeouts, and its first member leads.
func TestNewGroupIsLedByItsFirstMember(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	c.tune = func(_ int, cfg *Config) { cfg.Heartbeat = 15 * time.Second }
	c.tcp()
	if got := c.leader(-1); got != 0 {
		t.Errorf("n%d leads, want n0", got)
	}
}

// A process that was started again before anybody looked listens where the leader
// did, and does not serve the group yet.
func TestRestartedProcessIsNoLeader(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	c.tune = func(_ int, cfg *Config) { cfg.Heartbeat = 2 * time.Minute }
	c.tcp()
	c.elect(2)
	leader := raft.ServerID(c.members[2].ID())
	if c.groups[0].absent(leader) {
		t.Error("the leader is taken for gone")
	}
	c.close(2)
	if !c.groups[0].absent(leader) {
		t.Error("nobody notices that the process at the leader's address does not serve the group")
	}
}

// A candidate whose log is shorter than that of another voter ends the leader's
// term and cannot win: the other one stands, without waiting for raft's timers.
func TestCandidateWithAShorterLogIsOutdone(t *testing.T) {
	t.Parallel()
	for name, lost := range map[string]bool{"the leader is lost": true, "the leader is there": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, 3)
			c.tune = func(_ int, cfg *Config) { cfg.Heartbeat = 2 * time.Minute }
			c.memory()
			c.elect(2)
			c.push([][]byte{configureCommand()})
			c.link(2, 0, false)
			c.train(1, 3, 10)
			eventually(t, "n1 has what n2 has", func() bool {
				return c.groups[1].raft.LastIndex() == c.groups[2].raft.LastIndex()
			})
			if lost {
				c.link(1, 2, false)
				c.close(2)
			}
			c.groups[0].stand()
			eventually(t, "another leader", func() bool { return c.leads(0) == 1 })
		})
	}
}
