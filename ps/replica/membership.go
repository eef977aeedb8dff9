package replica

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/raft"
)

// Configuration is who belongs to the group.
type Configuration struct {
	// Voters and Learners are replicas by their ID, ascending.
	Voters, Learners []string
}

// configured is a configuration and where in the log it stands.
type configured struct {
	index uint64
	Configuration
}

// Configuration returns the newest configuration that is committed as far as
// this replica knows: it cannot be undone.
func (g *Group) Configuration() Configuration {
	if c := g.configured.Load(); c != nil {
		return c.Configuration
	}
	return Configuration{}
}

// setConfiguration learns of a committed configuration. Entries and snapshots
// bring it, on different goroutines.
func (g *Group) setConfiguration(index uint64, rc raft.Configuration) {
	c := &configured{index: index}
	for _, s := range rc.Servers {
		if s.Suffrage == raft.Voter {
			c.Voters = append(c.Voters, string(s.ID))
		} else {
			c.Learners = append(c.Learners, string(s.ID))
		}
	}
	slices.Sort(c.Voters)
	slices.Sort(c.Learners)
	for {
		old := g.configured.Load()
		if old != nil && old.index >= index || g.configured.CompareAndSwap(old, c) {
			break
		}
	}
	g.cfg.OnChange()
}

// change is one step from a configuration to a plan.
type change struct {
	kind   changeKind
	member Member
}

type changeKind uint8

const (
	nothing changeKind = iota
	addLearner
	promote
	remove
)

func (k changeKind) String() string {
	return [...]string{"nothing", "add as learner", "make a voter", "remove"}[k]
}

// nextChange returns the one change that is due. It only touches replicas that
// the plan names: one it does not know may be of a newer plan. self is removed
// last; who leads should have handed over before.
func nextChange(have raft.Configuration, plan []Member, self string) change {
	suffrage := map[string]raft.ServerSuffrage{}
	for _, s := range have.Servers {
		suffrage[string(s.ID)] = s.Suffrage
	}
	is := func(m Member, want raft.ServerSuffrage) bool {
		s, ok := suffrage[m.ID()]
		return ok && s == want
	}
	find := func(ok func(Member) bool) (Member, bool) {
		if i := slices.IndexFunc(plan, ok); i >= 0 {
			return plan[i], true
		}
		return Member{}, false
	}
	goes := func(m Member) bool { return m.Role == Leaving || m.Role == Lost }
	// One that never voted weakens nothing by going.
	if m, ok := find(func(m Member) bool { return goes(m) && is(m, raft.Nonvoter) }); ok {
		return change{remove, m}
	}
	if m, ok := find(func(m Member) bool { _, in := suffrage[m.ID()]; return !goes(m) && !in }); ok {
		return change{addLearner, m}
	}
	if m, ok := find(func(m Member) bool { return m.Role == Voter && is(m, raft.Nonvoter) }); ok {
		lost := func(m Member) bool { return m.Role == Lost && is(m, raft.Voter) && m.ID() != self }
		if l, ok := find(lost); ok {
			return change{remove, l}
		}
		return change{promote, m}
	}
	if _, catchingUp := find(func(m Member) bool { return m.Role == Learner }); catchingUp {
		return change{}
	}
	if m, ok := find(func(m Member) bool { return goes(m) && is(m, raft.Voter) && m.ID() != self }); ok {
		return change{remove, m}
	}
	if m, ok := find(func(m Member) bool { return goes(m) && is(m, raft.Voter) }); ok {
		return change{remove, m}
	}
	return change{}
}

// Reconfigure brings the group's configuration one step nearer to the plan that
// SetMembers was given, and reports whether there was one to make. Only the
// leader does it; the steps wait for each other, so majorities always overlap.
func (g *Group) Reconfigure(ctx context.Context) (changed bool, err error) {
	if err := g.Err(); err != nil {
		return false, err
	}
	if err := g.refuseFollower(); err != nil {
		return false, err
	}
	// One that is not committed yet is obeyed already. Only this method changes
	// it, and raft begins no change before the last one is committed.
	have := g.raft.GetConfiguration().Configuration()
	g.peersMu.RLock()
	c := nextChange(have, g.plan, g.cfg.self().ID())
	g.peersMu.RUnlock()
	id, addr := raft.ServerID(c.member.ID()), raft.ServerAddress(onWire(c.member.Address, c.member.Replica))
	var done raft.IndexFuture
	switch c.kind {
	case nothing:
		return false, nil
	case addLearner:
		done = g.raft.AddNonvoter(id, addr, 0, enqueueTimeout)
	case promote:
		done = g.raft.AddVoter(id, addr, 0, enqueueTimeout)
	case remove:
		done = g.raft.RemoveServer(id, 0, enqueueTimeout)
	}
	answer := make(chan error, 1)
	go func() { answer <- done.Error() }() // ends with the leadership at the latest
	select {
	case err = <-answer:
	case <-ctx.Done():
		err = ctx.Err()
	case <-g.life.Done():
		err = g.Err()
	}
	if err != nil {
		return true, fmt.Errorf("group %s: %s %s: %w", g.cfg.Group, c.kind, id, err)
	}
	g.cfg.Logger.Info("group changed", "group", g.cfg.Group, "change", c.kind.String(), "replica", string(id))
	return true, nil
}

const (
	// handOverLook is how often HandOver looks whether it happened.
	handOverLook = 2 * time.Millisecond
	// handOverBehind is by how many entries a candidate may be behind while there
	// are new ones.
	handOverBehind = 64
)

// HandOver makes a voter on the node the leader in place of this replica, or
// any voter if node is empty. It tells it to stand for election at once, as
// raft's own transfer does, but without the state that makes the transfer
// deadlock when it is interrupted (hashicorp/raft #696): if the candidate does
// not win, this replica goes on leading or another election follows.
func (g *Group) HandOver(ctx context.Context, node string) error {
	if err := g.Err(); err != nil {
		return err
	}
	if err := g.refuseFollower(); err != nil {
		return err
	}
	voters := slices.DeleteFunc(slices.Clone(g.raft.GetConfiguration().Configuration().Servers), func(s raft.Server) bool {
		on := nodeOf(string(s.ID))
		return s.Suffrage != raft.Voter || on == g.cfg.Node || node != "" && on != node
	})
	// A candidate that is behind would not win, and there would be no leader until
	// the next election: it must not even begin to hold up proposals.
	tried := fmt.Errorf("no other voter on %q", node)
	voters = slices.DeleteFunc(voters, func(s raft.Server) bool {
		behind, err := g.behind(ctx, s)
		if err == nil && behind > handOverBehind {
			err = fmt.Errorf("%s is %d entries behind", s.ID, behind)
		}
		if err != nil {
			tried = err
		}
		return err != nil
	})
	if len(voters) == 0 {
		return fmt.Errorf("hand over %s: %w", g.cfg.Group, tried)
	}
	// What is accepted is finished first, so that nothing has to be sent again
	// and the candidate's log can be as long as ours.
	if err := g.entries.Acquire(ctx, g.cfg.OutstandingEntries); err != nil {
		return fmt.Errorf("hand over %s: %w: %w", g.cfg.Group, err, ErrOverloaded)
	}
	defer g.entries.Release(g.cfg.OutstandingEntries)
	for _, s := range voters {
		if tried = g.handTo(ctx, s); tried == nil {
			return nil
		}
	}
	return fmt.Errorf("hand over %s: %w", g.cfg.Group, tried)
}

// behind asks a follower by how many entries its log is shorter, with a message
// such as a leader sends when there is nothing to append.
func (g *Group) behind(ctx context.Context, s raft.Server) (entries uint64, err error) {
	term := g.raft.CurrentTerm()
	last, lastTerm, ok := g.lastEntry()
	if !ok {
		return 0, fmt.Errorf("the log of %s is empty", g.cfg.Group)
	}
	if g.raft.State() != raft.Leader || g.raft.CurrentTerm() != term {
		return 0, fmt.Errorf("%s leads no more", g.cfg.Node)
	}
	ctx, cancel := context.WithTimeout(ctx, g.cfg.Heartbeat/2)
	defer cancel()
	var reply raft.AppendEntriesResponse
	asked := make(chan error, 1)
	go func() {
		asked <- g.trans.AppendEntries(s.ID, s.Address, &raft.AppendEntriesRequest{RPCHeader: g.header(), Term: term,
			PrevLogEntry: last, PrevLogTerm: lastTerm}, &reply)
	}()
	select {
	case err = <-asked:
	case <-ctx.Done():
		err = ctx.Err()
	}
	switch {
	case err != nil:
		return 0, fmt.Errorf("ask %s for the end of its log: %w", s.ID, err)
	case reply.Success:
		return 0, nil
	}
	return max(1, last-min(last, reply.LastLog)), nil
}

func (g *Group) handTo(ctx context.Context, s raft.Server) error {
	if err := g.awaitCaughtUp(ctx, s); err != nil {
		return err
	}
	self := raft.ServerID(g.cfg.self().ID())
	sent := make(chan error, 1)
	go func() { sent <- g.trans.TimeoutNow(s.ID, s.Address, g.timeoutNow(), new(raft.TimeoutNowResponse)) }()
	select {
	case err := <-sent:
		if err != nil {
			return err
		}
	case <-ctx.Done():
		return ctx.Err()
	}
	limit := time.NewTimer(g.cfg.Heartbeat)
	defer limit.Stop()
	look := time.NewTicker(handOverLook)
	defer look.Stop()
	for {
		if _, id := g.raft.LeaderWithID(); g.raft.State() != raft.Leader && id != "" && id != self {
			return nil
		}
		select {
		case <-look.C:
		case <-limit.C:
			return fmt.Errorf("%s was not elected", s.ID)
		case <-ctx.Done():
			return ctx.Err()
		case <-g.life.Done():
			return g.Err()
		}
	}
}

// awaitCaughtUp waits until a voter has the whole log, while nothing new is
// accepted.
func (g *Group) awaitCaughtUp(ctx context.Context, s raft.Server) error {
	limit := time.NewTimer(g.cfg.Heartbeat / 2)
	defer limit.Stop()
	look := time.NewTicker(handOverLook)
	defer look.Stop()
	for {
		behind, err := g.behind(ctx, s)
		if behind == 0 || err != nil {
			return err
		}
		select {
		case <-look.C:
		case <-limit.C:
			return fmt.Errorf("%s is %d entries behind", s.ID, behind)
		case <-ctx.Done():
			return ctx.Err()
		case <-g.life.Done():
			return g.Err()
		}
	}
}
