package coordinator

import (
	"context"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/fathom-train/fathom/coordinator/client"
	"github.com/fathom-train/fathom/proto"
	"github.com/fathom-train/fathom/proto/identity"
)

// membership serves nodes.
type membership struct {
	proto.UnimplementedMembershipServer
	service *Service
}

// Join is one node's session.
func (m *membership) Join(stream grpc.BidiStreamingServer[proto.NodeReport, proto.NodeOrder]) error {
	l, err := m.service.leading(stream.Context())
	if err != nil {
		return err
	}
	first, err := stream.Recv()
	if err != nil {
		return err
	}
	if caller, ok := identity.Caller(stream.Context()); ok && (!caller.Covers(first.GetNode()) || string(caller.Role) != first.GetRole()) {
		return status.Errorf(codes.PermissionDenied, "the certificate is of %s, the report of %s %s", caller, first.GetRole(), first.GetNode())
	}
	k, err := l.join(first)
	if err != nil {
		return err
	}
	defer l.leave(k)
	broken := make(chan error, 1)
	m.service.receivers.Go(func() {
		for {
			r, err := stream.Recv()
			if err == nil {
				err = l.noteReport(k, r)
			}
			if err != nil {
				broken <- err
				return
			}
		}
	})
	echo := time.NewTicker(client.EchoInterval)
	defer echo.Stop()
	for {
		select {
		case <-k.changed:
		case <-echo.C:
		case <-k.closed:
			return status.Error(codes.Aborted, "another process of this node has joined")
		case err := <-broken:
			if errors.Is(err, io.EOF) {
				return nil // the node said goodbye
			}
			return err
		case <-l.done:
			return m.service.refuse(stream.Context())
		}
		if order := l.orderOf(k); order != nil {
			if err := stream.Send(order); err != nil {
				return err
			}
		}
	}
}

// ReportEvaluation takes in the scores of one block.
func (m *membership) ReportEvaluation(ctx context.Context, b *proto.EvaluationBlock) (*proto.EvaluationAck, error) {
	l, err := m.service.leading(ctx)
	if err != nil {
		return nil, err
	}
	if err := l.noteBlock(b); err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	return &proto.EvaluationAck{}, nil
}

// join takes a node in, or back. A newer process of the same node replaces the
// older one at once; an older one has to wait until the newer is gone.
func (l *leader) join(r *proto.NodeReport) (*link, error) {
	if err := checkReport(r); err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	n := l.nodes[r.GetNode()]
	switch {
	case n == nil && len(l.nodes) >= nodesMax:
		return nil, status.Errorf(codes.ResourceExhausted, "the cluster has %d nodes, the most it can have", len(l.nodes))
	case n != nil && n.alive(now) && n.link != nil && r.GetIncarnation() < n.incarnation:
		return nil, status.Errorf(codes.Aborted, "a newer process of node %s is a member", r.GetNode())
	}
	k := &link{node: r.GetNode(), changed: make(chan struct{}, 1), closed: make(chan struct{})}
	if n == nil || n.incarnation != r.GetIncarnation() || n.role != r.GetRole() {
		if n != nil && n.link != nil {
			close(n.link.closed)
		}
		n = &node{name: r.GetNode(), role: r.GetRole(), incarnation: r.GetIncarnation()}
		l.nodes[n.name] = n
		l.log.Info("node joins", "node", n.name, "role", n.role, "address", r.GetAddress())
	} else if n.link != nil {
		close(n.link.closed)
	}
	n.link = k
	if n.order != nil {
		k.announce()
	}
	l.take(n, r, now)
	return k, nil
}

// leave notes that a stream broke.
func (l *leader) leave(k *link) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := l.nodes[k.node]; n != nil && n.link == k {
		n.link, n.broken = nil, time.Now()
	}
}

// noteReport takes in a report that came over a link.
func (l *leader) noteReport(k *link, r *proto.NodeReport) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.nodes[k.node]
	if n == nil || n.link != k {
		return status.Error(codes.Aborted, "another process of this node has joined")
	}
	if r.GetNode() != n.name || r.GetRole() != n.role || r.GetIncarnation() != n.incarnation {
		return status.Errorf(codes.InvalidArgument, "a report of node %s over the session of node %s", r.GetNode(), n.name)
	}
	l.take(n, r, time.Now())
	return nil
}

// take makes a report the node's state. The caller holds mu.
func (l *leader) take(n *node, r *proto.NodeReport, now time.Time) {
	before := n.report
	n.report, n.heard, n.address = r, now, r.GetAddress()
	l.metrics.reports.WithLabelValues(n.role).Inc()
	if run := l.active(); run != nil {
		if before != nil {
			run.usage[n.role] += max(0, r.GetCpuSeconds()-before.GetCpuSeconds())
		}
		run.noteGroups(n, l.nodes, now)
		run.noteMemory(n)
		run.noteWorker(n, before, now)
		run.noteMoved(n, before, l.nodes, now)
	}
	l.poke()
}

// noteWorker takes in what a worker reports of this run.
func (r *run) noteWorker(n *node, before *proto.NodeReport, now time.Time) {
	w := n.worker(r.id())
	if w == nil {
		return
	}
	if f := w.GetFailure(); f != nil {
		r.fail(f.GetInput(), "%s: %s", n.name, f.GetMessage())
	}
	for _, lane := range w.GetLanes() {
		r.lanes.Pushed(int(lane.GetLane()), lane.GetStep(), now)
	}
	known := before.GetWorker().GetJob() == r.id()
	if bad := r.progress.noteLanes(now, n.name, w, known, r.job.Spec.Train.Lanes); bad != nil {
		r.fail(false, "%s: the loss of lane %d at step %d is no number: the training diverged", n.name, bad.GetLane(), bad.GetStep())
	}
}

// orderOf is what the node of the link is to do; nil when it may go on.
func (l *leader) orderOf(k *link) *proto.NodeOrder {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := l.nodes[k.node]; n != nil && n.link == k {
		return n.order
	}
	return nil
}
