package sim

import (
	"context"
	"encoding/hex"
	"fmt"
	"hash/maphash"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/fathom-train/fathom/proto"
	"github.com/fathom-train/fathom/ps/wire"
)

// truth is what the undisturbed run was seen to do: the state of every shard at
// every version, and the answer to every pull. In mode sync nothing else may
// ever be seen, whatever happens.
type truth struct {
	mu     sync.Mutex
	states map[stateKey]string
	pulls  map[uint64]uint64 // digest of the question -> digest of the answer
	model  string            // hash of the trained model
}

type stateKey struct {
	shard   uint32
	version uint64
}

func newTruth() *truth { return &truth{states: map[stateKey]string{}, pulls: map[uint64]uint64{}} }

// state checks a replica's state and reports what is wrong with it.
func (k *truth) state(key stateKey, hash string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	want, known := k.states[key]
	if !known {
		k.states[key] = hash
	} else if want != hash {
		return fmt.Errorf("shard %d at version %d has the state %s, want %s", key.shard, key.version, hash, want)
	}
	return nil
}

// copy is for runs that may add what is wrong.
func (k *truth) copy() *truth {
	k.mu.Lock()
	defer k.mu.Unlock()
	return &truth{states: maps.Clone(k.states), pulls: maps.Clone(k.pulls), model: k.model}
}

var seed = maphash.MakeSeed()

// pull checks the answer to a pull.
func (k *truth) pull(request, reply []byte) error {
	var q wire.PullRequest
	if err := wire.ParsePullRequest(request, &q); err != nil {
		return err
	}
	version, values, err := wire.ParsePullReply(reply)
	if err != nil {
		return err
	}
	if version != q.Version {
		return fmt.Errorf("a pull of version %d was answered with version %d", q.Version, version)
	}
	q.Run = 0 // the only part that differs between runs
	var answer maphash.Hash
	answer.SetSeed(seed)
	for _, v := range values {
		maphash.WriteComparable(&answer, v)
	}
	key := maphash.Bytes(seed, q.Append(nil))
	k.mu.Lock()
	defer k.mu.Unlock()
	want, known := k.pulls[key]
	if !known {
		k.pulls[key] = answer.Sum64()
	} else if want != answer.Sum64() {
		return fmt.Errorf("a pull of version %d of shard %d was answered with other values than before", q.Version, q.Shard)
	}
	return nil
}

// calls watches what servers report and what workers ask, and disturbs the
// latter: pushes are sent twice, or once more much later, and answers get lost.
type calls struct {
	wrong *verdict
	truth *truth
	// ledger stands in for the truth in mode async, where it depends on who was fast.
	ledger *ledger
	rng    *rand.Rand // used under mu

	// twice, late and lost are probabilities.
	twice, late, lost float64
	// mutate, if not nil, stands in for a call: see mutant_test.go.
	mutate func(ctx context.Context, method string, req, reply *proto.Frame, call func(req *proto.Frame) error) error

	mu sync.Mutex
	// final is the newest state reported by every replica.
	final map[replicaKey]*proto.GroupReport
	// job is the run whose replicas are looked at, the first one seen.
	job string
	// gone are those that their server does not report any more.
	gone  map[replicaKey]bool
	ops   []operation
	clock int64

	copies sync.WaitGroup
	ended  bool
}

type replicaKey struct {
	node  string
	shard uint32
}

func (c *calls) wait() {
	c.mu.Lock()
	c.ended = true
	c.mu.Unlock()
	c.copies.Wait()
}

// now is the count of calls that began or ended.
func (c *calls) now() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.clock
}

func (c *calls) draw() (twice, late, lost bool, after time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return
	}
	return c.rng.Float64() < c.twice, c.rng.Float64() < c.late, c.rng.Float64() < c.lost, time.Duration(c.rng.IntN(2000)) * time.Millisecond
}

// unary is the interceptor of a worker's calls.
func (c *calls) unary(node string) grpc.UnaryClientInterceptor {
	return func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
		q, ok := req.(*proto.Frame)
		if !ok {
			return invoke(ctx, method, req, reply, cc, opts...)
		}
		a := reply.(*proto.Frame)
		call := func(q *proto.Frame) error { return invoke(ctx, method, q, a, cc, opts...) }
		if method == proto.ParameterServer_Push_FullMethodName {
			return c.push(ctx, node, method, q, a, call, func(ctx context.Context, q *proto.Frame) error {
				return invoke(ctx, method, q, &proto.Frame{}, cc, opts...)
			})
		}
		op := c.begin(node, method, q)
		var err error
		if c.mutate != nil {
			err = c.mutate(ctx, method, q, a, call)
		} else {
			err = call(q)
		}
		c.end(op, a, err)
		if err == nil && method == proto.ParameterServer_Pull_FullMethodName {
			check := c.truth.pull
			if c.ledger != nil {
				check = c.ledger.pulled
			}
			if err := check(q.GetBody(), a.GetBody()); err != nil {
				c.wrong.Errorf("%s: %v", node, err)
			}
		}
		return err
	}
}

func (c *calls) push(ctx context.Context, node, method string, q, a *proto.Frame, call func(*proto.Frame) error, again func(context.Context, *proto.Frame) error) error {
	twice, late, lost, after := c.draw()
	if twice || late {
		// Body must not change while it is sent, and the caller's will.
		copied := &proto.Frame{Body: slices.Clone(q.GetBody())}
		c.copies.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			sent := c.now()
			if late {
				<-time.After(after)
			}
			switch err := again(ctx, copied); {
			case err != nil: // nobody waits for the answer of a copy
			case late && c.now() > sent+4:
				seen.add(pushLate, 1)
			default:
				seen.add(pushTwice, 1)
			}
		})
	}
	op := c.begin(node, method, q)
	acknowledged := func(int64) {}
	if c.ledger != nil {
		done, err := c.ledger.pushed(q.GetBody(), c.now())
		if err != nil {
			c.wrong.Errorf("%s: %v", node, err)
			return err
		}
		acknowledged = done
	}
	var err error
	if c.mutate != nil {
		err = c.mutate(ctx, method, q, a, call)
	} else {
		err = call(q)
	}
	if err == nil {
		acknowledged(c.now())
	}
	if err == nil && lost {
		seen.add(answerLost, 1)
		err = status.Error(codes.Unavailable, "the answer was lost")
	}
	c.end(op, a, err)
	return err
}

// reports is the interceptor of a server's session with the coordinator.
func (c *calls) reports(ctx context.Context, d *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	s, err := open(ctx, d, cc, method, opts...)
	if err != nil {
		return nil, err
	}
	return &reporting{s, c}, nil
}

type reporting struct {
	grpc.ClientStream
	calls *calls
}

func (r *reporting) SendMsg(m any) error {
	if n, ok := m.(*proto.NodeReport); ok {
		groups := slices.DeleteFunc(slices.Clone(n.GetGroups()), func(g *proto.GroupReport) bool { return !r.calls.watches(g) })
		r.calls.remember(n.GetNode(), groups)
		for _, g := range groups {
			r.calls.reported(n.GetNode(), g)
		}
	}
	return r.ClientStream.SendMsg(m)
}

// watches reports whether a replica is of the first job. Another one may cut
// its tables otherwise.
func (c *calls) watches(g *proto.GroupReport) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.job == "" {
		c.job = g.GetJob()
	}
	return g.GetJob() == c.job
}

// remember keeps what a server reports of its replicas. One that it does not
// name any more has moved to another server, or the job has ended.
func (c *calls) remember(node string, groups []*proto.GroupReport) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.final == nil {
		c.final = map[replicaKey]*proto.GroupReport{}
		c.gone = map[replicaKey]bool{}
	}
	for k := range c.final {
		if k.node == node {
			c.gone[k] = true
		}
	}
	for _, g := range groups {
		k := replicaKey{node, g.GetShard()}
		c.final[k] = g
		delete(c.gone, k)
	}
}

// reported checks the state of a replica.
func (c *calls) reported(node string, g *proto.GroupReport) {
	if g.GetError() != "" || !g.GetConfigured() || c.ledger != nil && g.GetVersion() < steps {
		return // in mode async only the state after the last step is one
	}
	if err := c.truth.state(stateKey{g.GetShard(), g.GetVersion()}, hex.EncodeToString(g.GetHash())); err != nil {
		c.wrong.Errorf("%s: %v", node, err)
	}
}

// replicas returns the newest report of every replica, without those that were
// given up before the version.
func (c *calls) replicas(version uint64) map[replicaKey]*proto.GroupReport {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := map[replicaKey]*proto.GroupReport{}
	for k, g := range c.final {
		if !c.gone[k] || g.GetVersion() == version {
			all[k] = g
		}
	}
	return all
}

// version is the newest that a shard was seen at.
func (c *calls) version() (newest uint64) {
	for _, g := range c.replicas(0) {
		newest = max(newest, g.GetVersion())
	}
	return newest
}

// trained tells whether a shard was seen after a step.
func (c *calls) trained() bool { return c.version() > 0 }

// operation is one call to a shard, for the check of linearizability. Time is
// a count of beginnings and ends.
type operation struct {
	client     string
	push       bool
	shard      uint32
	step       uint64
	lane       uint16
	begin, end int64
	ok         bool
}

func (c *calls) begin(node, method string, q *proto.Frame) int {
	op := operation{client: node}
	switch method {
	case proto.ParameterServer_Push_FullMethodName:
		h, chunks, err := wire.ParsePushBody(q.GetBody())
		var p wire.Push
		if err != nil || len(chunks) == 0 || wire.ParsePush(chunks[0], &p) != nil {
			return -1
		}
		op.push, op.shard, op.step, op.lane = true, h.Shard, p.ID.Step, p.ID.Lane
	case proto.ParameterServer_Pull_FullMethodName:
		var p wire.PullRequest
		if wire.ParsePullRequest(q.GetBody(), &p) != nil {
			return -1
		}
		op.shard, op.step = p.Shard, p.Version
	default:
		return -1
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clock++
	op.begin = c.clock
	c.ops = append(c.ops, op)
	return len(c.ops) - 1
}

func (c *calls) end(i int, _ *proto.Frame, err error) {
	if i < 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clock++
	c.ops[i].end, c.ops[i].ok = c.clock, err == nil
}
