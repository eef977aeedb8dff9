package replica

import (
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// stuckPipeline is raft's own pipeline with two requests in flight: one waits to
// be answered, the next to be taken.
type stuckPipeline struct {
	raft.AppendPipeline
	taken, done chan raft.AppendFuture
	closed      chan struct{}
}

func (p *stuckPipeline) Consumer() <-chan raft.AppendFuture { return p.done }
func (p *stuckPipeline) Close() error                       { close(p.closed); return nil }

func (p *stuckPipeline) AppendEntries(*raft.AppendEntriesRequest, *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	select {
	case p.taken <- nil:
		return nil, nil
	case <-p.closed:
		return nil, raft.ErrPipelineShutdown
	}
}

func (p *stuckPipeline) decode() {
	for {
		select {
		case f := <-p.taken:
			select {
			case p.done <- f:
			case <-p.closed:
				return
			}
		case <-p.closed:
			return
		}
	}
}

func TestBrokenPipelineDoesNotHoldUpItsSender(t *testing.T) {
	inner := &stuckPipeline{taken: make(chan raft.AppendFuture), done: make(chan raft.AppendFuture), closed: make(chan struct{})}
	go inner.decode()
	p := &pipeline{AppendPipeline: inner, transport: &transport{open: map[*pipeline]struct{}{}},
		answers: make(chan raft.AppendFuture, answersMax), closed: make(chan struct{})}
	go p.forward()
	sent := make(chan struct{})
	go func() { // nobody reads the answers
		defer close(sent)
		for range 10 {
			if _, err := p.AppendEntries(nil, nil); err != nil {
				t.Error(err)
			}
		}
	}()
	select {
	case <-sent:
	case <-time.After(patience):
		t.Error("the sender waits for a reader that has left")
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	<-sent
}
