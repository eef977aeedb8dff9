package client

import (
	"context"
	"errors"

	"github.com/fathom-train/fathom/proto"
)

// Control is the command line's side of the coordinator.
type Control struct{}

// Dial prepares a client of the coordinators at addrs.
func Dial(addrs []string) (*Control, error) { return nil, errors.ErrUnsupported }

// Submit stores a job given as resolved JSON and returns its name.
func (c *Control) Submit(ctx context.Context, spec []byte) (string, error) {
	return "", errors.ErrUnsupported
}

// List returns all jobs, newest first.
func (c *Control) List(ctx context.Context) ([]*proto.JobStatus, error) {
	return nil, errors.ErrUnsupported
}

// Status returns one job; the empty name means the newest.
func (c *Control) Status(ctx context.Context, job string) (*proto.JobStatus, error) {
	return nil, errors.ErrUnsupported
}

// Watch calls f with the job's status now and after every change, and returns
// nil after the final one.
func (c *Control) Watch(ctx context.Context, job string, f func(*proto.JobStatus) error) error {
	return errors.ErrUnsupported
}

// Cancel ends a job.
func (c *Control) Cancel(ctx context.Context, job string) (*proto.JobStatus, error) {
	return nil, errors.ErrUnsupported
}

// Nodes lists the members of the cluster.
func (c *Control) Nodes(ctx context.Context) ([]*proto.NodeStatus, error) {
	return nil, errors.ErrUnsupported
}

// Close ends all connections.
func (c *Control) Close() error { return nil }
