package replica

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// The leader is lost for good when it has told nobody but the member that leaves
// of its removal. That member has the longest log: it must lead once more.
func TestMemberThatLeavesElectsALeader(t *testing.T) {
	t.Parallel()
	const rows = 10
	// Raft tells a member of its removal once, by a connection that it then closes:
	// now and then it does not get there, and the leader is lost for nothing.
	var c *cluster
	for range 10 {
		if c = removedByItsOwnWord(t, rows); c != nil {
			break
		}
	}
	if c == nil {
		t.Fatal("n3 was told of its removal in none of ten clusters")
	}
	eventually(t, "n1 or n2 leads a group without n3", func() bool {
		leader := c.leads(3)
		return leader > 0 && slices.Equal(c.groups[leader].Configuration().Voters, []string{"n0", "n1", "n2"})
	})
	c.close(3)
	c.train(4, 6, rows)
	c.settled(6, rows)
}

// removedByItsOwnWord loses the leader n0 of four when only n3 knows of the removal
// of n3. It returns nil when n3 does not.
func removedByItsOwnWord(t *testing.T, rows int) *cluster {
	t.Helper()
	c := newCluster(t, 4)
	c.heartbeat = 2 * time.Second
	c.memory()
	c.elect(0)
	c.push([][]byte{configureCommand()})
	c.train(1, 3, rows)

	c.link(0, 1, false)
	c.link(0, 2, false)
	plan := slices.Clone(c.members)
	plan[3].Role = Leaving
	for _, g := range c.groups {
		g.SetMembers(plan)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	changed := make(chan error, 1)
	go func() { _, err := c.groups[0].Reconfigure(ctx); changed <- err }()
	told := false
	eventually(t, "n3 knows that it leaves, or n0 leads no more", func() bool {
		others, leaves := c.groups[3].leaves()
		told = leaves && len(others) == 3
		return told || len(changed) > 0
	})
	c.close(0)
	cancel()
	if err := <-changed; err == nil {
		t.Error("the change was committed by n0 and n3 alone")
	}
	if told {
		return c
	}
	for i := range c.groups {
		c.close(i)
	}
	return nil
}

// One that was removed and does not know it disturbs nobody: the others have a
// leader.
func TestRemovedMemberDoesNotStand(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	c.heartbeat = calm // there is a leader at all times
	c.memory()
	c.elect(0)
	c.push([][]byte{configureCommand()})
	c.train(1, 3, 10)
	const follower = 1
	var voters []raft.Server
	for i, m := range c.members {
		if i != follower {
			voters = append(voters, raft.Server{ID: raft.ServerID(m.ID()), Address: raft.ServerAddress(m.Address)})
		}
	}
	if c.groups[follower].wouldBeElected(voters) {
		t.Error("a replica would be elected although there is a leader")
	}
}
