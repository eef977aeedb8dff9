package ps

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"github.com/fathom-train/fathom/proto"
	"github.com/fathom-train/fathom/ps/checkpoint"
	"github.com/fathom-train/fathom/ps/fsm"
	"github.com/fathom-train/fathom/ps/replica"
)

// capturer writes the checkpoints that one replica is ordered to write. The
// order names its step before the shards reach it: the state machine takes a view
// when it is there, and steps go on while the view is written.
type capturer struct {
	hosted *hosted
	group  *replica.Group
	id     string // of the order obeyed; empty: none
	cancel context.CancelFunc
	done   chan struct{}
}

// follow obeys the newest order. A withdrawn one is given up, whatever it has
// come to: nobody will name its file in a manifest.
func (c *capturer) follow(ctx context.Context, o *proto.CheckpointOrder) {
	if o.GetId() == c.id {
		return
	}
	c.stop()
	c.id = o.GetId()
	c.hosted.setCheckpoint(nil)
	if c.id == "" {
		return
	}
	ctx, c.cancel = context.WithCancel(ctx)
	done := make(chan struct{})
	c.done = done
	go func() {
		defer close(done)
		report := c.capture(ctx, o)
		if ctx.Err() == nil {
			c.hosted.setCheckpoint(report)
		}
	}()
}

func (c *capturer) stop() {
	if c.cancel != nil {
		c.cancel()
		<-c.done
		c.cancel = nil
	}
}

// capture waits for the step and writes the shard; the report is what came of it.
func (c *capturer) capture(ctx context.Context, o *proto.CheckpointOrder) *proto.CheckpointReport {
	r := &proto.CheckpointReport{Id: o.GetId()}
	var views <-chan *fsm.View
	var withdraw func()
	if !c.group.Inspect(func(s *fsm.State) { views, withdraw = s.ViewAt(o.GetStep()) }) {
		return r
	}
	var view *fsm.View
	select {
	case view = <-views:
	case <-ctx.Done():
		withdraw()
		if view = <-views; view != nil {
			view.Release()
		}
		return r
	}
	if view == nil {
		r.Missed = true
		return r
	}
	defer view.Release()
	file, err := c.hosted.writeShard(ctx, o, view)
	if errors.Is(err, fsm.ErrOpenLanes) {
		r.Missed = true
		return r
	}
	if err != nil {
		if ctx.Err() == nil {
			c.hosted.server.cfg.Logger.Error("checkpoint not written", "group", c.hosted.name, "step", o.GetStep(), "error", err)
		}
		r.Error = err.Error()
		return r
	}
	r.File = file
	return r
}

// writeShard writes the view to a file of its own: no other attempt, and no other
// replica in this one, uses the name.
func (h *hosted) writeShard(ctx context.Context, o *proto.CheckpointOrder, view *fsm.View) (_ *proto.CheckpointFile, err error) {
	b, err := checkpoint.Open(ctx, o.GetLocation())
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	name := fmt.Sprintf("shard-%05d-%s-%x.fck", h.ordered().GetShard(), o.GetId(), h.server.incarnation)
	sum := sha256.New()
	var written fsm.CheckpointFile
	err = b.Create(ctx, name, func(w io.Writer) (err error) {
		written, err = view.WriteCheckpoint(io.MultiWriter(untilDone{ctx, w}, sum))
		return err
	})
	if err != nil {
		return nil, err
	}
	file := &proto.CheckpointFile{Name: name, Bytes: uint64(written.Bytes), Sha256: sum.Sum(nil), Rows: written.Rows}
	for _, p := range written.Parts {
		file.Parts = append(file.Parts, p[:])
	}
	return file, nil
}

// untilDone is a writer that fails once its context has ended.
type untilDone struct {
	ctx context.Context
	w   io.Writer
}

func (u untilDone) Write(p []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.w.Write(p)
}

// setCheckpoint makes known how far the ordered checkpoint is.
func (h *hosted) setCheckpoint(r *proto.CheckpointReport) {
	h.mu.Lock()
	h.checkpoint = r
	h.mu.Unlock()
	if r != nil {
		h.server.session.Poke()
	}
}
