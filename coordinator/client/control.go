package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/fathom-train/fathom/proto"
)

// patience is how long a call looks for a leading coordinator before it says
// that there is none.
const patience = 10 * time.Second

// watchPatience is the same for a watch that was under way: what it follows goes on
// without a coordinator for a while, and ends with it in a local run.
const watchPatience = 3 * time.Minute

// Control is the command line's side of the coordinator. Its errors are gRPC
// status errors, wrapped.
type Control struct {
	route *route
}

// Dial prepares a client of the coordinators at addrs; it connects at the
// first call. The options are added to those of every connection.
func Dial(addrs []string, options ...grpc.DialOption) (*Control, error) {
	if len(addrs) == 0 {
		return nil, errNoAddress
	}
	return &Control{route: newRoute(addrs, options)}, nil
}

// Close ends all connections.
func (c *Control) Close() error { return c.route.close() }

// call runs f on the leader. f is tried again, for patience, while the
// leader is looked for; ambiguous tells f that an earlier attempt may have
// had its effect although the answer was lost.
func (c *Control) call(ctx context.Context, what string, f func(ctx context.Context, cc proto.ControlClient, ambiguous bool, o ...grpc.CallOption) error) error {
	return c.callFor(ctx, patience, what, f)
}

// callFor is call with a patience of its own.
func (c *Control) callFor(ctx context.Context, patience time.Duration, what string, f func(ctx context.Context, cc proto.ControlClient, ambiguous bool, o ...grpc.CallOption) error) error {
	limit := time.Now().Add(patience)
	var pace backoff
	ambiguous := false
	for {
		conn, err := c.route.get()
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		var trailer metadata.MD
		err = f(ctx, proto.NewControlClient(conn), ambiguous, grpc.Trailer(&trailer))
		if err == nil {
			return nil
		}
		if ctx.Err() != nil || !passing(err) {
			return fmt.Errorf("%s: %w", what, err)
		}
		if time.Now().After(limit) {
			return fmt.Errorf("%s: no coordinator serves at %s: %w", what, strings.Join(c.route.addrs, ", "), err)
		}
		ambiguous = ambiguous || !refused(trailer)
		c.route.leave(conn, trailer)
		pace.sleep(ctx)
	}
}

// Submit stores a job given as resolved JSON and returns its name.
func (c *Control) Submit(ctx context.Context, spec []byte) (string, error) {
	return c.Restore(ctx, spec, "")
}

// Restore is Submit for a job that goes on from the checkpoint at a location,
// unless that is empty.
func (c *Control) Restore(ctx context.Context, spec []byte, location string) (string, error) {
	var name string
	err := c.call(ctx, "submit job", func(ctx context.Context, cc proto.ControlClient, ambiguous bool, o ...grpc.CallOption) error {
		r, err := cc.Submit(ctx, &proto.SubmitRequest{Spec: spec, Restore: location}, o...)
		if err == nil {
			name = r.GetJob()
			return nil
		}
		if ambiguous && status.Code(err) == codes.AlreadyExists {
			// Perhaps our own first attempt.
			if own, found := c.submitted(ctx, cc, spec); found {
				name = own
				return nil
			}
		}
		return err
	})
	return name, err
}

// submitted tells whether the active job of the spec's name is this very spec.
func (c *Control) submitted(ctx context.Context, cc proto.ControlClient, spec []byte) (string, bool) {
	var header struct {
		Metadata struct{ Name string }
	}
	if json.Unmarshal(spec, &header) != nil {
		return "", false
	}
	s, err := cc.Status(ctx, &proto.StatusRequest{Job: header.Metadata.Name})
	if err != nil {
		return "", false
	}
	return s.GetJob(), bytes.Equal(s.GetSpec(), spec)
}

// Checkpoint makes a checkpoint of a job that trains and returns it when it
// exists; the empty name means the newest job.
func (c *Control) Checkpoint(ctx context.Context, job string) (*proto.CheckpointInfo, error) {
	var info *proto.CheckpointInfo
	err := c.call(ctx, "make checkpoint", func(ctx context.Context, cc proto.ControlClient, _ bool, o ...grpc.CallOption) (err error) {
		info, err = cc.Checkpoint(ctx, &proto.CheckpointRequest{Job: job}, o...)
		return err
	})
	return info, err
}

// Groups tells where the shards of a job are; the empty name means the newest.
func (c *Control) Groups(ctx context.Context, job string) (*proto.GroupsReply, error) {
	var groups *proto.GroupsReply
	err := c.call(ctx, "find the job's shards", func(ctx context.Context, cc proto.ControlClient, _ bool, o ...grpc.CallOption) (err error) {
		groups, err = cc.Groups(ctx, &proto.StatusRequest{Job: job}, o...)
		return err
	})
	return groups, err
}

// List returns all jobs, newest first.
func (c *Control) List(ctx context.Context) ([]*proto.JobStatus, error) {
	var jobs []*proto.JobStatus
	err := c.call(ctx, "list jobs", func(ctx context.Context, cc proto.ControlClient, _ bool, o ...grpc.CallOption) error {
		r, err := cc.List(ctx, &proto.ListRequest{}, o...)
		jobs = r.GetJobs()
		return err
	})
	return jobs, err
}

// Status returns one job, the newest of that name; the empty name means the
// newest of all.
func (c *Control) Status(ctx context.Context, job string) (*proto.JobStatus, error) {
	var s *proto.JobStatus
	err := c.call(ctx, "get job status", func(ctx context.Context, cc proto.ControlClient, _ bool, o ...grpc.CallOption) (err error) {
		s, err = cc.Status(ctx, &proto.StatusRequest{Job: job}, o...)
		return err
	})
	return s, err
}

// Cancel ends a job.
func (c *Control) Cancel(ctx context.Context, job string) (*proto.JobStatus, error) {
	var s *proto.JobStatus
	err := c.call(ctx, "cancel job", func(ctx context.Context, cc proto.ControlClient, _ bool, o ...grpc.CallOption) (err error) {
		s, err = cc.Cancel(ctx, &proto.CancelRequest{Job: job}, o...)
		return err
	})
	return s, err
}

// Nodes lists the members of the cluster.
func (c *Control) Nodes(ctx context.Context) ([]*proto.NodeStatus, error) {
	var nodes []*proto.NodeStatus
	err := c.call(ctx, "list nodes", func(ctx context.Context, cc proto.ControlClient, _ bool, o ...grpc.CallOption) error {
		r, err := cc.Nodes(ctx, &proto.NodesRequest{}, o...)
		nodes = r.GetNodes()
		return err
	})
	return nodes, err
}

// Drain moves all replicas off a parameter server, or lets it have some again;
// the moves happen after the answer.
func (c *Control) Drain(ctx context.Context, node string, undo bool) (*proto.NodeStatus, error) {
	var s *proto.NodeStatus
	err := c.call(ctx, "drain node", func(ctx context.Context, cc proto.ControlClient, _ bool, o ...grpc.CallOption) (err error) {
		s, err = cc.Drain(ctx, &proto.DrainRequest{Node: node, Undo: undo}, o...)
		return err
	})
	return s, err
}

// Watch calls f with the job's status now and after every change, and returns
// nil after the final one. It outlives a change of the leading coordinator; an
// error of f ends it and is returned as it is.
func (c *Control) Watch(ctx context.Context, job string, f func(*proto.JobStatus) error) error {
	var stop error
	patient := patience // with the first answer
	for {
		ended := false
		heard := false
		err := c.callFor(ctx, patient, "watch job", func(ctx context.Context, cc proto.ControlClient, _ bool, o ...grpc.CallOption) error {
			stream, err := cc.Watch(ctx, &proto.StatusRequest{Job: job}, o...)
			for err == nil {
				var s *proto.JobStatus
				if s, err = stream.Recv(); err != nil {
					break
				}
				heard, patient, job = true, watchPatience, s.GetJob() // the newest job may be another one later
				if stop = f(s); stop != nil {
					return nil
				}
				ended = Ended(s.GetPhase())
			}
			if ended {
				return nil
			}
			return err
		})
		if stop != nil || err == nil {
			return stop
		}
		// Patience begins again after every message.
		if !heard || ctx.Err() != nil || !passing(errors.Unwrap(err)) {
			return err
		}
	}
}

// Ended tells whether a phase is a job's last.
func Ended(p proto.Phase) bool {
	return p == proto.Phase_PHASE_DONE || p == proto.Phase_PHASE_FAILED || p == proto.Phase_PHASE_CANCELLED
}
