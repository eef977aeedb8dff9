package ps

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/fathom-train/fathom/proto"
	"github.com/fathom-train/fathom/ps/fsm"
	"github.com/fathom-train/fathom/ps/replica"
	"github.com/fathom-train/fathom/ps/wire"
)

// refusal is an error with what the client needs to go on.
type refusal struct {
	reason  proto.Reason
	leader  string
	version uint64
	err     error
}

func (r *refusal) Error() string { return r.err.Error() }

func (r *refusal) Unwrap() error { return r.err }

func refuse(reason proto.Reason, format string, args ...any) *refusal {
	return &refusal{reason: reason, err: fmt.Errorf(format, args...)}
}

// reasons maps the errors of the inner packages, first match wins.
var reasons = []struct {
	err    error
	reason proto.Reason
}{
	{replica.ErrNotLeader, proto.Reason_REASON_NOT_LEADER},
	// A new leader is likely: the client asks around.
	{replica.ErrUnknown, proto.Reason_REASON_NOT_LEADER},
	{replica.ErrOverloaded, proto.Reason_REASON_OVERLOADED},
	{replica.ErrNotReady, proto.Reason_REASON_NOT_READY},
	{fsm.ErrVersionGone, proto.Reason_REASON_VERSION_GONE},
	{fsm.ErrNotReached, proto.Reason_REASON_NOT_READY},
	{fsm.ErrUnconfigured, proto.Reason_REASON_NOT_READY},
	{fsm.ErrWrongRun, proto.Reason_REASON_WRONG_SHARD},
	{fsm.ErrAhead, proto.Reason_REASON_STEP_AHEAD},
	{fsm.ErrMismatch, proto.Reason_REASON_INVALID},
	{fsm.ErrInvalid, proto.Reason_REASON_INVALID},
	{fsm.ErrUnknownTable, proto.Reason_REASON_INVALID},
	{fsm.ErrUnknownTensor, proto.Reason_REASON_INVALID},
	{fsm.ErrTooLarge, proto.Reason_REASON_INVALID},
	{wire.ErrCorrupt, proto.Reason_REASON_INVALID},
	{wire.ErrMalformed, proto.Reason_REASON_INVALID},
	{wire.ErrKind, proto.Reason_REASON_INVALID},
}

// codesOf maps a reason to the gRPC code; the others are FAILED_PRECONDITION.
var codesOf = map[proto.Reason]codes.Code{
	proto.Reason_REASON_NOT_READY:   codes.Unavailable,
	proto.Reason_REASON_OVERLOADED:  codes.Unavailable,
	proto.Reason_REASON_INVALID:     codes.InvalidArgument,
	proto.Reason_REASON_UNSPECIFIED: codes.Unavailable,
	proto.Reason_REASON_MEMORY:      codes.ResourceExhausted,
}

// statusOf turns an error into the gRPC status a client understands, and
// counts it. A replica out of service is WRONG_SHARD: another one must do.
func (s *Server) statusOf(h *hosted, err error) error {
	if errors.Is(err, context.Canceled) {
		return status.FromContextError(err).Err()
	}
	var r *refusal
	if !errors.As(err, &r) {
		r = &refusal{reason: proto.Reason_REASON_WRONG_SHARD, err: err}
		for _, known := range reasons {
			if errors.Is(err, known.err) {
				r.reason = known.reason
				break
			}
		}
	}
	detail := &proto.Refusal{Reason: r.reason, LeaderNode: r.leader, Version: r.version}
	if h != nil {
		if g, err := h.replica(); err == nil {
			if leader, own := g.Leader(); !own {
				detail.LeaderNode = leader
			}
			h.inspect(func(state *fsm.State) { detail.Version, _ = state.Version() })
		}
	}
	s.metrics.refusals.WithLabelValues(r.reason.String()).Inc()
	code, ok := codesOf[r.reason]
	if !ok {
		code = codes.FailedPrecondition
	}
	st := status.New(code, r.Error())
	if detailed, err := st.WithDetails(detail); err == nil {
		st = detailed
	}
	return st.Err()
}
