package ps

import (
	"context"
	"errors"

	"github.com/fathom-train/fathom/proto"
	"github.com/fathom-train/fathom/ps/fsm"
)

// Partial reads the shard's part of a sum, once all lanes of its step are there.
// Any replica may answer: all that have the lanes have the same part.
func (v *service) Partial(ctx context.Context, req *proto.PartialRequest) (*proto.PartialReply, error) {
	h, err := v.find(groupKey{req.GetRun(), req.GetShard()})
	if err != nil {
		return nil, v.server.statusOf(nil, err)
	}
	reply, err := v.partial(ctx, h, req)
	if err != nil {
		return nil, v.server.statusOf(h, err)
	}
	return reply, nil
}

func (v *service) partial(ctx context.Context, h *hosted, req *proto.PartialRequest) (*proto.PartialReply, error) {
	g, err := h.replica()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, v.server.cfg.PullWait)
	defer cancel()
	for {
		var p fsm.Partial
		var changed <-chan struct{}
		// The channel first: what comes behind it is not missed.
		if !g.Inspect(func(state *fsm.State) {
			changed = state.Changed()
			p, err = state.Partial(req.GetRun(), req.GetStep(), int(req.GetRound()))
		}) {
			return nil, g.Err()
		}
		if err == nil {
			return &proto.PartialReply{Rounds: uint32(p.Rounds), Known: p.Totals != nil, Totals: p.Totals, Sums: p.Words()}, nil
		}
		if !errors.Is(err, fsm.ErrNotReached) {
			return nil, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, err
		}
	}
}
