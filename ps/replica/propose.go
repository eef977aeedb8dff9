package replica

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/hashicorp/raft"

	"github.com/fathom-train/fathom/ps/fsm"
)

// enqueueTimeout bounds how long raft's main loop may take to accept an entry.
const enqueueTimeout = 5 * time.Second

// pending is an entry handed to raft.
type pending struct {
	future raft.ApplyFuture
	bytes  int64
}

// Propose replicates the commands in order, in one go, and returns the state
// machine's answers when all of them are applied here. While too much is
// outstanding it waits for its turn, until ctx ends.
//
// The commands belong to the group from now on and must not be changed.
//
// The error is a NotLeaderError when nothing was accepted, or wraps ErrUnknown
// when some commands may be applied and others not: the same commands must
// then be proposed again, here or at the new leader.
func (g *Group) Propose(ctx context.Context, cmds [][]byte) ([]fsm.Result, error) {
	if err := g.Err(); err != nil {
		return nil, err
	}
	if err := g.refuseFollower(); err != nil {
		return nil, err
	}
	select {
	case <-g.closing:
		return nil, fmt.Errorf("group %s: %w", g.cfg.Group, ErrClosed)
	default:
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(g.life, cancel)()

	queue := make(chan pending, len(cmds))
	collected := make(chan collection, 1)
	// It outlives this call when ctx ends first, until raft has answered.
	go func() { collected <- g.collect(queue, len(cmds)) }()
	submitted, submitErr := g.submit(ctx, cmds, queue)
	close(queue)
	if submitted == 0 && ctx.Err() != nil && g.life.Err() == nil {
		return nil, fmt.Errorf("propose to %s: %w: %w", g.cfg.Group, ctx.Err(), ErrOverloaded)
	}
	select {
	case c := <-collected:
		return c.results, g.outcome(errors.Join(c.err, submitErr), len(c.results))
	case <-ctx.Done():
		cause := ctx.Err()
		if err := g.Err(); err != nil {
			cause = err
		}
		return nil, fmt.Errorf("propose to %s: %w: %w", g.cfg.Group, cause, ErrUnknown)
	}
}

// submit hands the commands to raft as there is room, and returns how many.
func (g *Group) submit(ctx context.Context, cmds [][]byte, queue chan<- pending) (int, error) {
	for i, cmd := range cmds {
		// One command above the bound may go alone.
		bytes := min(int64(len(cmd)), g.cfg.OutstandingBytes)
		if err := g.entries.Acquire(ctx, 1); err != nil {
			return i, err
		}
		if err := g.bytes.Acquire(ctx, bytes); err != nil {
			g.entries.Release(1)
			return i, err
		}
		g.cfg.Metrics.OutstandingBytes.Add(float64(bytes))
		queue <- pending{g.raft.Apply(cmd, enqueueTimeout), bytes}
		if err := g.refuseFollower(); err != nil {
			return i + 1, err
		}
	}
	return len(cmds), nil
}

type collection struct {
	results []fsm.Result
	err     error // the first one
}

// collect waits for the entries and makes room for others.
func (g *Group) collect(queue <-chan pending, n int) collection {
	c := collection{results: make([]fsm.Result, 0, n)}
	for p := range queue {
		g.release(p.future)
		err := p.future.Error()
		g.bytes.Release(p.bytes)
		g.entries.Release(1)
		g.cfg.Metrics.OutstandingBytes.Sub(float64(p.bytes))
		if err != nil {
			if c.err == nil {
				c.err = err
			}
			continue
		}
		if result, ok := p.future.Response().(fsm.Result); ok {
			c.results = append(c.results, result)
		} else if _, ok := p.future.Response().(queued); ok {
			c.err = errQueued
		} else if c.err == nil {
			panic(fmt.Sprintf("ps/replica: BUG: raft answered %T to a command", p.future.Response()))
		}
	}
	return c
}

// release makes a future end when raft has stopped. Raft never answers what was
// in its queue then, and offers no way to give up: its futures have the field
// for it, but nothing that sets it.
func (g *Group) release(f raft.ApplyFuture) {
	v := reflect.ValueOf(f)
	if v.Kind() != reflect.Pointer {
		return // an error, answered already
	}
	if field := v.Elem().FieldByName("ShutdownCh"); field.IsValid() && field.CanSet() {
		field.Set(reflect.ValueOf(g.down))
	}
}

// outcome turns raft's errors into those of this package.
func (g *Group) outcome(err error, applied int) error {
	if err == nil {
		return nil
	}
	refused := errors.Is(err, raft.ErrNotLeader) || errors.Is(err, ErrNotLeader)
	if applied == 0 && refused && !unknown(err) {
		return g.notLeader()
	}
	return fmt.Errorf("propose to %s: %w: %w", g.cfg.Group, err, ErrUnknown)
}

// unknown reports whether an entry may have been stored in spite of the error.
func unknown(err error) bool {
	return errors.Is(err, raft.ErrLeadershipLost) || errors.Is(err, raft.ErrRaftShutdown) ||
		errors.Is(err, raft.ErrAbortedByRestore)
}

func (g *Group) refuseFollower() error {
	if g.raft.State() == raft.Leader {
		return nil
	}
	return g.notLeader()
}

func (g *Group) notLeader() error {
	_, id := g.raft.LeaderWithID()
	if string(id) == g.cfg.self().ID() {
		id = "" // stepping down or not quite elected
	}
	return &NotLeaderError{Leader: nodeOf(string(id))}
}

// Read waits until the shard has reached the version, then calls f with the
// state machine, which must not be kept. Any replica may serve it. When ctx
// ends first the error wraps ErrNotReady.
func (g *Group) Read(ctx context.Context, version uint64, f func(*fsm.State) error) error {
	for {
		changed, at, err := g.attempt(version, f)
		if changed == nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("group %s is at version %d, wanted %d: %w", g.cfg.Group, at, version, ErrNotReady)
		case <-g.life.Done():
			return g.Err()
		}
	}
}

// attempt calls f if the version is reached; else it returns what to wait for.
func (g *Group) attempt(version uint64, f func(*fsm.State) error) (changed <-chan struct{}, at uint64, err error) {
	g.inUse.RLock()
	defer g.inUse.RUnlock()
	if err := g.Err(); err != nil {
		return nil, 0, err
	}
	changed = g.state.Changed()
	at, configured := g.state.Version()
	if !configured || at < version {
		return changed, at, nil
	}
	return nil, at, f(g.state)
}
