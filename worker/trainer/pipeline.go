package trainer

import (
	"context"
	"errors"

	"golang.org/x/sync/errgroup"

	"github.com/fathom-train/fathom/ps/client"
	"github.com/fathom-train/fathom/shard"
	"github.com/fathom-train/fathom/worker/dataset"
)

// slotsInFlight is how many lanes a worker has under way at once: one is
// loaded, one is pulled, one is computed and one is pushed.
const slotsInFlight = 4

// slot holds everything one lane of one step needs on its way through the
// pipeline; slots are reused.
type slot struct {
	step  uint64
	lane  int
	epoch uint64
	lo,
	hi int64 // positions in the epoch's order
	batch int64 // samples of the whole global batch

	data   dataset.Batch
	tables []tableRows
	dense  *denseSet
	// keys are those of the rows by table, in order of occurrence.
	keys   [][]shard.Key
	asked  []client.Rows
	pushed []client.RowGradients

	ddense  [][]float32
	lossSum float64
	held    *slot // of the validation split, for soft gates
}

// denseSet is the dense tensors at one version, pulled once for all lanes of a
// step that this worker computes.
type denseSet struct {
	step   uint64
	values [][]float32
	// ready is closed when values are there, or when pulling them failed.
	ready chan struct{}
	err   error
}

// runPipeline sends the lanes through load, pull, compute and push; every stage
// is one goroutine, so that the stages of different lanes overlap while each
// lane's own order is kept. again tells that the shards went past a step
// meanwhile and the caller should ask for the version anew.
func (t *Trainer) runPipeline(ctx context.Context, lanes []int, first, last uint64, progress Progress) (again bool, err error) {
	free := make(chan *slot, slotsInFlight)
	for range slotsInFlight {
		free <- &slot{ddense: t.newDense()}
	}
	loaded := make(chan *slot)
	pulled := make(chan *pull, 1)
	computed := make(chan *slot)

	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(loaded)
		return t.loadAll(ctx, lanes, first, last, free, loaded)
	})
	g.Go(func() error {
		defer close(pulled)
		return t.pullAll(ctx, loaded, pulled)
	})
	g.Go(func() error {
		defer close(computed)
		return t.computeAll(ctx, pulled, computed)
	})
	g.Go(func() error {
		return t.pushAll(ctx, computed, free, progress)
	})
	err = g.Wait()
	if errors.Is(err, client.ErrVersionGone) {
		return true, nil
	}
	return false, err
}

func (t *Trainer) loadAll(ctx context.Context, lanes []int, first, last uint64, free <-chan *slot, loaded chan<- *slot) error {
	for step := first; step <= last; step++ {
		for _, lane := range lanes {
			var s *slot
			select {
			case s = <-free:
			case <-ctx.Done():
				return ctx.Err()
			}
			if err := t.load(ctx, s, step, lane); err != nil {
				return err
			}
			select {
			case loaded <- s:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
	return nil
}

// pull is a slot whose rows are on their way.
type pull struct {
	slot *slot
	done chan error
}

// pullAll starts the pulls in order and hands them on before they are
// answered; the depth of the channel bounds how many are under way.
func (t *Trainer) pullAll(ctx context.Context, loaded <-chan *slot, pulled chan<- *pull) error {
	var dense *denseSet
	for s := range loaded {
		fetch := dense == nil || dense.step != s.step
		if fetch {
			dense = &denseSet{step: s.step, values: t.takeDense(), ready: make(chan struct{})}
		}
		s.dense = dense
		p := &pull{slot: s, done: make(chan error, 1)}
		go func() { p.done <- t.pullRows(ctx, s, fetch) }()
		select {
		case pulled <- p:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (t *Trainer) computeAll(ctx context.Context, pulled <-chan *pull, computed chan<- *slot) error {
	var last *denseSet
	for p := range pulled {
		if err := <-p.done; err != nil { // pullRows ends when ctx does
			return err
		}
		s := p.slot
		<-s.dense.ready
		if s.dense.err != nil {
			return s.dense.err
		}
		if last != nil && last != s.dense {
			t.giveDense(last.values)
		}
		last = s.dense
		if err := t.compute(ctx, s); err != nil {
			return err
		}
		select {
		case computed <- s:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (t *Trainer) pushAll(ctx context.Context, computed <-chan *slot, free chan<- *slot, progress Progress) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(slotsInFlight)
	for {
		select {
		case s, more := <-computed:
			if !more {
				return g.Wait()
			}
			g.Go(func() error {
				if err := t.push(ctx, s); err != nil {
					return err
				}
				if progress != nil {
					progress(s.step, s.lane, s.lossSum, s.data.N)
				}
				step, sums := s.step, s.lane == 0
				free <- s // has room for every slot
				if sums && t.cfg.Job.Reduces() {
					// Whoever has lane 0 sums for all. If it is lost, the next one pushes
					// the lane again and so comes here, too.
					return t.cfg.Client.Reduce(ctx, step)
				}
				return nil
			})
		case <-ctx.Done(): // a push was refused: nothing behind it can go on
			return g.Wait()
		}
	}
}
