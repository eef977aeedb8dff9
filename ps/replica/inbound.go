package replica

import (
	"bytes"
	"io"
	"sync"

	"github.com/hashicorp/raft"
)

// held is what a replica has of its group's log.
type held interface {
	// snapshotHeld returns the last entry of which nothing is left but a snapshot.
	snapshotHeld() (index uint64)
	// entryHeld reports whether the log holds the entry.
	entryHeld(index, term uint64) bool
	// onOverlap is told of a snapshot that was not needed.
	onOverlap(index uint64)
	// voter returns a voter as far as this replica knows, the named one if it is
	// one; nil if it knows of none.
	voter(id []byte) []byte
	// onRefused is told of a candidate that did not get the replica's vote.
	onRefused(q *raft.RequestVoteRequest)
}

// inbound stands between the network and raft, and looks at what a leader sends
// to a replica that has more than the leader believes: its answers were lost
// with a connection, and the leader's log does not reach back to the last one.
// Left alone, raft throws away the log behind the snapshot it is sent, with
// entries that it has acknowledged, goes on as if it had them, and panics when
// one is needed. Nor does it accept entries that follow one it has only in a
// snapshot, and is sent snapshots for ever.
type inbound struct {
	from <-chan raft.RPC
	to   chan raft.RPC
	held held
	done chan struct{}
	once sync.Once
}

func newInbound(from <-chan raft.RPC, h held) *inbound {
	return &inbound{from: from, to: make(chan raft.RPC), held: h, done: make(chan struct{})}
}

func (b *inbound) close() { b.once.Do(func() { close(b.done) }) }

// run passes one message after the other to raft, which handles them one after
// the other too: so the log does not change while it is looked at here, but for
// the entries a snapshot makes superfluous.
func (b *inbound) run() {
	for {
		select {
		case rpc := <-b.from:
			b.handle(rpc)
		case <-b.done:
			return
		}
	}
}

func (b *inbound) handle(rpc raft.RPC) {
	var answer raft.RPCResponse
	var ok bool
	switch q := rpc.Command.(type) {
	case *raft.InstallSnapshotRequest:
		if !b.has(q) {
			answer, ok = b.pass(rpc)
			break
		}
		answer, ok = b.pass(raft.RPC{Command: heartbeat(q)})
		if a, is := answer.Response.(*raft.AppendEntriesResponse); is {
			answer.Response = &raft.InstallSnapshotResponse{RPCHeader: a.RPCHeader, Term: a.Term, Success: a.Success}
		}
		// An error is of the connection, on which nobody waits for the answer then.
		_, _ = io.Copy(io.Discard, rpc.Reader)
		b.held.onOverlap(q.LastLogIndex)
	case *raft.AppendEntriesRequest:
		rpc.Command = b.trim(q)
		answer, ok = b.pass(rpc)
	case *raft.RequestVoteRequest:
		// A candidate is judged by its log. Raft refuses one that is no voter in
		// the replica's own configuration: the replica may be behind, and two that
		// have taken the places of others would never be elected by it.
		if v := b.held.voter(q.ID); v != nil && !bytes.Equal(v, q.ID) {
			unnamed := *q
			unnamed.ID = nil
			rpc.Command = &unnamed
		}
		answer, ok = b.pass(rpc)
		if a, is := answer.Response.(*raft.RequestVoteResponse); is && !a.Granted {
			b.held.onRefused(q)
		}
	case *raft.RequestPreVoteRequest:
		if v := b.held.voter(q.ID); v != nil {
			named := *q
			named.ID = v // raft looks at nothing but whether it is a voter
			rpc.Command = &named
		}
		answer, ok = b.pass(rpc)
	default:
		answer, ok = b.pass(rpc)
	}
	if ok {
		rpc.RespChan <- answer // it has room for one
	}
}

// pass gives a message to raft and returns its answer, unless raft stops.
func (b *inbound) pass(rpc raft.RPC) (answer raft.RPCResponse, ok bool) {
	answers := make(chan raft.RPCResponse, 1)
	rpc.RespChan = answers
	select {
	case b.to <- rpc:
	case <-b.done:
		return answer, false
	}
	select {
	case answer = <-answers:
		return answer, true
	case <-b.done:
		return answer, false
	}
}

// has reports whether the replica has all that is in a snapshot.
func (b *inbound) has(q *raft.InstallSnapshotRequest) bool {
	return q.LastLogIndex < b.held.snapshotHeld() || b.held.entryHeld(q.LastLogIndex, q.LastLogTerm)
}

// heartbeat is a message that does what every message of a leader does, and
// nothing else: raft learns the term and the leader, or refuses an older one.
func heartbeat(q *raft.InstallSnapshotRequest) *raft.AppendEntriesRequest {
	return &raft.AppendEntriesRequest{RPCHeader: q.RPCHeader, Term: q.Term}
}

// trim takes from a message the entries that the replica has in a snapshot.
// They are committed, so every later leader has the same; raft is asked to
// append what comes after them, without a look at the entry before.
func (b *inbound) trim(q *raft.AppendEntriesRequest) *raft.AppendEntriesRequest {
	last := b.held.snapshotHeld()
	if q.PrevLogEntry == 0 && len(q.Entries) == 0 || q.PrevLogEntry > last || last == 0 {
		return q
	}
	short := *q
	short.PrevLogEntry, short.PrevLogTerm = 0, 0
	for len(short.Entries) > 0 && short.Entries[0].Index <= last {
		short.Entries = short.Entries[1:]
	}
	// Raft would take the rest of the replica's log for committed.
	if n := len(short.Entries); n > 0 {
		last = short.Entries[n-1].Index
	}
	short.LeaderCommitIndex = min(short.LeaderCommitIndex, last)
	return &short
}

// snapshotHeld returns the entry before the first in the log, of which a
// snapshot is left.
func (g *Group) snapshotHeld() uint64 {
	first, err := g.store.FirstIndex()
	switch {
	case err != nil:
		return 0 // it is being closed
	case first > 0:
		return first - 1
	}
	return g.snaps.last.Load()
}

// entryHeld reports whether the log holds the entry.
func (g *Group) entryHeld(index, term uint64) bool {
	var l raft.Log
	return g.store.read(index, &l) == nil && l.Term == term
}

// onOverlap counts a snapshot that was not needed like one that was restored:
// if one comes after the other and nothing is applied, something is wrong.
func (g *Group) onOverlap(index uint64) {
	g.cfg.Logger.Info("snapshot not needed", "group", g.cfg.Group, "entry", index)
	g.adapter.restores.Add(1)
	g.poke()
}

// voter looks for a voter in the newest configuration of the log, of which raft
// judges candidates, too.
func (g *Group) voter(id []byte) (found []byte) {
	select {
	case <-g.ready:
	case <-g.life.Done():
		return nil
	}
	for _, s := range g.raft.GetConfiguration().Configuration().Servers {
		if s.Suffrage != raft.Voter {
			continue
		}
		if string(s.ID) == string(id) {
			return id
		}
		found = []byte(s.ID)
	}
	return found
}
