package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/experimental"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/fathom-train/fathom/proto"
	"github.com/fathom-train/fathom/ps/frame"
)

// Bounds of one attempt and of the pause between attempts. An attempt that
// got no answer is made again with the same bytes, on another member if need be.
const (
	attemptTimeout = 15 * time.Second
	backoffMin     = 2 * time.Millisecond
	backoffMax     = 100 * time.Millisecond
)

// reconnect bounds the pauses between attempts to connect: a restarted server
// must be found again at once.
var reconnect = backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second}

// errRefused marks an answer that trying again cannot change.
var errRefused = errors.New("refused")

// Dial returns a client of the servers named by the routes that SetRoutes
// gives it; connections are made when they are first needed. The options are
// added to those of every connection.
func Dial(job string, run uint64, options ...grpc.DialOption) *Client {
	r := &remote{job: job, options: options, conns: map[string]*grpc.ClientConn{}, leaders: map[int]int{}, reading: map[int]*readers{}}
	c := newClient(run, r)
	r.client = c
	return c
}

// SetRoutes replaces what the client knows of the shards. It may be called at
// any time; calls under way use the new routes at their next attempt. The
// shards must be the same in number and ranges as before.
func (c *Client) SetRoutes(routes []Route) {
	c.mu.Lock()
	c.routes = routes
	c.mu.Unlock()
	if r, ok := c.transport.(*remote); ok {
		r.adopt(routes)
	}
}

// Close ends all connections.
func (c *Client) Close() error {
	if r, ok := c.transport.(*remote); ok {
		return r.close()
	}
	return nil
}

// remote reaches the shards over gRPC.
type remote struct {
	client  *Client
	job     string
	options []grpc.DialOption

	// mu guards the fields below.
	mu    sync.Mutex
	conns map[string]*grpc.ClientConn // by address
	// leaders is the member to try first, by shard: its place among the members.
	leaders map[int]int
	reading map[int]*readers // by shard
}

func (r *remote) adopt(routes []Route) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, route := range routes {
		for m, member := range route.Members {
			if route.Leader != "" && member.Node == route.Leader {
				r.leaders[i] = m
			}
		}
	}
}

func (r *remote) push(ctx context.Context, i int, body []byte) (kept bool, err error) {
	var reply proto.Frame
	return false, r.call(ctx, i, proto.ParameterServer_Push_FullMethodName, &proto.Frame{Body: body}, &reply)
}

// version asks the members in turn until one knows; any replica's answer is a
// version the shard has reached.
func (r *remote) version(ctx context.Context, i int) (uint64, error) {
	req := &proto.ShardStatusRequest{Job: r.job, Run: r.client.run, Shard: uint32(r.client.current()[i].Shard)}
	var reply proto.ShardStatusReply
	if err := r.call(ctx, i, proto.ParameterServer_ShardStatus_FullMethodName, req, &reply); err != nil {
		return 0, err
	}
	return reply.GetVersion(), nil
}

// call sends one request to a shard's leader until it is answered, ctx ends, or
// the answer is one that no retry changes.
func (r *remote) call(ctx context.Context, i int, method string, req, reply any) error {
	return retry(ctx, func() error {
		route, err := r.route(i)
		if err != nil {
			return err
		}
		r.mu.Lock()
		place := r.leaders[i] % len(route.Members)
		r.mu.Unlock()
		return r.invoke(ctx, route, i, place, method, req, reply)
	})
}

// retry makes attempts, with pauses that grow, until one succeeds, ctx ends, or
// the answer is final.
func retry(ctx context.Context, attempt func() error) error {
	for wait := backoffMin; ; wait = min(2*wait, backoffMax) {
		err := attempt()
		if err == nil || final(err) {
			return err
		}
		pause := wait/2 + rand.N(wait)
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w (last answer: %v)", ctx.Err(), err)
		case <-time.After(pause):
		}
	}
}

// final tells whether no retry changes the answer.
func final(err error) bool { return errors.Is(err, ErrVersionGone) || errors.Is(err, errRefused) }

func (r *remote) route(i int) (Route, error) {
	route := r.client.current()[i]
	if len(route.Members) == 0 {
		return route, fmt.Errorf("shard %d has no members yet", route.Shard)
	}
	return route, nil
}

// invoke sends one request to one member.
func (r *remote) invoke(ctx context.Context, route Route, i, place int, method string, req, reply any) error {
	conn, err := r.conn(route.Members[place].Address)
	if err != nil {
		return err
	}
	attempt, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	if err := conn.Invoke(attempt, method, req, reply); err != nil {
		if ctx.Err() != nil {
			return err // it says nothing about the member
		}
		return r.judge(route, i, place, err)
	}
	return nil
}

// judge turns a failed answer into what to do next: it points the shard at
// another member, or marks the error as final.
func (r *remote) judge(route Route, i, place int, err error) error {
	refusal := refusalOf(err)
	switch refusal.GetReason() {
	case proto.Reason_REASON_VERSION_GONE:
		return &GoneError{Shard: route.Shard, Version: refusal.GetVersion()}
	case proto.Reason_REASON_INVALID, proto.Reason_REASON_STEP_AHEAD, proto.Reason_REASON_MEMORY:
		return fmt.Errorf("%w by %s: %w", errRefused, route.Members[place].Node, err)
	case proto.Reason_REASON_OVERLOADED, proto.Reason_REASON_NOT_READY:
		return err // the same member, after a pause
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.leaders[i]%len(route.Members) == place {
		r.leaders[i] = (place + 1) % len(route.Members)
	}
	for m, member := range route.Members {
		if refusal.GetLeaderNode() != "" && member.Node == refusal.GetLeaderNode() {
			r.leaders[i] = m
		}
	}
	return err
}

// refusalOf returns the detail a server gave with its error, or nil.
func refusalOf(err error) *proto.Refusal {
	s, ok := status.FromError(err)
	if !ok || s.Code() == codes.OK {
		return nil
	}
	for _, d := range s.Details() {
		if refusal, ok := d.(*proto.Refusal); ok {
			return refusal
		}
	}
	return nil
}

func (r *remote) conn(address string) (*grpc.ClientConn, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c, ok := r.conns[address]; ok {
		return c, nil
	}
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(
			grpc.ForceCodecV2(frame.Codec{}),
			grpc.MaxCallRecvMsgSize(frame.MaxMessage),
			grpc.MaxCallSendMsgSize(frame.MaxMessage)),
		experimental.WithBufferPool(frame.Pool),
		grpc.WithInitialWindowSize(16 << 20),
		grpc.WithInitialConnWindowSize(32 << 20),
		grpc.WithReadBufferSize(512 << 10),
		grpc.WithWriteBufferSize(512 << 10),
		// A server that died is found by its refused connection; a silent
		// network by the keepalive.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}),
		grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: 2 * time.Second, Backoff: reconnect}),
	}
	c, err := grpc.NewClient(address, append(options, r.options...)...)
	if err != nil {
		return nil, fmt.Errorf("connect to %s: %w", address, err)
	}
	r.conns[address] = c
	return c, nil
}

func (r *remote) close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var errs []error
	for _, c := range r.conns {
		errs = append(errs, c.Close())
	}
	clear(r.conns)
	return errors.Join(errs...)
}
