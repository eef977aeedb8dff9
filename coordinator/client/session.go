package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/fathom-train/fathom/proto"
)

// deliveryTimeout bounds one attempt to deliver an evaluation block.
const deliveryTimeout = 5 * time.Second

var errSilent = fmt.Errorf("no word of the coordinator for %s", SilenceMax)

// Session is one node's membership of the cluster.
type Session struct {
	log   *slog.Logger
	route *route
	poke  chan struct{} // capacity 1: several pokes before a report are one

	// Used by one goroutine at a time, the receiver of the current stream.
	revision uint64 // of the newest order obeyed
}

// NewSession prepares a session with the coordinators at addrs; nothing is
// dialled before Run or ReportEvaluation. The options are added to those of
// every connection.
func NewSession(addrs []string, log *slog.Logger, options ...grpc.DialOption) *Session {
	return &Session{log: discardIfNil(log), route: newRoute(addrs, options), poke: make(chan struct{}, 1)}
}

// Run keeps the session until ctx ends and returns ctx's error: it reports at
// every HeartbeatInterval and Poke, reconnects with a growing, jittered wait,
// and follows the leader. After Run the session cannot be used again.
//
// report is called by one goroutine, obey by another; each one call at a time.
// obey gets every order with a larger revision than the one before, and must
// return soon: an order to be worked off belongs to a goroutine of the caller.
func (s *Session) Run(ctx context.Context, report func() *proto.NodeReport, obey func(*proto.NodeOrder)) error {
	defer s.route.close()
	var pace backoff
	lost := false
	for ctx.Err() == nil {
		welcome := func() {
			pace.reset()
			if lost {
				s.log.Info("coordinator found again")
			}
			lost = false
		}
		err := s.join(ctx, report, obey, welcome)
		if ctx.Err() != nil {
			break
		}
		if !lost {
			s.log.Warn("lost the coordinator", "error", err)
		}
		lost = true
		pace.sleep(ctx)
	}
	return ctx.Err()
}

// join lives through one stream. welcome is called at the first answer.
func (s *Session) join(ctx context.Context, report func() *proto.NodeReport, obey func(*proto.NodeOrder), welcome func()) error {
	conn, err := s.route.get()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// A hanging coordinator keeps its connection; only its silence tells.
	silence := time.AfterFunc(SilenceMax, func() { cancel(errSilent) })
	defer silence.Stop()
	stream, err := proto.NewMembershipClient(conn).Join(ctx)
	if err != nil {
		s.route.leave(conn, nil)
		return err
	}
	var receiver sync.WaitGroup
	receiver.Go(func() {
		cancel(s.receive(stream, obey, func() {
			silence.Reset(SilenceMax)
			welcome()
		}))
	})
	s.send(ctx, stream, report)
	cancel(nil)
	receiver.Wait() // obey is not called after join
	err = context.Cause(ctx)
	s.route.leave(conn, stream.Trailer())
	return err
}

// receive obeys orders until the stream breaks.
func (s *Session) receive(stream grpc.BidiStreamingClient[proto.NodeReport, proto.NodeOrder], obey func(*proto.NodeOrder), heard func()) error {
	for {
		order, err := stream.Recv()
		if err != nil {
			return err
		}
		heard()
		switch {
		case order.GetRevision() > s.revision:
			s.revision = order.GetRevision()
			obey(order)
		case order.GetRevision() < s.revision:
			// Revisions grow over all leaders: this one was replaced and does
			// not know it yet, or the coordinator's store was lost.
			return fmt.Errorf("refused order %d, which is older than %d", order.GetRevision(), s.revision)
		}
	}
}

// send reports until ctx ends or the stream breaks.
func (s *Session) send(ctx context.Context, stream grpc.BidiStreamingClient[proto.NodeReport, proto.NodeOrder], report func() *proto.NodeReport) {
	heartbeat := time.NewTicker(HeartbeatInterval)
	defer heartbeat.Stop()
	for {
		if stream.Send(report()) != nil {
			<-ctx.Done() // the receiver gets the reason
			return
		}
		select {
		case <-heartbeat.C:
		case <-s.poke:
		case <-ctx.Done():
			return
		}
	}
}

// Poke makes the session send a report now, without waiting for it.
func (s *Session) Poke() {
	select {
	case s.poke <- struct{}{}:
	default:
	}
}

// ReportEvaluation delivers one block; it tries again until the coordinator
// has it or ctx ends. A block the coordinator finds invalid is an error at once.
func (s *Session) ReportEvaluation(ctx context.Context, b *proto.EvaluationBlock) error {
	var pace backoff
	for {
		conn, err := s.route.get()
		if errors.Is(err, errClosed) || errors.Is(err, errNoAddress) {
			return err
		}
		if err == nil {
			var trailer metadata.MD
			attempt, cancel := context.WithTimeout(ctx, deliveryTimeout)
			_, err = proto.NewMembershipClient(conn).ReportEvaluation(attempt, b, grpc.Trailer(&trailer))
			cancel()
			if err == nil {
				return nil
			}
			if status.Code(err) == codes.InvalidArgument {
				return fmt.Errorf("report evaluation block %d: %w", b.GetBlock(), err)
			}
			s.route.leave(conn, trailer)
		}
		pace.sleep(ctx)
		if ctx.Err() != nil {
			return fmt.Errorf("report evaluation block %d: %w, last: %w", b.GetBlock(), ctx.Err(), err)
		}
	}
}
