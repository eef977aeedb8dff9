package client

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/fathom-train/fathom/compute/optim"
	"github.com/fathom-train/fathom/compute/random"
	"github.com/fathom-train/fathom/proto"
	"github.com/fathom-train/fathom/ps/frame"
	"github.com/fathom-train/fathom/ps/fsm"
	"github.com/fathom-train/fathom/ps/table"
	"github.com/fathom-train/fathom/ps/wire"
	"github.com/fathom-train/fathom/shard"
)

const (
	run   = 5
	width = 2
)

// states returns configured state machines and the routes to them. The
// optimizer is plain descent with rate 1, so a weight is its first value minus
// the sum of its gradients.
func states(t *testing.T, shards int) ([]*fsm.State, []Route) {
	t.Helper()
	sgd := optim.Config{Name: "sgd", LearningRate: 1}
	var all []*fsm.State
	var routes []Route
	for i, s := range shard.Even(shards).Shards {
		schema := fsm.Schema{Job: "j", Run: run, Seed: 1, Lanes: 1, PreImages: 1,
			Tables: []table.Schema{{Name: "rows", Columns: []table.Column{{Name: "embedding", Width: width, Init: random.Init{Kind: "constant", Scale: 10}, Optimizer: sgd}}}},
			Dense:  []fsm.DenseTensor{{ID: uint16(i), Name: fmt.Sprint("d", i), Size: 3, Init: random.Init{Kind: "constant", Scale: 1}, Optimizer: sgd}},
		}
		body, err := fsm.MarshalSchema(schema)
		if err != nil {
			t.Fatal(err)
		}
		state := fsm.New()
		t.Cleanup(state.Close)
		if r := state.Apply(1, wire.AppendConfigure(nil, body)); r.Err != nil {
			t.Fatal(r.Err)
		}
		all = append(all, state)
		routes = append(routes, Route{Shard: s.ID, Range: s.Range, Dense: []uint16{uint16(i)}})
	}
	return all, routes
}

// keys of both halves of the key space.
var keys = []shard.Key{1, 7, 1 << 62, 1<<63 + 5, 1<<64 - 1}

func pushAndPull(t *testing.T, c *Client, shards int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	g := &Gradients{Rows: []RowGradients{{Width: width, Keys: keys, Counts: []uint32{1, 1, 2, 1, 1}}}}
	for i := range len(keys) * width {
		g.Rows[0].Values = append(g.Rows[0].Values, float32(i))
	}
	dense := make([][]float32, shards)
	for i := range shards {
		g.Dense = append(g.Dense, []float32{1, 2, float32(i)})
		dense[i] = make([]float32, 3)
	}
	if err := c.Push(ctx, wire.PushID{Factor: 1, Run: run, Phase: 1, Step: 1}, g); err != nil {
		t.Fatal(err)
	}
	rows := Rows{Width: width, Keys: keys, Values: make([]float32, len(keys)*width)}
	if err := c.Pull(ctx, 1, []Rows{rows}, dense); err != nil {
		t.Fatal(err)
	}
	for i, got := range rows.Values {
		if want := 10 - float32(i); got != want {
			t.Errorf("weight %d is %v, want %v", i, got, want)
		}
	}
	for i, got := range dense {
		if want := []float32{0, -1, 1 - float32(i)}; !slices.Equal(got, want) {
			t.Errorf("dense tensor %d is %v, want %v", i, got, want)
		}
	}
	if v, err := c.Version(ctx); err != nil || v != 1 {
		t.Errorf("version %d, %v, want 1", v, err)
	}
}

func TestLocalPushAndPullOverShards(t *testing.T) {
	for _, shards := range []int{1, 2, 5} {
		s, routes := states(t, shards)
		pushAndPull(t, NewLocal(run, routes, s), shards)
	}
}

func TestPullOfAnOldVersionSaysGone(t *testing.T) {
	s, routes := states(t, 2)
	c := NewLocal(run, routes, s)
	pushAndPull(t, c, 2)
	g := &Gradients{Dense: [][]float32{{0, 0, 0}, {0, 0, 0}}}
	if err := c.Push(context.Background(), wire.PushID{Factor: 1, Run: run, Phase: 1, Step: 2}, g); err != nil {
		t.Fatal(err)
	}
	if err := c.Pull(context.Background(), 1, nil, nil); err != nil {
		t.Errorf("the version before the current one cannot be read: %v", err)
	}
	err := c.Pull(context.Background(), 0, nil, nil)
	var gone *GoneError
	if !errors.Is(err, ErrVersionGone) || !errors.As(err, &gone) || gone.Version != 2 {
		t.Errorf("pull of version 0 answers %v, want ErrVersionGone at version 2", err)
	}
}

// server is one member of every shard; script answers a call that only a leader
// serves, pulls any other, before it is served when it returns an error.
type server struct {
	proto.UnimplementedParameterServerServer
	local  *local
	script func() error
	pulls  func(context.Context) error
	calls  atomic.Int64 // of the script's
}

func (s *server) answer() error {
	s.calls.Add(1)
	if s.script == nil {
		return nil
	}
	return s.script()
}

func (s *server) place(id uint32) int {
	return slices.IndexFunc(s.local.routes, func(r Route) bool { return uint32(r.Shard) == id })
}

func (s *server) Pull(ctx context.Context, f *proto.Frame) (*proto.Frame, error) {
	if s.pulls != nil {
		if err := s.pulls(ctx); err != nil {
			return nil, err
		}
	}
	var req wire.PullRequest
	if err := wire.ParsePullRequest(f.GetBody(), &req); err != nil {
		return nil, err
	}
	body, _, err := s.local.pull(ctx, s.place(req.Shard), &request{body: f.GetBody()})
	var gone *GoneError
	if errors.As(err, &gone) {
		return nil, refuse(codes.FailedPrecondition, &proto.Refusal{Reason: proto.Reason_REASON_VERSION_GONE, Version: gone.Version})
	}
	return &proto.Frame{Body: body}, err
}

func (s *server) Push(ctx context.Context, f *proto.Frame) (*proto.Frame, error) {
	if err := s.answer(); err != nil {
		return nil, err
	}
	h, _, err := wire.ParsePushBody(f.GetBody())
	if err != nil {
		return nil, err
	}
	_, err = s.local.push(ctx, s.place(h.Shard), bytes.Clone(f.GetBody()))
	return &proto.Frame{}, err
}

func (s *server) ShardStatus(ctx context.Context, r *proto.ShardStatusRequest) (*proto.ShardStatusReply, error) {
	if err := s.answer(); err != nil {
		return nil, err
	}
	v, err := s.local.version(ctx, s.place(r.GetShard()))
	return &proto.ShardStatusReply{Version: v, Configured: true}, err
}

func refuse(code codes.Code, r *proto.Refusal) error {
	s, err := status.New(code, r.GetReason().String()).WithDetails(r)
	if err != nil {
		panic(err)
	}
	return s.Err()
}

// serve starts the members of all shards on loopback and routes to them; a nil
// script is an address where nobody listens.
func serve(t *testing.T, shards int, members ...*server) *Client {
	t.Helper()
	s, routes := states(t, shards)
	l := NewLocal(run, routes, s).transport.(*local)
	var all []Member
	for i, m := range members {
		lis, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, Member{Node: fmt.Sprint("ps-", i), Address: lis.Addr().String()})
		if m == nil {
			lis.Close()
			continue
		}
		m.local = l
		g := grpc.NewServer(grpc.ForceServerCodecV2(frame.Codec{}))
		proto.RegisterParameterServerServer(g, m)
		go g.Serve(lis)
		t.Cleanup(g.Stop)
	}
	for i := range routes {
		routes[i].Members = all
	}
	c := Dial("j", run)
	t.Cleanup(func() { c.Close() })
	c.SetRoutes(routes)
	return c
}

func TestRemoteFollowsTheLeaderHint(t *testing.T) {
	hint := &server{script: func() error {
		return refuse(codes.FailedPrecondition, &proto.Refusal{Reason: proto.Reason_REASON_NOT_LEADER, LeaderNode: "ps-2"})
	}}
	never := &server{script: func() error { return status.Error(codes.Internal, "not to be asked") }}
	leader := &server{}
	pushAndPull(t, serve(t, 2, hint, never, leader), 2)
	if n := never.calls.Load(); n != 0 {
		t.Errorf("a member that was not named was asked %d times", n)
	}
	if n := hint.calls.Load(); n != 2 {
		t.Errorf("the follower was asked %d times, want once for each of 2 shards", n)
	}
}

func TestRemoteTriesTheNextMemberAndSendsAgain(t *testing.T) {
	var n atomic.Int64
	flaky := &server{script: func() error {
		switch n.Add(1) {
		case 1:
			return refuse(codes.Unavailable, &proto.Refusal{Reason: proto.Reason_REASON_OVERLOADED})
		case 2:
			return refuse(codes.Unavailable, &proto.Refusal{Reason: proto.Reason_REASON_NOT_READY})
		}
		return nil
	}}
	pushAndPull(t, serve(t, 1, nil, flaky), 1)
	if n.Load() < 4 {
		t.Errorf("%d calls, want the refused ones and the two that count", n.Load())
	}
}

func TestRemoteGivesUpOnWhatNoRetryChanges(t *testing.T) {
	m := &server{script: func() error {
		return refuse(codes.InvalidArgument, &proto.Refusal{Reason: proto.Reason_REASON_INVALID})
	}}
	c := serve(t, 1, m)
	err := c.Push(context.Background(), wire.PushID{Factor: 1, Run: run, Phase: 1, Step: 1}, &Gradients{Dense: [][]float32{{1, 2, 3}}})
	if !errors.Is(err, errRefused) || m.calls.Load() != 1 {
		t.Errorf("push answers %v after %d calls, want a refusal after 1", err, m.calls.Load())
	}
}

func TestRemoteGoneAndDeadline(t *testing.T) {
	c := serve(t, 1, &server{})
	ctx := context.Background()
	for step := range uint64(2) {
		if err := c.Push(ctx, wire.PushID{Factor: 1, Run: run, Phase: 1, Step: step + 1}, &Gradients{Dense: [][]float32{{1, 2, 3}}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Pull(ctx, 0, nil, nil); !errors.Is(err, ErrVersionGone) {
		t.Errorf("pull of version 0 answers %v, want ErrVersionGone", err)
	}
	ctx, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if err := c.Pull(ctx, 9, nil, nil); !errors.Is(err, context.DeadlineExceeded) && !strings.Contains(err.Error(), "deadline") {
		t.Errorf("pull of a version that never comes answers %v, want the deadline", err)
	}
}

// TestPullGoesAroundAReplicaThatHangsOrFails has one of three members that never
// answers, or only with errors.
func TestPullGoesAroundAReplicaThatHangsOrFails(t *testing.T) {
	for name, bad := range map[string]func(context.Context) error{
		"hangs": func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
		"fails": func(context.Context) error { return status.Error(codes.Unavailable, "down") },
		"lags": func(context.Context) error {
			return refuse(codes.Unavailable, &proto.Refusal{Reason: proto.Reason_REASON_NOT_READY})
		},
	} {
		t.Run(name, func(t *testing.T) {
			var asked, good atomic.Int64
			count := func(context.Context) error { good.Add(1); return nil }
			c := serve(t, 1, &server{pulls: count}, &server{pulls: func(ctx context.Context) error { asked.Add(1); return bad(ctx) }}, &server{pulls: count})
			ctx, cancel := context.WithTimeout(context.Background(), attemptTimeout)
			defer cancel()
			const pulls = 2 * probeEvery
			for range pulls {
				if err := c.Pull(ctx, 0, nil, nil); err != nil {
					t.Fatal(err)
				}
			}
			if asked.Load() == 0 || asked.Load() > pulls/2 || good.Load() < pulls {
				t.Errorf("%d of %d pulls asked the bad replica, %d the good ones", asked.Load(), pulls, good.Load())
			}
		})
	}
}

func TestReadersPreferTheFastest(t *testing.T) {
	members := []Member{{Node: "a"}, {Node: "b"}, {Node: "c"}}
	s := &readers{}
	first := map[int]bool{}
	for range members { // each is tried once
		m, _ := s.choose(members, -1)
		first[m] = true
		s.answered(members[m].Node, time.Duration(10+m)*time.Millisecond, false)
	}
	if len(first) != 3 {
		t.Errorf("only %v were tried", first)
	}
	choose := func(want string, not int) {
		t.Helper()
		if m, patience := s.choose(members, not); members[m].Node != want || patience != hedgeMin {
			t.Errorf("chose %s with patience %v, want %s", members[m].Node, patience, want)
		}
	}
	choose("a", -1)
	choose("b", -1) // a is busy
	s.answered("b", 2*time.Second, true)
	s.answered("a", 10*time.Millisecond, false)
	choose("c", 0)
	choose("a", -1)
	s.answered("a", 10*time.Millisecond, false)
	s.answered("c", 10*time.Millisecond, false)
	probed := 0
	for range probeEvery {
		m, patience := s.choose(members, -1)
		if patience == 0 {
			probed++
			if members[m].Node != "b" {
				t.Errorf("probed %s, the one asked least recently is b", members[m].Node)
			}
		}
		s.answered(members[m].Node, 10*time.Millisecond, false)
	}
	if probed != 1 {
		t.Errorf("%d probes in %d pulls", probed, probeEvery)
	}
	if m, _ := (&readers{}).choose(members[:1], 0); m >= 0 {
		t.Error("a single member was chosen in place of itself")
	}
}

func TestRoutesMayChangeBetweenAttempts(t *testing.T) {
	c := serve(t, 1, nil)
	routes := slices.Clone(c.current())
	good := serve(t, 1, &server{}).current()[0].Members
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- c.Pull(ctx, 0, nil, nil) }()
	routes[0].Members, routes[0].Leader = good, "ps-0"
	c.SetRoutes(routes)
	if err := <-done; err != nil {
		t.Error(err)
	}
}
