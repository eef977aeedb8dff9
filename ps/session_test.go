package ps

import (
	"context"
	"net"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/fathom-train/fathom/coordinator/client"
	"github.com/fathom-train/fathom/proto"
)

// membershipServer is a coordinator of one order.
type membershipServer struct {
	proto.UnimplementedMembershipServer
	order   chan *proto.NodeOrder
	reports chan *proto.NodeReport
}

func (m *membershipServer) Join(stream grpc.BidiStreamingServer[proto.NodeReport, proto.NodeOrder]) error {
	go func() {
		for o := range m.order {
			if stream.Send(o) != nil {
				return
			}
		}
	}()
	for {
		r, err := stream.Recv()
		if err != nil {
			return err
		}
		select {
		case m.reports <- r:
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
}

func TestServerReportsToItsCoordinatorAtOnce(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := &membershipServer{order: make(chan *proto.NodeOrder, 4), reports: make(chan *proto.NodeReport)}
	coordinator := grpc.NewServer()
	proto.RegisterMembershipServer(coordinator, m)
	go coordinator.Serve(l)
	defer coordinator.Stop()
	defer close(m.order)

	s, err := New(Config{Node: "ps-0", Listen: "127.0.0.1:0", DataDir: t.TempDir(), Coordinators: []string{l.Addr().String()}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	first := <-m.reports
	if first.Node != "ps-0" || first.Role != "ps" || first.Address != s.Addr() || first.Incarnation == 0 || len(first.Groups) != 0 {
		t.Errorf("first report %v", first)
	}
	m.order <- &proto.NodeOrder{Revision: 5, Groups: []*proto.GroupOrder{
		order(0, true, &proto.Member{Node: "ps-0", Address: s.Addr()})}}
	var configured time.Time
	for r := range m.reports {
		if len(r.Groups) == 1 && r.Groups[0].Configured && r.OrderRevision == 5 {
			configured = time.Now()
			break
		}
	}
	// Without a poke nothing would come before the next heartbeat.
	s.session.Poke()
	<-m.reports
	if d := time.Since(configured); d > client.HeartbeatInterval {
		t.Errorf("poked report after %v", d)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run: %v", err)
	}
}
