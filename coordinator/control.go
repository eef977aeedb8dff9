package coordinator

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	pb "google.golang.org/protobuf/proto"

	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/fathom-train/fathom/coordinator/store"
	"github.com/fathom-train/fathom/proto"
)

const (
	specBytesMax = 1 << 20
	// pendingMax bounds the jobs that wait.
	pendingMax = 100
	// finishedMax and finishedBytesMax bound the finished jobs that are kept;
	// the oldest are removed first.
	finishedMax      = 1000
	finishedBytesMax = 64 << 20
	// removeMax bounds how many are removed by one write.
	removeMax = 24
	// watchInterval is the shortest time between two messages of Watch.
	watchInterval = 200 * time.Millisecond
)

// control serves the command line.
type control struct {
	proto.UnimplementedControlServer
	service *Service
}

// look calls f while the leader's mu is held.
func (c *control) look(ctx context.Context, f func(*leader) error) (*leader, error) {
	l, err := c.service.leading(ctx)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l, f(l)
}

// lookAt is look at a job; the newest one if the name is empty.
func (c *control) lookAt(ctx context.Context, name string, f func(*leader, *entry) error) (l *leader, e *entry, err error) {
	l, err = c.look(ctx, func(l *leader) error {
		if e, err = l.get(name); err != nil {
			return err
		}
		return f(l, e)
	})
	return l, e, err
}

// Submit stores a job.
func (c *control) Submit(ctx context.Context, r *proto.SubmitRequest) (*proto.SubmitReply, error) {
	l, err := c.service.leading(ctx)
	if err != nil {
		return nil, err
	}
	if len(r.GetSpec()) > specBytesMax {
		return nil, status.Errorf(codes.InvalidArgument, "the spec has %d bytes, at most %d are accepted", len(r.GetSpec()), specBytesMax)
	}
	j, err := job.FromJSON(r.GetSpec())
	if err == nil {
		err = j.Validate()
	}
	if err == nil {
		_, err = newLayout(j)
	}
	if err == nil && j.Spec.Train.RestoreBest && j.Spec.Checkpoint.Dir == "" {
		err = fmt.Errorf("spec.train.restore_best: %w", errNoPlace)
	}
	if err == nil && j.Spec.Search != nil && j.Spec.Search.KeepSupernet && j.Spec.Checkpoint.Dir == "" {
		err = fmt.Errorf("spec.search.keep_supernet: %w", errNoPlace)
	}
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	spec := j.JSON()
	if len(spec) > specBytesMax {
		return nil, status.Errorf(codes.InvalidArgument, "the spec with its defaults has %d bytes, at most %d are accepted", len(spec), specBytesMax)
	}
	if err := checkPlace(j); err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	var source *manifestSource
	if r.GetRestore() != "" {
		if source, err = readSource(ctx, j, r.GetRestore()); err != nil {
			return nil, status.Error(codes.InvalidArgument, fmt.Sprintf("restore %s: %v", r.GetRestore(), err))
		}
	}
	err = l.commit(ctx, func(now time.Time) (*write, error) { return l.submit(j, spec, source, now) })
	if err != nil {
		return nil, c.service.failure(ctx, err)
	}
	return &proto.SubmitReply{Job: j.Metadata.Name}, nil
}

func (l *leader) submit(j *job.Job, spec []byte, source *manifestSource, now time.Time) (*write, error) {
	pending := 0
	for _, e := range l.entries {
		if !e.ended() && e.name == j.Metadata.Name {
			return nil, status.Errorf(codes.AlreadyExists, "job %s is %s", e.name, phaseName(e.phase()))
		}
		if e.phase() == proto.Phase_PHASE_PENDING {
			pending++
		}
	}
	if pending >= pendingMax {
		return nil, status.Errorf(codes.ResourceExhausted, "%d jobs wait already", pending)
	}
	var random [8]byte
	rand.Read(random[:])
	e := &entry{number: 1, name: j.Metadata.Name, run: binary.LittleEndian.Uint64(random[:]), spec: spec}
	if n := len(l.entries); n > 0 {
		e.number = l.entries[n-1].number + 1
	}
	e.plan = &plan{enteredNano: now.UnixNano(), status: &proto.JobStatus{
		Job: e.name, Phase: proto.Phase_PHASE_PENDING, Epochs: uint64(j.Spec.Train.Epochs),
		CreatedUnixNano: now.UnixNano(), SpecDigest: j.Digest()}}
	if source != nil {
		e.plan, e.record = planFrom(source, j, now), source.search
	}
	specBytes, err := json.Marshal(specRecord{Run: e.run, Spec: spec})
	if err != nil {
		return nil, fmt.Errorf("encode spec: %w", err)
	}
	planBytes, err := e.plan.encode()
	if err != nil {
		return nil, err
	}
	removed, ops := l.removeOldest()
	ops = append(ops, store.Put(l.keys.spec(e.number), specBytes), store.Put(l.keys.plan(e.number), planBytes))
	if e.record != nil {
		ops = append(ops, store.Put(l.keys.search(e.number), e.record.encode()))
	}
	return &write{ops: ops, apply: func() {
		kept := l.entries[:0:0]
		for _, old := range l.entries {
			if !removed[old] {
				kept = append(kept, old)
			}
		}
		l.entries = append(kept, e)
		l.log.Info("job is submitted", "job", e.name, "run", fmt.Sprintf("%016x", e.run))
	}}, nil
}

// removeOldest chooses the finished jobs that are over the limits.
func (l *leader) removeOldest() (map[*entry]bool, []store.Op) {
	finished, size := 0, 0
	for _, e := range l.entries {
		if e.ended() {
			finished++
			size += len(e.spec)
		}
	}
	removed := make(map[*entry]bool)
	var ops []store.Op
	for _, e := range l.entries {
		if finished < finishedMax && size <= finishedBytesMax || len(removed) == removeMax {
			break
		}
		// The last run's groups are still hosted by its record.
		if !e.ended() || l.run != nil && l.run.entry == e {
			continue
		}
		removed[e] = true
		ops = append(ops, store.Delete(l.keys.spec(e.number)), store.Delete(l.keys.plan(e.number)), store.Delete(l.keys.place(e.number)), store.Delete(l.keys.search(e.number)))
		finished--
		size -= len(e.spec)
	}
	return removed, ops
}

// List returns all jobs, newest first, without their specs.
func (c *control) List(ctx context.Context, _ *proto.ListRequest) (*proto.ListReply, error) {
	reply := new(proto.ListReply)
	_, err := c.look(ctx, func(l *leader) error {
		now := time.Now()
		for i := len(l.entries) - 1; i >= 0; i-- {
			reply.Jobs = append(reply.Jobs, l.status(l.entries[i], now, false))
		}
		return nil
	})
	return reply, err
}

// Status returns one job.
func (c *control) Status(ctx context.Context, r *proto.StatusRequest) (s *proto.JobStatus, err error) {
	_, _, err = c.lookAt(ctx, r.GetJob(), func(l *leader, e *entry) error {
		s = l.status(e, time.Now(), true)
		return nil
	})
	return s, err
}

// get is find with an error for the command line.
func (l *leader) get(name string) (*entry, error) {
	e := l.find(name)
	switch {
	case e == nil && name == "":
		return nil, status.Error(codes.NotFound, "there is no job yet")
	case e == nil:
		return nil, status.Errorf(codes.NotFound, "there is no job %q", name)
	}
	return e, nil
}

// Watch sends a job's status on every change.
func (c *control) Watch(r *proto.StatusRequest, stream grpc.ServerStreamingServer[proto.JobStatus]) error {
	l, e, err := c.lookAt(stream.Context(), r.GetJob(), func(*leader, *entry) error { return nil })
	if err != nil {
		return err
	}
	look := time.NewTicker(watchInterval)
	defer look.Stop()
	var last *proto.JobStatus
	for {
		l.mu.Lock()
		s, ended := l.status(e, time.Now(), true), e.ended()
		l.mu.Unlock()
		if !pb.Equal(s, last) {
			if err := stream.Send(s); err != nil {
				return err
			}
			last = s
		}
		if ended {
			return nil
		}
		select {
		case <-look.C:
		case <-stream.Context().Done():
			return stream.Context().Err()
		case <-l.done:
			return c.service.refuse(stream.Context())
		}
	}
}

// Cancel ends a job; one that has ended stays as it is.
func (c *control) Cancel(ctx context.Context, r *proto.CancelRequest) (*proto.JobStatus, error) {
	l, err := c.service.leading(ctx)
	if err != nil {
		return nil, err
	}
	var e *entry
	err = l.commit(ctx, func(now time.Time) (*write, error) {
		if e, err = l.get(r.GetJob()); err != nil || e.ended() {
			return nil, err
		}
		if run := l.active(); run != nil && run.entry == e {
			return l.end(run, now, proto.Phase_PHASE_CANCELLED), nil
		}
		return l.setPlan(e, now, func(p *plan) {
			p.status.Phase, p.status.EndedUnixNano = proto.Phase_PHASE_CANCELLED, now.UnixNano()
		}), nil
	})
	if err != nil {
		return nil, c.service.failure(ctx, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.status(e, time.Now(), true), nil
}
