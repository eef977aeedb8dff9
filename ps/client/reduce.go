package client

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/fathom-train/fathom/compute/exact"
	"github.com/fathom-train/fathom/proto"
	"github.com/fathom-train/fathom/ps/fsm"
	"github.com/fathom-train/fathom/ps/wire"
)

// Reduce sums what the shards must know together before they apply a step, round
// by round, and tells all of them. It waits until every lane of the step is
// there, and returns when every shard has acknowledged the totals, or when ctx
// ends. Like Push it may be called again, and by several workers: the sums do not
// depend on who adds them.
func (c *Client) Reduce(ctx context.Context, step uint64) error {
	for round := uint32(0); ; round++ {
		more, err := c.reduceRound(ctx, step, round)
		if errors.Is(err, ErrVersionGone) {
			return nil // a shard is past the step, so all of them have applied it
		}
		if err != nil || !more {
			return err
		}
	}
}

// reduceRound does one round; more is false when there is no such round.
func (c *Client) reduceRound(ctx context.Context, step uint64, round uint32) (more bool, err error) {
	routes := c.current()
	parts := make([]*proto.PartialReply, len(routes))
	g, gctx := errgroup.WithContext(ctx)
	for i, r := range routes {
		g.Go(func() (err error) {
			parts[i], err = c.transport.partial(gctx, i, &proto.PartialRequest{Run: c.run, Shard: uint32(r.Shard), Step: step, Round: round})
			if err != nil {
				return fmt.Errorf("read sums of step %d from shard %d: %w", step, r.Shard, err)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return false, err
	}
	if round >= parts[0].GetRounds() {
		return false, nil
	}
	totals, err := addUp(parts)
	if err != nil {
		return false, fmt.Errorf("sums of step %d round %d: %w", step, round, err)
	}
	command := wire.AppendReduce(nil, wire.Reduce{Run: c.run, Step: step, Round: round, Totals: totals})
	g, gctx = errgroup.WithContext(ctx)
	for i, r := range routes {
		if parts[i].GetKnown() {
			continue
		}
		g.Go(func() error {
			body := wire.AppendPushBody(nil, wire.PushHeader{Run: c.run, Shard: uint32(r.Shard)}, [][]byte{command})
			if _, err := c.transport.push(gctx, i, body); err != nil {
				return fmt.Errorf("send sums of step %d to shard %d: %w", step, r.Shard, err)
			}
			return nil
		})
	}
	return true, g.Wait()
}

// addUp returns the totals of a round: those a shard knows, or the sum of all
// parts.
func addUp(parts []*proto.PartialReply) ([]float64, error) {
	for _, p := range parts {
		if p.GetKnown() {
			return p.GetTotals(), nil
		}
	}
	words := len(parts[0].GetSums())
	sums := make([]exact.Sum, words/exact.Words)
	for _, p := range parts {
		if len(p.GetSums()) != words || words%exact.Words != 0 {
			return nil, fmt.Errorf("%d words, another shard sent %d", len(p.GetSums()), words)
		}
		for i := range sums {
			sums[i].Merge(exact.Sum(p.GetSums()[i*exact.Words:]))
		}
	}
	totals := make([]float64, len(sums))
	for i := range sums {
		totals[i] = sums[i].Float64()
	}
	return totals, nil
}

func (r *remote) partial(ctx context.Context, i int, req *proto.PartialRequest) (*proto.PartialReply, error) {
	var reply proto.PartialReply
	err := r.call(ctx, i, proto.ParameterServer_Partial_FullMethodName, req, &reply)
	return &reply, err
}

func (l *local) partial(ctx context.Context, i int, req *proto.PartialRequest) (*proto.PartialReply, error) {
	for {
		changed := l.states[i].Changed()
		p, err := l.states[i].Partial(req.GetRun(), req.GetStep(), int(req.GetRound()))
		switch {
		case err == nil:
			return &proto.PartialReply{Rounds: uint32(p.Rounds), Known: p.Totals != nil, Totals: p.Totals, Sums: p.Words()}, nil
		case errors.Is(err, fsm.ErrVersionGone):
			v, _ := l.states[i].Version()
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
