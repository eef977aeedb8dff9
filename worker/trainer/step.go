package trainer

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/fathom-train/fathom/compute/layer"
	"github.com/fathom-train/fathom/compute/model"
	"github.com/fathom-train/fathom/compute/random"
	"github.com/fathom-train/fathom/ps/client"
	"github.com/fathom-train/fathom/ps/wire"
)

// phaseTrain is the phase number of plain training in every push.
const phaseTrain = 1

// load reads the lane's samples and finds the different keys among theirs.
func (t *Trainer) load(ctx context.Context, s *slot, step uint64, lane int) error {
	defer t.cfg.Metrics.observe(stageLoad, time.Now())
	epoch, lo, hi, batch := t.cfg.Job.Lane(t.train.Rows(), int64(step), lane)
	s.step, s.lane, s.epoch, s.lo, s.hi, s.batch = step, lane, uint64(epoch), lo, hi, batch
	if err := t.train.ReadEpoch(ctx, &s.data, t.cfg.Job.Spec.Train.Seed, s.epoch, lo, hi); err != nil {
		return fmt.Errorf("read the samples of step %d lane %d: %w", step, lane, err)
	}
	s.unique.Build(s.data.Keys)
	return nil
}

// pullRows gets the lane's rows, and with fetch the dense tensors too, as they
// were before the step.
func (t *Trainer) pullRows(ctx context.Context, s *slot, fetch bool) error {
	defer t.cfg.Metrics.observe(stagePull, time.Now())
	s.rows.Table, s.rows.Width, s.rows.Keys = t.table, t.width, s.unique.Keys
	s.rows.Values = grow(s.rows.Values, len(s.unique.Keys)*t.width)
	var dense [][]float32
	if fetch {
		dense = s.dense.values
	}
	err := t.cfg.Client.Pull(ctx, s.step-1, []client.Rows{s.rows}, dense)
	if fetch {
		s.dense.err = err
		close(s.dense.ready)
	}
	return err
}

// forward gathers the pulled rows and returns the logits.
func (t *Trainer) forward(s *slot, train bool) []float32 {
	n, fields := s.data.N, s.data.Fields
	for c, col := range t.columns {
		t.input[c] = grow(t.input[c], n*fields*col.Width)
	}
	t.eachPiece(s, func(c, off, width, lo, hi int, offsets []int32) {
		layer.Gather(t.input[c][lo*fields*width:hi*fields*width], hi-lo, fields, width, s.rows.Values, t.width, off, s.unique.Index, offsets, s.data.Weights)
	})
	in := model.Input{N: n, Columns: t.input, Train: train}
	if train {
		in.Share = float32(n) / float32(s.batch)
		in.Stream = random.Stream(t.cfg.Job.Spec.Train.Seed, random.Dropout, s.step, uint64(s.lane), 0)
	}
	return t.net.Forward(s.dense.values, in)
}

// compute runs the model forward and backward and leaves the gradients of the
// mean loss of the global batch in the slot.
func (t *Trainer) compute(s *slot) error {
	defer t.cfg.Metrics.observe(stageCompute, time.Now())
	clearRows(s, t.width)
	if s.data.N == 0 { // more lanes than samples in the last batch of an epoch
		s.lossSum = 0
		for _, d := range s.ddense {
			clear(d)
		}
		return nil
	}
	logits := t.forward(s, true)
	t.dLogits = grow(t.dLogits, s.data.N)
	s.lossSum = layer.BCEWithLogits(logits, s.data.Labels, t.dLogits, 1/float32(s.batch))
	if math.IsNaN(s.lossSum) || math.IsInf(s.lossSum, 0) {
		return &NumericalError{Step: s.step, Lane: s.lane, Loss: s.lossSum}
	}
	for c := range t.dInput {
		t.dInput[c] = grow(t.dInput[c], len(t.input[c]))
	}
	t.net.Backward(s.dense.values, t.dLogits, s.ddense, t.dInput)
	fields := s.data.Fields
	t.eachPiece(s, func(c, off, width, lo, hi int, offsets []int32) {
		layer.Scatter(s.drows, t.width, off, t.dInput[c][lo*fields*width:hi*fields*width], hi-lo, fields, width, s.unique.Index, offsets, s.data.Weights)
	})
	return nil
}

// pieceEntries is how many entries of the samples have all their columns moved
// before the next ones, so that the rows they share are still in the cache.
const pieceEntries = 256

// eachPiece calls f for every column of samples lo to hi, piece by piece.
func (t *Trainer) eachPiece(s *slot, f func(column, off, width, lo, hi int, offsets []int32)) {
	step := max(1, pieceEntries/s.data.Fields)
	for lo := 0; lo < s.data.N; lo += step {
		hi, off := min(lo+step, s.data.N), t.width
		for c := len(t.columns) - 1; c >= 0; c-- {
			width := t.columns[c].Width
			off -= width
			f(c, off, width, lo, hi, s.data.Offsets[lo*s.data.Fields:hi*s.data.Fields+1])
		}
	}
}

func clearRows(s *slot, width int) {
	s.drows = grow(s.drows, len(s.unique.Keys)*width)
	clear(s.drows)
}

func (t *Trainer) push(ctx context.Context, s *slot) error {
	defer t.cfg.Metrics.observe(stagePush, time.Now())
	id := wire.PushID{Run: t.cfg.Run, Phase: phaseTrain, Step: s.step, Lane: uint16(s.lane), Factor: t.cfg.Factor}
	return t.cfg.Client.Push(ctx, id, &client.Gradients{
		Rows:  []client.RowGradients{{Table: t.table, Width: t.width, Keys: s.unique.Keys, Counts: s.unique.Counts, Values: s.drows}},
		Dense: s.ddense,
	})
}
