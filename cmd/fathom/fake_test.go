package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/fathom-train/fathom/proto"
	"github.com/fathom-train/fathom/proto/identity"
	"github.com/fathom-train/fathom/ps/export"
)

// start is the moment at which the tests' clock begins.
var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// fakeControl is a coordinator that knows the given statuses.
type fakeControl struct {
	jobs     []*proto.JobStatus
	watched  []*proto.JobStatus // what Watch tells
	nodes    []*proto.NodeStatus
	err      error
	submits  [][]byte
	restored string // location
	canceled []string
	drained  []string // node and whether it was undone
	closed   bool
	wait     bool   // Watch goes on until ctx ends
	told     func() // called after every status

	checkpointErr error
}

func (f *fakeControl) Submit(_ context.Context, spec []byte) (string, error) {
	f.submits = append(f.submits, spec)
	return "small", f.err
}

func (f *fakeControl) Restore(_ context.Context, spec []byte, location string) (string, error) {
	f.submits, f.restored = append(f.submits, spec), location
	return "small", f.err
}

func (f *fakeControl) Checkpoint(_ context.Context, job string) (*proto.CheckpointInfo, error) {
	return &proto.CheckpointInfo{Location: "/checkpoints/" + job + "-00/7", Step: 7, StateHash: "ab", Bytes: 2048}, errors.Join(f.err, f.checkpointErr)
}

func (f *fakeControl) Groups(context.Context, string) (*proto.GroupsReply, error) {
	return &proto.GroupsReply{Job: "small"}, nil
}

func (f *fakeControl) List(context.Context) ([]*proto.JobStatus, error) { return f.jobs, f.err }

func (f *fakeControl) Status(_ context.Context, job string) (*proto.JobStatus, error) {
	for _, s := range f.jobs {
		if job == "" || s.GetJob() == job {
			return s, f.err
		}
	}
	return nil, fmt.Errorf("get job status: %w", status.Errorf(codes.NotFound, "no job %q", job))
}

func (f *fakeControl) Watch(ctx context.Context, _ string, tell func(*proto.JobStatus) error) error {
	for _, s := range f.watched {
		if err := tell(s); err != nil {
			return err
		}
		if f.told != nil {
			f.told()
		}
	}
	if f.wait {
		<-ctx.Done()
	}
	if f.err == nil {
		return ctx.Err()
	}
	return f.err
}

func (f *fakeControl) Cancel(_ context.Context, job string) (*proto.JobStatus, error) {
	f.canceled = append(f.canceled, job)
	return &proto.JobStatus{Job: job, Phase: proto.Phase_PHASE_CANCELLED}, f.err
}

func (f *fakeControl) Nodes(context.Context) ([]*proto.NodeStatus, error) { return f.nodes, f.err }

func (f *fakeControl) Drain(_ context.Context, node string, undo bool) (*proto.NodeStatus, error) {
	f.drained = append(f.drained, fmt.Sprint(node, " ", undo))
	left := max(0, 3-len(f.drained))
	return &proto.NodeStatus{Node: node, Role: "ps", Draining: !undo, Replicas: uint32(left)}, f.err
}

func (f *fakeControl) Close() error { f.closed = true; return nil }

// command runs one command line against the fake and returns what it printed.
func command(t *testing.T, c *fakeControl, args ...string) (code int, out, errs string) {
	t.Helper()
	a, stdout, stderr := newTestApp(t, c)
	return a.execute(args), stdout.String(), stderr.String()
}

func newTestApp(t *testing.T, c *fakeControl) (a *app, out, errs *lockedBuffer) {
	t.Helper()
	out, errs = &lockedBuffer{}, &lockedBuffer{}
	a = &app{
		in: &bytes.Buffer{}, out: out, err: errs,
		interrupts: newInterrupts(t.Context()),
		dial:       func([]string, *identity.Source, ...grpc.DialOption) (control, error) { return c, nil },
		exportServers: func(_ context.Context, _ control, _ *identity.Source, s *proto.JobStatus, _ string) (*export.Manifest, error) {
			return &export.Manifest{Step: s.GetStep(), About: export.About{Name: s.GetJob(), StateHash: s.GetModelHash()}}, nil
		},
		now: func() time.Time { return start },
	}
	return a, out, errs
}

// lockedBuffer is a buffer that a test may read while a command writes.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// smallSpec is the resolved spec that the fake coordinator holds.
const smallSpec = `{"apiVersion":"fathom.dev/v1alpha1","kind":"TrainingJob","metadata":{"name":"small"},"spec":{
"data":{"format":"synthetic","synthetic":{"train_rows":1000,"valid_rows":100,"test_rows":100}},
"model":{"name":"lr"},
"train":{"epochs":2,"batch_size":100,"optimizer":{"name":"adam"}},
"cluster":{"workers":2,"ps":3,"replicas":3,"shards":4}}}`

// doneStatus is the last status of a job that went well.
func doneStatus() *proto.JobStatus {
	return &proto.JobStatus{
		Job: "small", Phase: proto.Phase_PHASE_DONE, Epoch: 2, Epochs: 2, Step: 20, Steps: 20,
		SamplesPerSecond: 1, Loss: 0.5,
		Scores: []*proto.Score{
			{Epoch: 1, Split: "valid", Version: 10, Samples: 100, Auc: 0.61, LogLoss: 0.65},
			{Epoch: 2, Split: "valid", Version: 20, Samples: 100, Auc: 0.71, LogLoss: 0.55},
			{Epoch: 2, Split: "test", Version: 20, Samples: 100, Auc: 0.70, LogLoss: 0.56},
		},
		CreatedUnixNano: start.UnixNano(), StartedUnixNano: start.UnixNano(), EndedUnixNano: start.Add(8 * time.Second).UnixNano(),
		SpecDigest: "d1", ModelHash: "00112233445566778899aabbccddeeff",
		Tables: []*proto.TableStatus{
			{Name: "linear", Rows: 1234, Parameters: 1234, Bytes: 4936, StateBytes: 14808},
			{Name: "dense", Parameters: 1, Bytes: 4, StateBytes: 12},
		},
		Usage:        []*proto.RoleUsage{{Role: "ps", Processes: 3, CpuSeconds: 2.5}, {Role: "worker", Processes: 2, CpuSeconds: 4}},
		Splits:       []*proto.SplitInfo{{Split: "train", Rows: 1000}, {Split: "valid", Rows: 100}, {Split: "test", Rows: 100}},
		TrainSeconds: 4, Spec: []byte(smallSpec), TeacherAuc: 0.75,
	}
}
