package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const (
	backoffMin = 50 * time.Millisecond
	backoffMax = time.Second
)

// route holds the connection to the coordinator that is believed to lead.
type route struct {
	addrs   []string
	options []grpc.DialOption

	// mu guards everything below.
	mu     sync.Mutex
	next   int    // of addrs, tried when no leader is known
	addr   string // of conn
	conn   *grpc.ClientConn
	closed bool
}

var (
	errNoAddress = errors.New("no coordinator address is given")
	errClosed    = errors.New("the coordinator client is closed")
)

func newRoute(addrs []string, options []grpc.DialOption) *route {
	base := []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		// Members of a cluster reach each other directly.
		grpc.WithNoProxy(),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 3 * time.Second}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MessageBytesMax), grpc.MaxCallSendMsgSize(MessageBytesMax)),
	}
	return &route{addrs: addrs, options: append(base, options...)}
}

// get returns the connection to try now.
func (r *route) get() (*grpc.ClientConn, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, errClosed
	}
	if r.conn != nil {
		return r.conn, nil
	}
	if r.addr == "" {
		if len(r.addrs) == 0 {
			return nil, errNoAddress
		}
		r.addr = r.addrs[r.next%len(r.addrs)]
		r.next++
	}
	conn, err := grpc.NewClient(r.addr, r.options...)
	if err != nil {
		addr := r.addr
		r.addr = ""
		return nil, fmt.Errorf("dial coordinator %s: %w", addr, err)
	}
	r.conn = conn
	return conn, nil
}

// leave gives up a connection that did not serve, in favour of the leader the
// refusal names or else the next address. It does nothing when another
// goroutine has moved on already.
func (r *route) leave(from *grpc.ClientConn, refusal metadata.MD) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conn == nil || r.conn != from {
		return
	}
	// The connection is dialled afresh even when the address stays: gRPC's own
	// back-off grows far beyond ours.
	r.conn.Close()
	r.conn, r.addr = nil, leaderIn(refusal)
}

func (r *route) close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	if r.conn == nil {
		return nil
	}
	err := r.conn.Close()
	r.conn = nil
	return err
}

// leaderIn returns the leader a refusal names, or "".
func leaderIn(trailer metadata.MD) string {
	if v := trailer.Get(LeaderTrailer); len(v) > 0 {
		return v[0]
	}
	return ""
}

// refused tells whether a coordinator answered that it does not lead, so that
// the call certainly had no effect.
func refused(trailer metadata.MD) bool { return len(trailer.Get(LeaderTrailer)) > 0 }

// passing tells whether an error is of the connection or of a coordinator that
// does not lead, and not the answer to the question.
func passing(err error) bool {
	switch status.Code(err) {
	case codes.Unavailable, codes.Canceled, codes.DeadlineExceeded, codes.Aborted:
		return true
	}
	return false
}

// backoff paces attempts: each wait is up to twice the one before, with
// jitter, so that a restarted coordinator is not met by everyone at once.
type backoff struct{ wait time.Duration }

func (b *backoff) reset() { b.wait = 0 }

// sleep waits before the next attempt; it returns early when ctx ends.
func (b *backoff) sleep(ctx context.Context) {
	b.wait = min(max(2*b.wait, backoffMin), backoffMax)
	t := time.NewTimer(b.wait/2 + rand.N(b.wait/2))
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

func discardIfNil(log *slog.Logger) *slog.Logger {
	if log == nil {
		return slog.New(slog.DiscardHandler)
	}
	return log
}
