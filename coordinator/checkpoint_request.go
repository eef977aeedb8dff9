package coordinator

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/fathom-train/fathom/proto"
)

// checkpointResult is what a request for a checkpoint gets.
type checkpointResult struct {
	info *proto.CheckpointInfo
	err  error
}

func (a *attempt) finish(r checkpointResult) {
	for _, w := range a.waiters {
		w <- r // capacity 1
	}
	a.waiters = nil
}

// Checkpoint makes a checkpoint of a job and answers when it exists.
func (c *control) Checkpoint(ctx context.Context, r *proto.CheckpointRequest) (*proto.CheckpointInfo, error) {
	var result <-chan checkpointResult
	l, e, err := c.lookAt(ctx, r.GetJob(), func(l *leader, e *entry) (err error) {
		if result, err = l.requestCheckpoint(e); err != nil {
			return status.Error(codes.FailedPrecondition, err.Error())
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	ended := time.NewTicker(tick)
	defer ended.Stop()
	for {
		select {
		case a := <-result:
			if a.err != nil {
				return nil, status.Error(codes.Internal, a.err.Error())
			}
			return a.info, nil
		case <-ended.C:
			l.mu.Lock()
			over := e.ended()
			l.mu.Unlock()
			if over && len(result) == 0 {
				return nil, status.Errorf(codes.FailedPrecondition, "job %s ended before the checkpoint was complete", e.name)
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-l.done:
			return nil, c.service.refuse(ctx)
		}
	}
}

// requestCheckpoint asks for a checkpoint as soon as possible; the channel gets
// the one answer.
func (l *leader) requestCheckpoint(e *entry) (<-chan checkpointResult, error) {
	r := l.active()
	switch {
	case r == nil || r.entry != e:
		return nil, fmt.Errorf("job %s is %s: only a job that trains can be checkpointed", e.name, phaseName(e.phase()))
	case r.job.Spec.Checkpoint.Dir == "":
		return nil, errNoPlace
	case r.phase() == proto.Phase_PHASE_STARTING:
		return nil, fmt.Errorf("job %s is still starting", e.name)
	}
	result := make(chan checkpointResult, 1)
	if a := r.attempt; a != nil && !a.reached.IsZero() {
		a.waiters = append(a.waiters, result) // it is as good as done
	} else {
		r.checkpointRequests = append(r.checkpointRequests, result)
	}
	l.poke()
	return result, nil
}
