package ps

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"

	"github.com/fathom-train/fathom/proto"
	"github.com/fathom-train/fathom/ps/frame"
	"github.com/fathom-train/fathom/ps/fsm"
	"github.com/fathom-train/fathom/ps/wire"
)

// replyHeaderMax is more than stands around the floats of a reply.
const replyHeaderMax = 128

// service answers the RPCs.
type service struct {
	proto.UnimplementedParameterServerServer
	server *Server
}

// recycle hands the pooled body of a pull's answer to gRPC, which gives it
// back when it was sent.
func recycle(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	reply, err := handle(ctx, req)
	if f, ok := reply.(*proto.Frame); ok && err == nil && info.FullMethod == proto.ParameterServer_Pull_FullMethodName {
		return &frame.Reply{Body: &f.Body}, nil
	}
	return reply, err
}

// Pull reads rows and dense tensors at one version, waiting for it if need be.
func (v *service) Pull(ctx context.Context, in *proto.Frame) (*proto.Frame, error) {
	start := time.Now()
	var req wire.PullRequest
	if err := wire.ParsePullRequest(in.GetBody(), &req); err != nil {
		return nil, v.server.statusOf(nil, err)
	}
	h, err := v.find(groupKey{req.Run, req.Shard})
	if err != nil {
		return nil, v.server.statusOf(nil, err)
	}
	body, err := v.pull(ctx, h, &req)
	if err != nil {
		return nil, v.server.statusOf(h, err)
	}
	v.server.metrics.pulled(&req, len(body), time.Since(start))
	return &proto.Frame{Body: body}, nil
}

func (v *service) pull(ctx context.Context, h *hosted, req *wire.PullRequest) (body []byte, err error) {
	g, err := h.replica()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, v.server.cfg.PullWait)
	defer cancel()
	h.served.Store(true)
	err = g.Read(ctx, req.Version, func(state *fsm.State) error {
		n, err := state.Floats(req)
		if err != nil {
			return err
		}
		size := 4*int64(n) + replyHeaderMax
		if size > frame.MaxMessage {
			return refuse(proto.Reason_REASON_INVALID, "%w: %d floats in one reply", fsm.ErrTooLarge, n)
		}
		if err := v.server.pullBytes.Acquire(ctx, min(size, v.server.cfg.InFlightBytes)); err != nil {
			return refuse(proto.Reason_REASON_OVERLOADED, "too many pulls are being answered")
		}
		defer v.server.pullBytes.Release(min(size, v.server.cfg.InFlightBytes))
		var values []float32
		buf := frame.Get(int(size))
		body, values = wire.NewPullReply((*buf)[:0], req.Version, n)
		if err := state.Lookup(req.Version, req, values); err != nil {
			frame.Put(buf)
			return err
		}
		wire.SealPullReply(body)
		return nil
	})
	return body, err
}

// Push replicates one lane's gradients and answers when they are applied.
func (v *service) Push(ctx context.Context, in *proto.Frame) (*proto.Frame, error) {
	start := time.Now()
	header, chunks, err := wire.ParsePushBody(in.GetBody())
	if err != nil {
		return nil, v.server.statusOf(nil, err)
	}
	h, err := v.find(groupKey{header.Run, header.Shard})
	if err != nil {
		return nil, v.server.statusOf(nil, err)
	}
	limit := v.server.cfg.InFlightBytes
	size := min(int64(len(in.GetBody())), limit)
	if !v.server.pushBytes.TryAcquire(size) {
		return nil, v.server.statusOf(h, refuse(proto.Reason_REASON_OVERLOADED, "pushes of %d bytes wait for their commit: send it again", limit))
	}
	defer v.server.pushBytes.Release(size)
	duplicate, err := v.push(ctx, h, header, chunks)
	if err != nil {
		return nil, v.server.statusOf(h, err)
	}
	v.server.metrics.pushed(len(in.GetBody()), duplicate, time.Since(start))
	return &proto.Frame{}, nil
}

func (v *service) push(ctx context.Context, h *hosted, header wire.PushHeader, chunks [][]byte) (duplicate bool, err error) {
	g, err := h.replica()
	if err != nil {
		return false, err
	}
	id, err := check(header, chunks)
	if err != nil {
		return false, err
	}
	var version uint64
	var configured bool
	g.Inspect(func(state *fsm.State) { version, configured = state.Version() })
	if configured && id.Step <= version {
		// Applied here means committed: the copy need not go through the log.
		return true, nil
	}
	ctx, cancel := context.WithTimeout(ctx, v.server.cfg.PushWait)
	defer cancel()
	if !configured {
		if _, leads := g.Leader(); leads {
			return false, refuse(proto.Reason_REASON_NOT_READY, "shard %d is not configured yet", header.Shard)
		}
	}
	if _, leads := g.Leader(); leads { // another one judges by its own memory
		if err := v.server.admit(h, header.Shard, chunks); err != nil {
			return false, err
		}
	}
	results, err := g.Propose(ctx, chunks)
	if err != nil {
		return false, err
	}
	duplicate = true
	for _, r := range results {
		switch r.Status {
		case fsm.Accepted:
			duplicate = false
		case fsm.Duplicate:
		default:
			return false, r.Err
		}
	}
	if id.Attempt != 0 && !results[len(results)-1].Complete {
		return false, refuse(proto.Reason_REASON_NOT_READY, "another attempt at step %d lane %d came between: send it again", id.Step, id.Lane)
	}
	return duplicate, nil
}

// check keeps out of the log what is damaged, neither push nor totals, or of
// another run, and returns what it is of. Everything else the state machine judges.
func check(header wire.PushHeader, chunks [][]byte) (id wire.PushID, err error) {
	if len(chunks) == 0 {
		return id, refuse(proto.Reason_REASON_INVALID, "push without a chunk")
	}
	var first wire.Push
	if kind, err := wire.Kind(chunks[0]); err == nil && kind == wire.KindReduce && len(chunks) == 1 {
		r, err := wire.ParseReduce(chunks[0])
		if err == nil && r.Run != header.Run {
			err = refuse(proto.Reason_REASON_INVALID, "push of run %016x carries totals of run %016x", header.Run, r.Run)
		}
		return wire.PushID{Step: r.Step}, err
	}
	if err := wire.ParsePush(chunks[0], &first); err != nil {
		return id, fmt.Errorf("chunk 0: %w", err)
	}
	if first.ID.Run != header.Run {
		return id, refuse(proto.Reason_REASON_INVALID, "push of run %016x carries a chunk of run %016x", header.Run, first.ID.Run)
	}
	for i, c := range chunks[1:] {
		i++
		if len(c) > wire.MaxChunk {
			return id, refuse(proto.Reason_REASON_INVALID, "chunk %d has %d bytes, at most %d are allowed", i, len(c), wire.MaxChunk)
		}
		if kind, err := wire.Kind(c); err != nil || kind != wire.KindPush {
			return id, refuse(proto.Reason_REASON_INVALID, "chunk %d is no push: %v", i, err)
		}
	}
	return first.ID, nil
}

// ShardStatus tells version and leader of one shard.
func (v *service) ShardStatus(_ context.Context, req *proto.ShardStatusRequest) (*proto.ShardStatusReply, error) {
	h := v.server.lookup(groupKey{req.GetRun(), req.GetShard()})
	if req.GetRun() == 0 {
		h = v.server.byJob(req.GetJob(), req.GetShard())
	}
	if h == nil {
		return nil, v.server.statusOf(nil, refuse(proto.Reason_REASON_WRONG_SHARD,
			"shard %d of job %q is not hosted by %s", req.GetShard(), req.GetJob(), v.server.cfg.Node))
	}
	g, err := h.replica()
	if err != nil {
		return nil, v.server.statusOf(h, err)
	}
	reply := &proto.ShardStatusReply{}
	g.Inspect(func(state *fsm.State) { reply.Version, reply.Configured = state.Version() })
	reply.LeaderNode, _ = g.Leader()
	return reply, nil
}

func (v *service) find(key groupKey) (*hosted, error) {
	if h := v.server.lookup(key); h != nil {
		return h, nil
	}
	return nil, refuse(proto.Reason_REASON_WRONG_SHARD, "shard %d of run %016x is not hosted by %s",
		key.shard, key.run, v.server.cfg.Node)
}
