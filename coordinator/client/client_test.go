package client

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/fathom-train/fathom/proto"
)

// network is coordinators by name, in one synctest bubble.
type network struct {
	t         *testing.T
	mu        sync.Mutex
	listeners map[string]*bufconn.Listener
	stops     []func()
}

func inBubble(t *testing.T, f func(t *testing.T, n *network)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		n := &network{t: t, listeners: map[string]*bufconn.Listener{}}
		defer func() {
			for i := len(n.stops) - 1; i >= 0; i-- {
				n.stops[i]()
			}
		}()
		f(t, n)
	})
}

func (n *network) dial() grpc.DialOption {
	return grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
		n.mu.Lock()
		l := n.listeners[addr]
		n.mu.Unlock()
		if l == nil {
			return nil, fmt.Errorf("nothing listens at %s", addr)
		}
		return l.DialContext(ctx)
	})
}

func at(names ...string) []string {
	var addrs []string
	for _, name := range names {
		addrs = append(addrs, "passthrough:///"+name)
	}
	return addrs
}

// fake is a coordinator that does what its functions say.
type fake struct {
	proto.UnimplementedControlServer
	proto.UnimplementedMembershipServer
	join   func(grpc.BidiStreamingServer[proto.NodeReport, proto.NodeOrder]) error
	report func(context.Context, *proto.EvaluationBlock) error
	submit func(context.Context, *proto.SubmitRequest) error
	status func(context.Context) (*proto.JobStatus, error)
	watch  func(*proto.StatusRequest, grpc.ServerStreamingServer[proto.JobStatus]) error
}

func (f *fake) Join(s grpc.BidiStreamingServer[proto.NodeReport, proto.NodeOrder]) error {
	return f.join(s)
}

func (f *fake) ReportEvaluation(ctx context.Context, b *proto.EvaluationBlock) (*proto.EvaluationAck, error) {
	return &proto.EvaluationAck{}, f.report(ctx, b)
}

func (f *fake) Submit(ctx context.Context, r *proto.SubmitRequest) (*proto.SubmitReply, error) {
	return &proto.SubmitReply{Job: "j"}, f.submit(ctx, r)
}

func (f *fake) Status(ctx context.Context, _ *proto.StatusRequest) (*proto.JobStatus, error) {
	return f.status(ctx)
}

func (f *fake) Watch(r *proto.StatusRequest, s grpc.ServerStreamingServer[proto.JobStatus]) error {
	return f.watch(r, s)
}

// serve starts a coordinator; the returned function stops it.
func (n *network) serve(name string, f *fake) func() {
	l := bufconn.Listen(1 << 20)
	n.mu.Lock()
	n.listeners[name] = l
	n.mu.Unlock()
	server := grpc.NewServer()
	proto.RegisterControlServer(server, f)
	proto.RegisterMembershipServer(server, f)
	var wg sync.WaitGroup
	wg.Go(func() { server.Serve(l) })
	stop := sync.OnceFunc(func() { server.Stop(); wg.Wait() })
	n.stops = append(n.stops, stop)
	return stop
}

// follow refuses in favour of another coordinator.
func follow(ctx context.Context, leader string) error {
	grpc.SetTrailer(ctx, metadata.Pairs(LeaderTrailer, leader))
	return status.Error(codes.Unavailable, "not the leader")
}

// run starts a session and returns the orders obeyed and how it ends.
func (n *network) run(s *Session, report func() *proto.NodeReport) (orders chan *proto.NodeOrder, ended func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	orders, done := make(chan *proto.NodeOrder, 100), make(chan error, 1)
	go func() { done <- s.Run(ctx, report, func(o *proto.NodeOrder) { orders <- o }) }()
	ended = sync.OnceValue(func() error { cancel(); return <-done })
	n.stops = append(n.stops, func() { ended() })
	return orders, ended
}

func named(node string) func() *proto.NodeReport {
	return func() *proto.NodeReport { return &proto.NodeReport{Node: node} }
}

func TestSessionReportsAtOnceAtHeartbeatsAndWhenPoked(t *testing.T) {
	inBubble(t, func(t *testing.T, n *network) {
		heard := make(chan time.Duration, 100)
		begin := time.Now()
		n.serve("a", &fake{join: func(s grpc.BidiStreamingServer[proto.NodeReport, proto.NodeOrder]) error {
			for {
				if _, err := s.Recv(); err != nil {
					return nil
				}
				heard <- time.Since(begin)
			}
		}})
		s := NewSession(at("a"), nil, n.dial())
		_, ended := n.run(s, named("n"))
		got := []time.Duration{<-heard, <-heard}
		<-time.After(100 * time.Millisecond)
		s.Poke()
		s.Poke() // one report for both, or two
		got = append(got, <-heard)
		synctest.Wait()
		for len(heard) > 0 {
			<-heard
		}
		got = append(got, <-heard)
		want := []time.Duration{0, HeartbeatInterval, HeartbeatInterval + 100*time.Millisecond, 2 * HeartbeatInterval}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
		if err := ended(); !errors.Is(err, context.Canceled) {
			t.Errorf("run: %v", err)
		}
	})
}

func TestSessionFollowsTheLeaderAndItsCrash(t *testing.T) {
	inBubble(t, func(t *testing.T, n *network) {
		lead := func(revision uint64) func(grpc.BidiStreamingServer[proto.NodeReport, proto.NodeOrder]) error {
			return func(s grpc.BidiStreamingServer[proto.NodeReport, proto.NodeOrder]) error {
				for _, r := range []uint64{revision, revision, revision + 1} { // repeated once
					if err := s.Send(&proto.NodeOrder{Revision: r}); err != nil {
						return err
					}
				}
				<-s.Context().Done()
				return nil
			}
		}
		refuse := func(to string) *fake {
			return &fake{join: func(s grpc.BidiStreamingServer[proto.NodeReport, proto.NodeOrder]) error {
				return follow(s.Context(), to)
			}}
		}
		b := refuse("passthrough:///c")
		n.serve("a", refuse("passthrough:///b")) // out of date
		n.serve("b", b)
		stopC := n.serve("c", &fake{join: lead(10)})
		orders, _ := n.run(NewSession(at("a"), slog.New(slog.DiscardHandler), n.dial()), named("n"))
		got := []uint64{(<-orders).GetRevision(), (<-orders).GetRevision()}
		n.mu.Lock()
		delete(n.listeners, "c")
		n.mu.Unlock()
		b.join = lead(20)
		begin := time.Now()
		stopC()
		got = append(got, (<-orders).GetRevision(), (<-orders).GetRevision())
		if d := cmp.Diff([]uint64{10, 11, 20, 21}, got); d != "" {
			t.Error(d)
		}
		if waited := time.Since(begin); waited > 2*time.Second {
			t.Errorf("found the next leader after %s", waited)
		}
	})
}

func TestSessionLeavesASilentCoordinatorAndOneOfThePast(t *testing.T) {
	inBubble(t, func(t *testing.T, n *network) {
		orders := func(revisions ...uint64) *fake {
			return &fake{join: func(s grpc.BidiStreamingServer[proto.NodeReport, proto.NodeOrder]) error {
				for _, r := range revisions {
					if err := s.Send(&proto.NodeOrder{Revision: r}); err != nil {
						return err
					}
				}
				<-s.Context().Done() // and nothing more
				return nil
			}}
		}
		n.serve("hangs", orders(50))
		n.serve("past", orders(7))
		n.serve("leads", orders(60))
		begin := time.Now()
		got, _ := n.run(NewSession(at("hangs", "past", "leads"), nil, n.dial()), named("n"))
		first, second := <-got, <-got
		if first.GetRevision() != 50 || second.GetRevision() != 60 {
			t.Errorf("obeyed %d, then %d", first.GetRevision(), second.GetRevision())
		}
		if waited := time.Since(begin); waited < SilenceMax || waited > SilenceMax+2*time.Second {
			t.Errorf("waited %s for a silent coordinator, want %s", waited, SilenceMax)
		}
	})
}

func TestEvaluationBlockIsDeliveredAgainUntilTaken(t *testing.T) {
	inBubble(t, func(t *testing.T, n *network) {
		tries := 0
		n.serve("a", &fake{report: func(ctx context.Context, b *proto.EvaluationBlock) error {
			tries++
			switch {
			case b.GetBlock() == 666:
				return status.Error(codes.InvalidArgument, "damaged")
			case tries == 1:
				return follow(ctx, "")
			case tries == 2:
				return status.Error(codes.Internal, "hiccup")
			}
			return nil
		}})
		s := NewSession(at("a", "nobody"), nil, n.dial())
		defer s.route.close()
		if err := s.ReportEvaluation(t.Context(), &proto.EvaluationBlock{}); err != nil || tries != 3 {
			t.Errorf("delivered after %d tries: %v", tries, err)
		}
		if err := s.ReportEvaluation(t.Context(), &proto.EvaluationBlock{Block: 666}); status.Code(errors.Unwrap(err)) != codes.InvalidArgument {
			t.Errorf("a block the coordinator refuses: %v", err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		lost := NewSession(at("nobody"), nil, n.dial())
		defer lost.route.close()
		if err := lost.ReportEvaluation(ctx, &proto.EvaluationBlock{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a block without any coordinator: %v", err)
		}
	})
}

func TestSubmitIsNotDoneTwice(t *testing.T) {
	inBubble(t, func(t *testing.T, n *network) {
		spec := []byte(`{"metadata":{"name":"j"}}`)
		tries, stored := 0, spec
		exists := status.Error(codes.AlreadyExists, "job j is pending")
		lost := status.Error(codes.Unavailable, "connection lost")
		f := &fake{
			submit: func(context.Context, *proto.SubmitRequest) error {
				if tries++; tries == 1 {
					return lost // though it was stored
				}
				return exists
			},
			status: func(context.Context) (*proto.JobStatus, error) {
				return &proto.JobStatus{Job: "j", Spec: stored}, nil
			},
		}
		n.serve("a", f)
		c, err := Dial(at("a"), n.dial())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if name, err := c.Submit(t.Context(), spec); err != nil || name != "j" {
			t.Errorf("submit whose answer was lost: %q, %v", name, err)
		}
		if _, err := c.Submit(t.Context(), spec); status.Code(errors.Unwrap(err)) != codes.AlreadyExists {
			t.Errorf("a second submit: %v", err)
		}
		tries, stored = 0, []byte(`{"metadata":{"name":"j"},"spec":{}}`)
		if _, err := c.Submit(t.Context(), spec); status.Code(errors.Unwrap(err)) != codes.AlreadyExists {
			t.Errorf("another job of the name was there: %v", err)
		}
		tries = 0
		f.submit = func(ctx context.Context, _ *proto.SubmitRequest) error {
			if tries++; tries == 1 {
				return follow(ctx, "")
			}
			return exists
		}
		stored = spec
		if _, err := c.Submit(t.Context(), spec); status.Code(errors.Unwrap(err)) != codes.AlreadyExists {
			t.Errorf("a refusal is no lost answer: %v", err)
		}
	})
}

func TestControlGivesUpAfterItsPatience(t *testing.T) {
	inBubble(t, func(t *testing.T, n *network) {
		if _, err := Dial(nil); err == nil {
			t.Error("dialled nobody")
		}
		c, err := Dial(at("nobody", "nobody-2"), n.dial())
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		if _, err := c.Status(t.Context(), ""); status.Code(errors.Unwrap(err)) != codes.Unavailable {
			t.Errorf("status: %v", err)
		}
		if waited := time.Since(begin); waited < patience || waited > patience+5*time.Second {
			t.Errorf("gave up after %s, want %s", waited, patience)
		}
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if _, err := c.List(t.Context()); !errors.Is(err, errClosed) {
			t.Errorf("list after close: %v", err)
		}
	})
}

// TestWatchOutlivesItsCoordinatorForLonger: what it follows goes on without one.
func TestWatchOutlivesItsCoordinatorForLonger(t *testing.T) {
	inBubble(t, func(t *testing.T, n *network) {
		var heard time.Time
		calls := 0
		n.serve("a", &fake{watch: func(r *proto.StatusRequest, s grpc.ServerStreamingServer[proto.JobStatus]) error {
			if calls++; calls == 1 {
				s.Send(&proto.JobStatus{Job: "j", Step: 1})
			}
			return follow(s.Context(), "")
		}})
		c, err := Dial(at("a"), n.dial())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		err = c.Watch(t.Context(), "", func(*proto.JobStatus) error { heard = time.Now(); return nil })
		if status.Code(errors.Unwrap(err)) != codes.Unavailable {
			t.Errorf("error %v", err)
		}
		if waited := time.Since(heard); waited < watchPatience || waited > watchPatience+patience+5*time.Second {
			t.Errorf("gave up after %s, want %s", waited, watchPatience)
		}
	})
}

func TestWatchGoesOnWithAnotherCoordinator(t *testing.T) {
	inBubble(t, func(t *testing.T, n *network) {
		var asked []string
		n.serve("a", &fake{watch: func(r *proto.StatusRequest, s grpc.ServerStreamingServer[proto.JobStatus]) error {
			asked = append(asked, r.GetJob())
			s.Send(&proto.JobStatus{Job: "j", Step: 1})
			return follow(s.Context(), "passthrough:///b")
		}})
		n.serve("b", &fake{watch: func(r *proto.StatusRequest, s grpc.ServerStreamingServer[proto.JobStatus]) error {
			asked = append(asked, r.GetJob())
			s.Send(&proto.JobStatus{Job: "j", Step: 2})
			s.Send(&proto.JobStatus{Job: "j", Step: 3, Phase: proto.Phase_PHASE_DONE})
			return nil
		}})
		c, err := Dial(at("a"), n.dial())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		var steps []uint64
		err = c.Watch(t.Context(), "", func(s *proto.JobStatus) error {
			steps = append(steps, s.GetStep())
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		// The second is asked for the job the first named.
		if d := cmp.Diff([]any{[]uint64{1, 2, 3}, []string{"", "j"}}, []any{steps, asked}); d != "" {
			t.Error(d)
		}
	})
}
