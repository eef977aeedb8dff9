package trainer

import (
	"context"
	"fmt"
	"math"

	"github.com/fathom-train/fathom/compute/layer"
	"github.com/fathom-train/fathom/compute/supernet"
	"github.com/fathom-train/fathom/coordinator/job"
)

// gates are the soft gates of a supernet. They are trained on the validation
// split, all else on the training split: every step computes both gradients on the
// same version (first-order bilevel descent, as in DNIS and AutoDim).
type gates struct {
	supernet.Gates
	tensor  int     // id
	penalty float32 // on the width, in units of the mean gradient
	warmup  uint64  // steps before the gates move
	rate    float32 // scales their gradients, where the job leaves the learning rate open

	plain   []float32 // the masked column before the gates
	factors []float32
	// Gradients that are thrown away: of the network on the validation split, of the
	// gates on the training split.
	ddense  [][]float32
	dValues []float32
}

func newGates(j *job.Job, t *Trainer, dim int) *gates {
	spec := j.Spec.Search.Gates
	g := &gates{Gates: j.Gates(len(t.plan.Fields)), tensor: len(t.sizes), penalty: spec.Penalty,
		warmup: uint64(float64(spec.Warmup) * float64(j.Steps(t.train.Rows())))}
	if g.rate = 1; spec.LearningRate == 0 {
		steps := max(1, float32(j.Steps(t.train.Rows()))-float32(g.warmup))
		g.rate = job.GateReach * float32(dim) / float32(steps*max(spec.Penalty, 0.1))
	}
	t.sizes, t.names = append(t.sizes, g.Size()), append(t.names, job.GateTensor)
	g.factors, g.dValues = make([]float32, g.Fields*dim), make([]float32, g.Size())
	return g
}

// open applies the gates to the model's input.
func (p *super) open(s *slot, input [][]float32) {
	if p == nil || p.gates == nil {
		return
	}
	g := p.gates
	g.Factors(g.factors, s.dense.values[g.tensor])
	g.plain = append(g.plain[:0], input[p.column]...)
	g.Forward(input[p.column], g.plain, g.factors, s.data.N)
}

// openGradient is the backward pass of open; dValues becomes the gates' gradient.
func (p *super) openGradient(s *slot, dInput [][]float32, dValues []float32) {
	g := p.gates
	clear(dValues)
	g.Backward(dInput[p.column], g.plain, s.dense.values[g.tensor], g.factors, s.data.N, dValues)
}

// loadHeld reads the validation samples of a lane: as many as it has of the
// training split, one after the other through the split.
func (t *Trainer) loadHeld(ctx context.Context, s *slot) error {
	if t.super == nil || t.super.gates == nil {
		return nil
	}
	held, ok := t.cfg.Data.Split("valid")
	if !ok {
		return fmt.Errorf("the data have no valid split, which the gates are trained on")
	}
	if s.held == nil {
		s.held = &slot{}
	}
	rows, n := held.Rows(), min(s.hi-s.lo, held.Rows())
	at := (int64(s.step)*int64(t.cfg.Job.Spec.Train.Lanes) + int64(s.lane)) * n % max(1, rows-n+1)
	if err := held.Read(ctx, &s.held.data, at, at+n); err != nil {
		return fmt.Errorf("read rows %d to %d of the valid split: %w", at, at+n, err)
	}
	t.find(s.held)
	return nil
}

// trainGates sets the gradient of the gates. It is called after the gradients of
// all else are done, whose buffers it uses again.
func (t *Trainer) trainGates(s *slot) error {
	if t.super == nil || t.super.gates == nil {
		return nil
	}
	g := t.super.gates
	d := s.ddense[g.tensor]
	if s.step-t.cfg.Start <= g.warmup {
		clear(d)
		return nil
	}
	held := s.held
	held.step, held.lane, held.batch, held.dense = s.step, s.lane, int64(held.data.N), s.dense
	t.fill(held)
	logits := t.forward(held, true)
	t.dLogits = grow(t.dLogits, held.data.N)
	held.lossSum = layer.WeightedBCE(logits, held.data.Labels, t.sampleWeights(&held.data), t.dLogits, 1/float32(held.data.N))
	if math.IsNaN(held.lossSum) || math.IsInf(held.lossSum, 0) {
		return &NumericalError{Step: s.step, Lane: s.lane, What: "the loss on the validation split", Value: held.lossSum, Of: held.data.N}
	}
	for c := range t.dInput {
		t.dInput[c] = grow(t.dInput[c], len(t.input[c]))
	}
	if g.ddense == nil {
		g.ddense = t.newDense()
	}
	t.net.Backward(s.dense.values, t.dLogits, g.ddense, t.dInput)
	t.super.openGradient(held, t.dInput, d)
	g.Balance(d)
	lanes := float32(t.cfg.Job.Spec.Train.Lanes)
	for i := range d {
		d[i] = float32(float32(g.rate*float32(d[i]+g.penalty)) / lanes)
	}
	g.Hold(d, s.dense.values[g.tensor])
	return nil
}
