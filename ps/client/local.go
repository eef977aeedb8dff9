package client

import (
	"context"
	"errors"
	"fmt"

	"github.com/fathom-train/fathom/ps/fsm"
	"github.com/fathom-train/fathom/ps/wire"
)

// NewLocal returns a client of state machines in this process, one per route:
// the whole path but the network and raft, for tests and one-process runs.
func NewLocal(run uint64, routes []Route, states []*fsm.State) *Client {
	l := &local{routes: routes, states: states, applied: make([]chan uint64, len(states))}
	c := newClient(run, l)
	for i := range l.applied {
		l.applied[i] = make(chan uint64, 1)
		l.applied[i] <- 0
	}
	c.routes = routes
	return c
}

// local applies pushes directly, one at a time for each shard.
type local struct {
	routes []Route
	states []*fsm.State
	// applied holds the shard's next log index; whoever took it may apply.
	applied []chan uint64
}

func (l *local) pull(ctx context.Context, i int, buf *request) (reply []byte, reuse bool, err error) {
	var req wire.PullRequest
	if err := wire.ParsePullRequest(buf.body, &req); err != nil {
		return nil, false, err
	}
	if reply, err = l.read(ctx, i, &req, buf.reply); err == nil {
		buf.reply = reply
	}
	return reply, true, err
}

func (l *local) read(ctx context.Context, i int, req *wire.PullRequest, memory []byte) ([]byte, error) {
	state := l.states[i]
	for {
		changed := state.Changed()
		n, err := state.Floats(req)
		if err != nil {
			return nil, err
		}
		reply, values := wire.NewPullReply(memory, req.Version, n)
		err = state.Lookup(req.Version, req, values)
		switch {
		case err == nil:
			return reply, nil
		case errors.Is(err, fsm.ErrVersionGone):
			v, _ := state.Version()
			return nil, &GoneError{Shard: l.routes[i].Shard, Version: v}
		case !errors.Is(err, fsm.ErrNotReached):
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-changed:
		}
	}
}

// push keeps body: the state refers to its commands until their step is applied.
func (l *local) push(_ context.Context, i int, body []byte) (kept bool, err error) {
	_, chunks, err := wire.ParsePushBody(body)
	if err != nil {
		return false, err
	}
	index := <-l.applied[i]
	defer func() { l.applied[i] <- index }()
	for _, chunk := range chunks {
		index++
		if r := l.states[i].Apply(index, chunk); r.Err != nil {
			return false, fmt.Errorf("%w: %w", errRefused, r.Err)
		}
	}
	return true, nil
}

func (l *local) version(_ context.Context, i int) (uint64, error) {
	v, configured := l.states[i].Version()
	if !configured {
		return 0, fmt.Errorf("shard %d is not configured", l.routes[i].Shard)
	}
	return v, nil
}
