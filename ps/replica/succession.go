package replica

import (
	"slices"
	"time"

	"github.com/hashicorp/raft"
)

// A follower stands for election without waiting for raft's timers, which are long
// enough for a leader that is merely busy, when it knows better: the leader's
// process is gone, or another one stood with a log that is shorter than its own.

// successionShare of Heartbeat is what each voter leaves to the one before it: an
// election takes as long on a busy machine.
const successionShare = 2

// openingShare of Heartbeat is what the first voter of a new group leaves to the
// others to open it.
const openingShare = 4

// goneWait bounds how long an answer is waited for that says that a replica is gone.
const goneWait = 125 * time.Millisecond

// watchPeers looks whether the leader is still there whenever a connection of a
// peer has ended, and whether a vote that was refused calls for another candidate.
func (g *Group) watchPeers() {
	for {
		select {
		case <-g.hungUp:
			g.succeed()
		case candidate := <-g.shorter:
			g.outdo(candidate)
		case <-g.life.Done():
			return
		}
	}
}

// onHungUp is told that a connection of a peer has ended. It must not block.
func (g *Group) onHungUp() {
	select {
	case g.hungUp <- struct{}{}:
	default:
	}
}

// succeed makes this replica stand for election when the process of its leader is
// gone. Raft alone waits until the leader was silent for one to three times
// Heartbeat. All followers find out at the same moment: so that they do not all
// vote for themselves, each leaves some time to those before it in the
// configuration. To stand too early is no harm, it is what a hand-over does.
func (g *Group) succeed() {
	_, leader := g.raft.LeaderWithID()
	before, votes := g.votersBefore(leader)
	if leader == "" || !votes || !g.absent(leader) {
		return
	}
	g.lost = leader
	if !g.awaitTurn(before) {
		return
	}
	if _, now := g.raft.LeaderWithID(); g.raft.State() != raft.Follower || now != "" && now != leader {
		return
	}
	g.cfg.Logger.Info("the leader's process is gone", "group", g.cfg.Group, "leader", string(leader))
	g.stand()
}

// onRefused is told of a candidate that did not get this replica's vote. It must
// not block.
func (g *Group) onRefused(q *raft.RequestVoteRequest) {
	index, term, ok := g.lastEntry()
	if !ok || term < q.LastLogTerm || term == q.LastLogTerm && index <= q.LastLogIndex {
		return
	}
	g.tellShorter(string(q.ID))
}

func (g *Group) tellShorter(candidate string) {
	select {
	case g.shorter <- candidate:
	default:
	}
}

// outdo makes this replica stand for election when a candidate had a shorter log:
// it has begun a new term, so that there is no leader, and cannot win. Others may
// have refused it, too.
func (g *Group) outdo(candidate string) {
	term := g.raft.CurrentTerm()
	before, votes := g.votersBefore(raft.ServerID(candidate), g.lost)
	if !votes || !g.awaitTurn(before) {
		return
	}
	if _, leader := g.raft.LeaderWithID(); g.raft.State() != raft.Follower || leader != "" || g.raft.CurrentTerm() != term {
		return // somebody else stands, or leads
	}
	g.cfg.Logger.Info("a candidate's log is shorter than this one", "group", g.cfg.Group, "candidate", candidate)
	g.stand()
}

// awaitTurn leaves some time to every voter before this one. It is not this one's
// turn if the group ends, or one of the others has stood in vain.
func (g *Group) awaitTurn(before int) bool {
	turn := time.NewTimer(time.Duration(before) * g.cfg.Heartbeat / successionShare)
	defer turn.Stop()
	select {
	case <-turn.C:
		return true
	case candidate := <-g.shorter:
		g.tellShorter(candidate) // it is looked at next
		return false
	case <-g.life.Done():
		return false
	}
}

// lastEntry tells where the log ends; not ok: nothing is left of it but a snapshot.
func (g *Group) lastEntry() (index, term uint64, ok bool) {
	index, err := g.store.LastIndex()
	var l raft.Log
	if err != nil || g.store.read(index, &l) != nil {
		return 0, 0, false
	}
	return index, l.Term, true
}

// votersBefore counts the voters that stand before this replica when some do not
// count, and tells whether it is one itself.
func (g *Group) votersBefore(without ...raft.ServerID) (before int, votes bool) {
	for _, s := range g.raft.GetConfiguration().Configuration().Servers {
		switch {
		case s.Suffrage != raft.Voter || slices.Contains(without, s.ID):
		case s.ID == raft.ServerID(g.cfg.self().ID()):
			return before, true
		default:
			before++
		}
	}
	return 0, false
}

// absent reports whether a replica's process is gone for certain.
func (g *Group) absent(id raft.ServerID) bool {
	at, err := g.ServerAddr(id)
	return err == nil && at != "" && g.layer != nil && g.layer.absent(at, min(g.cfg.Heartbeat/4, goneWait))
}

// standFirst makes the first voter of a new group stand for election, once the
// others have had time to open it. If they were slower, raft elects in its time.
func (g *Group) standFirst() {
	opened := time.NewTimer(g.cfg.Heartbeat / openingShare)
	defer opened.Stop()
	select {
	case <-opened.C:
	case <-g.life.Done():
		return
	}
	if _, leader := g.raft.LeaderWithID(); leader == "" && g.raft.State() == raft.Follower {
		g.stand()
	}
}

// stand tells raft to stand for election now, as the message of a leader that
// hands over does.
func (g *Group) stand() {
	g.trans.inbound.pass(raft.RPC{Command: g.timeoutNow()})
}

// timeoutNow is that message.
func (g *Group) timeoutNow() *raft.TimeoutNowRequest {
	return &raft.TimeoutNowRequest{RPCHeader: g.header()}
}

// header is that of this replica's messages.
func (g *Group) header() raft.RPCHeader {
	self := raft.ServerID(g.cfg.self().ID())
	return raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(self), Addr: g.trans.EncodePeer(self, g.trans.LocalAddr())}
}
