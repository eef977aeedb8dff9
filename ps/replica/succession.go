package replica

import (
	"context"
	"errors"
	"strings"
	"syscall"
	"time"

	"github.com/hashicorp/raft"
)

// successionShare of Heartbeat is what each voter leaves to the one before it.
const successionShare = 4

// watchPeers looks whether the leader is still there whenever a connection of a
// peer has ended.
func (g *Group) watchPeers() {
	for {
		select {
		case <-g.hungUp:
			g.succeed()
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
	if leader == "" || !votes || !g.refuses(leader) {
		return
	}
	turn := time.NewTimer(time.Duration(before) * g.cfg.Heartbeat / successionShare)
	defer turn.Stop()
	select {
	case <-turn.C:
	case <-g.life.Done():
		return
	}
	if _, now := g.raft.LeaderWithID(); g.raft.State() != raft.Follower || now != "" && now != leader {
		return
	}
	g.cfg.Logger.Info("the leader's process is gone", "group", g.cfg.Group, "leader", string(leader))
	g.stand()
}

// votersBefore counts the voters that stand before this replica when the leader is
// gone, and tells whether it is one itself.
func (g *Group) votersBefore(leader raft.ServerID) (before int, votes bool) {
	for _, s := range g.raft.GetConfiguration().Configuration().Servers {
		switch {
		case s.Suffrage != raft.Voter || s.ID == leader:
		case s.ID == raft.ServerID(g.cfg.self().ID()):
			return before, true
		default:
			before++
		}
	}
	return 0, false
}

// refuses reports whether nobody listens where a replica's server was.
func (g *Group) refuses(id raft.ServerID) bool {
	addr, err := g.ServerAddr(id)
	if err != nil || addr == "" || g.dial == nil {
		return false
	}
	ctx, cancel := context.WithTimeout(g.life, g.cfg.Heartbeat)
	defer cancel()
	host, _, _ := strings.Cut(string(addr), string(replicaMark))
	conn, err := g.dial(ctx, host)
	if err == nil {
		conn.Close()
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}

// standFirst makes the first voter of a new group stand for election, once the
// others have had time to open it. If they were slower, raft elects in its time.
func (g *Group) standFirst() {
	opened := time.NewTimer(g.cfg.Heartbeat / successionShare)
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
