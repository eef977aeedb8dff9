package replica

import (
	"testing"

	"github.com/hashicorp/raft"
)

// sendSnapshot sends the leader's newest snapshot to a follower, as raft does
// when the answers to what it sent were lost with a connection and its log does
// not reach back to the last entry that was answered.
func (c *cluster) sendSnapshot(leader, to int) (index uint64) {
	c.t.Helper()
	g := c.groups[leader]
	metas, err := g.snaps.List()
	if err != nil || len(metas) == 0 {
		c.t.Fatalf("snapshots of the leader: %v, %v", metas, err)
	}
	meta, r, err := g.snaps.Open(metas[0].ID)
	if err != nil {
		c.t.Fatal(err)
	}
	defer r.Close()
	id, addr := raft.ServerID(c.members[leader].ID()), []byte(c.members[leader].Address)
	req := raft.InstallSnapshotRequest{
		RPCHeader:       raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(id), Addr: addr},
		SnapshotVersion: meta.Version, Term: g.raft.CurrentTerm(), Leader: addr,
		LastLogIndex: meta.Index, LastLogTerm: meta.Term, Size: meta.Size,
		Configuration: raft.EncodeConfiguration(meta.Configuration), ConfigurationIndex: meta.ConfigurationIndex,
	}
	var resp raft.InstallSnapshotResponse
	if err := c.inmem[leader].InstallSnapshot(id, raft.ServerAddress(c.members[to].Address), &req, &resp, r); err != nil || !resp.Success {
		c.t.Fatalf("install snapshot at entry %d: %+v, %v", meta.Index, resp, err)
	}
	return meta.Index
}

// sendEntries sends what the leader's log holds after an entry, as the leader
// does after the snapshot was accepted.
func (c *cluster) sendEntries(leader, to int, after uint64) {
	c.t.Helper()
	g := c.groups[leader]
	id, addr := raft.ServerID(c.members[leader].ID()), []byte(c.members[leader].Address)
	last, err := g.store.LastIndex()
	if err != nil {
		c.t.Fatal(err)
	}
	for after < last {
		req := raft.AppendEntriesRequest{
			RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(id), Addr: addr},
			Term:      g.raft.CurrentTerm(), LeaderCommitIndex: g.raft.CommitIndex(), PrevLogEntry: after,
		}
		for i := after; i <= min(after+8, last); i++ {
			var l raft.Log
			if err := g.store.GetLog(i, &l); err != nil {
				c.t.Fatalf("entry %d of the leader: %v", i, err)
			}
			if i == after {
				req.PrevLogTerm = l.Term
			} else {
				req.Entries = append(req.Entries, &l)
			}
		}
		var resp raft.AppendEntriesResponse
		if err := c.inmem[leader].AppendEntries(id, raft.ServerAddress(c.members[to].Address), &req, &resp); err != nil || !resp.Success {
			c.t.Fatalf("append after entry %d: %+v, %v", after, resp, err)
		}
		after += uint64(len(req.Entries))
	}
}

// A snapshot may end in the middle of what a follower's log holds, or of what it
// has in a snapshot of its own. Raft would throw the rest of the log away,
// acknowledged entries among it, go on as if it were there, and panic when it is
// needed; or ask for the snapshot again and again.
func TestSnapshotDoesNotReplaceALongerLog(t *testing.T) {
	t.Parallel()
	const rows = 40
	for name, follower := range map[string]struct {
		snapshotBytes int64
		trailing      uint64
	}{
		"no snapshot of its own":      {0, 0},
		"it has compacted its log":    {8 << 10, 33},
		"all is in its snapshot, too": {4 << 10, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster(t, 3)
			c.tune = func(i int, cfg *Config) {
				cfg.OutstandingEntries, cfg.SnapshotBytes = 32, follower.snapshotBytes
				cfg.TrailingEntries = follower.trailing
				if i == 0 {
					cfg.SnapshotBytes, cfg.TrailingEntries = 100<<10, 1000
				}
			}
			c.heartbeat = calm // the leader stays
			c.memory()
			c.elect(0)
			c.push([][]byte{configureCommand()})
			c.train(1, 60, rows)
			eventually(t, "the leader has a snapshot", func() bool { return c.groups[0].snaps.size.Load() > 0 })
			c.train(61, 80, rows)
			c.settled(80, rows)
			_, before, err := c.groups[1].store.verify()
			if err != nil {
				t.Fatal(err)
			}
			at := c.sendSnapshot(0, 1)
			first, last, err := c.groups[1].store.verify()
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("the leader's snapshot ends at %d, the follower's log is %d..%d", at, first, last)
			if first == 0 || last < before || at >= last {
				t.Errorf("the follower's log ended at %d", before)
			}
			c.sendEntries(0, 1, at)
			c.train(81, 95, rows)
			c.settled(95, rows)
			if err := c.groups[1].Err(); err != nil {
				t.Error(err)
			}
		})
	}
}
