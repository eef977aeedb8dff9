package coordinator

import (
	"context"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/fathom-train/fathom/coordinator/store"
	"github.com/fathom-train/fathom/proto"
)

// Groups tells where the shards of a job are that are hosted now.
func (c *control) Groups(ctx context.Context, r *proto.StatusRequest) (reply *proto.GroupsReply, err error) {
	_, _, err = c.lookAt(ctx, r.GetJob(), func(l *leader, e *entry) error {
		if l.run == nil || l.run.entry != e || e.place == nil {
			return status.Errorf(codes.FailedPrecondition, "the servers do not hold job %s any more, or not yet", e.name)
		}
		reply = &proto.GroupsReply{Job: e.groupJob(), Run: e.groupRun(), Generation: e.plan.generation, Shards: l.routesOf(l.run, time.Now())}
		return nil
	})
	return reply, err
}

// Drain makes a parameter server one that is to hold no replicas, or undoes it.
func (c *control) Drain(ctx context.Context, r *proto.DrainRequest) (*proto.NodeStatus, error) {
	l, err := c.service.leading(ctx)
	if err != nil {
		return nil, err
	}
	err = l.commit(ctx, func(now time.Time) (*write, error) { return l.drain(r.GetNode(), !r.GetUndo(), now) })
	if err != nil {
		return nil, c.service.failure(ctx, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, n := range l.nodeStatuses(time.Now()) {
		if n.GetNode() == r.GetNode() {
			return n, nil
		}
	}
	return &proto.NodeStatus{Node: r.GetNode(), Role: rolePS, Draining: !r.GetUndo()}, nil
}

func (l *leader) drain(name string, drain bool, now time.Time) (*write, error) {
	n := l.nodes[name]
	switch {
	case l.draining[name] == drain && (drain || n != nil):
		return nil, nil
	case !drain && l.draining[name]: // it may be gone by now
	case n == nil:
		return nil, status.Errorf(codes.NotFound, "there is no node %q", name)
	case n.role != rolePS:
		return nil, status.Errorf(codes.FailedPrecondition, "%s is a %s: only parameter servers are drained, a worker may be stopped at any time", name, n.role)
	case len(l.draining) >= nodesMax:
		return nil, status.Errorf(codes.ResourceExhausted, "%d servers are drained already", len(l.draining))
	}
	op := store.Put(l.keys.drained(name), []byte("true"))
	if !drain {
		op = store.Delete(l.keys.drained(name))
	}
	return &write{ops: []store.Op{op}, apply: func() {
		if drain {
			l.draining[name] = true
		} else {
			delete(l.draining, name)
		}
		l.log.Info("server is drained", "node", name, "drain", drain)
	}}, nil
}

// Nodes lists the members.
func (c *control) Nodes(ctx context.Context, _ *proto.NodesRequest) (*proto.NodesReply, error) {
	reply := new(proto.NodesReply)
	_, err := c.look(ctx, func(l *leader) error {
		reply.Nodes = l.nodeStatuses(time.Now())
		return nil
	})
	return reply, err
}
