package replica

import (
	"time"

	"github.com/hashicorp/raft"
)

// A leader removes a member by an entry of the log, which every replica obeys as
// soon as it has it. If the leader is lost for good when it has sent the entry to
// nobody but the member that leaves, that one has the longest log and votes for
// nobody, and raft lets nobody stand for election who is not in his own
// configuration: no leader is ever elected. By the raft dissertation (section
// 4.2.2) it must stand: it is elected by a majority of the configuration without
// it, commits the entry and steps down.

// leavingPause, in Heartbeats, is between two looks at whether that has happened.
// It is longer than an election takes.
const leavingPause = 4

// watchLeaving stands for election on the way out of a group without a leader.
func (g *Group) watchLeaving() {
	tick := time.NewTicker(leavingPause * g.cfg.Heartbeat)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-g.life.Done():
			return
		}
		if _, leader := g.raft.LeaderWithID(); leader != "" || g.raft.State() != raft.Follower {
			continue
		}
		if others, leaves := g.leaves(); leaves && g.wouldBeElected(others) {
			g.cfg.Logger.Info("stands for election on the way out, the others have no leader", "group", g.cfg.Group)
			g.stand()
		}
	}
}

// leaves reports whether the log says that this voter leaves, and that is not
// known to be committed; others are the voters then.
func (g *Group) leaves() (others []raft.Server, leaves bool) {
	self := g.cfg.self().ID()
	for _, s := range g.raft.GetConfiguration().Configuration().Servers {
		switch {
		case string(s.ID) == self:
			return nil, false
		case s.Suffrage == raft.Voter:
			others = append(others, s)
		}
	}
	for _, v := range g.Configuration().Voters {
		leaves = leaves || v == self
	}
	return others, leaves
}

// wouldBeElected asks the voters as a candidate does before it begins a term: those
// that have a leader, or a longer log, say no. So a replica that was removed and
// does not know it disturbs nobody.
func (g *Group) wouldBeElected(voters []raft.Server) bool {
	last, term, ok := g.lastEntry()
	if !ok {
		return false // it is behind the others
	}
	req := &raft.RequestPreVoteRequest{RPCHeader: g.header(), Term: g.raft.CurrentTerm() + 1,
		LastLogIndex: last, LastLogTerm: term}
	answers := make(chan bool, len(voters))
	for _, s := range voters {
		go func() {
			var reply raft.RequestPreVoteResponse
			err := g.trans.RequestPreVote(s.ID, s.Address, req, &reply)
			answers <- err == nil && reply.Granted
		}()
	}
	limit := time.NewTimer(g.cfg.Heartbeat)
	defer limit.Stop()
	granted := 0
	for range voters {
		select {
		case yes := <-answers:
			if yes {
				granted++
			}
		case <-limit.C:
			return 2*granted > len(voters)
		case <-g.life.Done():
			return false
		}
	}
	return 2*granted > len(voters)
}
