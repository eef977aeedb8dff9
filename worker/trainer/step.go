package trainer

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/fathom-train/fathom/compute/layer"
	"github.com/fathom-train/fathom/compute/model"
	"github.com/fathom-train/fathom/compute/random"
	"github.com/fathom-train/fathom/ps/client"
	"github.com/fathom-train/fathom/ps/wire"
	"github.com/fathom-train/fathom/worker/dataset"
)

// phaseTrain is the phase number of plain training in every push.
const phaseTrain = 1

// load reads the lane's samples and finds the different keys among theirs.
func (t *Trainer) load(ctx context.Context, s *slot, step uint64, lane int) error {
	defer t.cfg.Metrics.observe(stageLoad, time.Now())
	epoch, lo, hi, batch := t.cfg.Job.Lane(t.train.Rows(), int64(step-t.cfg.Start), lane)
	if t.cfg.Job.Async() {
		batch = hi - lo // a lane is a batch of its own
	}
	s.step, s.lane, s.epoch, s.lo, s.hi, s.batch = step, lane, uint64(epoch), lo, hi, batch
	if err := t.train.ReadEpoch(ctx, &s.data, t.cfg.Job.Spec.Train.Seed, s.epoch, lo, hi); err != nil {
		return fmt.Errorf("read the samples of step %d lane %d: %w", step, lane, err)
	}
	t.find(s)
	return t.loadHeld(ctx, s)
}

// pullRows gets the lane's rows, and with fetch the dense tensors too, at the
// version the step is computed on.
func (t *Trainer) pullRows(ctx context.Context, s *slot, fetch bool) error {
	defer t.cfg.Metrics.observe(stagePull, time.Now())
	var dense [][]float32
	if fetch {
		dense = s.dense.values
	}
	version := t.cfg.Job.BaseVersion(t.cfg.Base, s.step)
	err := t.cfg.Client.Pull(ctx, version, s.request(), dense)
	if err == nil && s.held != nil {
		err = t.cfg.Client.Pull(ctx, version, s.held.request(), nil)
	}
	if fetch {
		s.dense.err = err
		close(s.dense.ready)
	}
	return err
}

// fill gathers the pulled rows into the model's input.
func (t *Trainer) fill(s *slot) {
	for c, col := range t.columns {
		t.input[c] = grow(t.input[c], s.data.N*s.data.Fields*col.Width)
	}
	s.showAll()
	t.super.prune(s)
	t.substitute(s)
	t.gather(s)
	t.super.open(s, t.input)
}

// forward returns the logits of the model's input.
func (t *Trainer) forward(s *slot, train bool) []float32 {
	n := s.data.N
	in := model.Input{N: n, Columns: t.input, Train: train}
	if train {
		in.Share = float32(n) / float32(s.batch)
		in.Stream = random.Stream(t.cfg.Job.Spec.Train.Seed, random.Dropout, s.step, uint64(s.lane), 0)
	}
	return t.net.Forward(s.dense.values, in)
}

// compute runs the model forward and backward and leaves the gradients of the
// mean loss of the global batch in the slot.
func (t *Trainer) compute(ctx context.Context, s *slot) error {
	defer t.cfg.Metrics.observe(stageCompute, time.Now())
	if t.separate != nil && s.data.N > 0 && t.computePieces(s) {
		return nil
	}
	s.clearGradients()
	if s.data.N == 0 { // more lanes than samples in the last batch of an epoch
		s.lossSum = 0
		for _, d := range s.ddense {
			clear(d)
		}
		return nil
	}
	t.fill(s)
	t.selector.open(s, t.input, true)
	t.dLogits = grow(t.dLogits, s.data.N)
	for c := range t.dInput {
		t.dInput[c] = grow(t.dInput[c], len(t.input[c]))
	}
	backward := t.backward
	if t.super != nil && t.super.every != nil {
		backward = t.everyWidth
	}
	if err := backward(ctx, s); err != nil {
		return err
	}
	t.selector.openGradient(s, t.dInput)
	if p := t.super; p != nil && p.gates != nil {
		p.openGradient(s, t.dInput, p.gates.dValues)
	}
	t.scatter(s)
	t.substituteGradient(s)
	t.super.pruneGradient(s)
	t.super.countUses(s)
	if err := t.guardGradients(ctx, s); err != nil {
		return err
	}
	return t.trainGates(s)
}

// backward leaves the gradients of the dense tensors and of the model's input.
func (t *Trainer) backward(ctx context.Context, s *slot) error {
	t.super.mask(s, t.input)
	logits := t.forward(s, true)
	s.lossSum = layer.WeightedBCE(logits, s.data.Labels, t.sampleWeights(&s.data), t.dLogits, 1/float32(s.batch))
	if err := t.guardLoss(ctx, s, logits); err != nil {
		return err
	}
	t.net.Backward(s.dense.values, t.dLogits, s.ddense, t.dInput)
	t.super.maskGradient(t.dInput)
	return nil
}

// sampleWeights returns the weights of the samples' losses, nil when all are 1.
func (t *Trainer) sampleWeights(b *dataset.Batch) []float32 {
	positive := t.cfg.Job.Spec.Train.PositiveWeight
	if positive == 1 {
		return b.Samples
	}
	t.weights = grow(t.weights, b.N)
	for i, y := range b.Labels {
		t.weights[i] = 1
		if len(b.Samples) > 0 {
			t.weights[i] = b.Samples[i]
		}
		if y == 1 {
			t.weights[i] *= positive
		}
	}
	return t.weights
}

func (t *Trainer) push(ctx context.Context, s *slot) error {
	defer t.cfg.Metrics.observe(stagePush, time.Now())
	id := wire.PushID{Run: t.cfg.Run, Phase: phaseTrain, Step: s.step, Lane: uint16(s.lane), Factor: t.cfg.Factor}
	if t.cfg.Job.Async() {
		// Computed again, the lane would have other gradients.
		id.Attempt = 1 + rand.Uint32N(math.MaxUint32)
	}
	g := &client.Gradients{Rows: s.gradients(), Dense: s.ddense}
	if t.cfg.Job.Async() && s.data.N == 0 {
		g.Dense = nil // no update at all
	}
	return t.cfg.Client.Push(ctx, id, g)
}
