package trainer

import (
	"context"

	"github.com/fathom-train/fathom/compute/kernel"
	"github.com/fathom-train/fathom/compute/layer"
	"github.com/fathom-train/fathom/compute/model"
	"github.com/fathom-train/fathom/compute/supernet"
)

// everyWidth trains all widths in every step (Matryoshka): the loss is the mean
// over the widths, and the full width may teach the others (Starbucks).
type everyWidth struct {
	distillation float32

	input   []float32 // the masked column at full width
	uniform []int     // the width of every field
	teacher []float32 // probabilities at full width
	ddense  [][]float32
	dInput  [][]float32
}

// everyWidth leaves the gradients of the mean loss over the widths, as compute does
// of the loss, and the summed sample losses at full width.
func (t *Trainer) everyWidth(ctx context.Context, s *slot) error {
	p, e := t.super, t.super.every
	widths := p.sampler.Choices[0]
	widths = widths[len(widths)-p.sampler.Open(s.step, len(widths)):]
	share := 1 / float32(len(widths))
	e.prepare(t, s)
	for i := len(widths) - 1; i >= 0; i-- {
		for f := range e.uniform {
			e.uniform[f] = widths[i]
		}
		copy(t.input[p.column], e.input)
		supernet.MaskFields(t.input[p.column], s.data.N, p.dim, e.uniform)
		logits := t.forward(s, true)
		loss := layer.WeightedBCE(logits, s.data.Labels, t.sampleWeights(&s.data), t.dLogits, share/float32(s.batch))
		if i == len(widths)-1 {
			s.lossSum = loss
			if err := t.guardLoss(ctx, s, logits); err != nil {
				return err
			}
			model.Probabilities(e.teacher, logits)
		} else if e.distillation > 0 {
			supernet.Distill(t.dLogits, logits, e.teacher, e.distillation*share/float32(s.batch))
		}
		t.net.Backward(s.dense.values, t.dLogits, e.ddense, e.dInput)
		supernet.MaskFields(e.dInput[p.column], s.data.N, p.dim, e.uniform)
		for c := range e.dInput {
			kernel.Add(t.dInput[c], e.dInput[c])
		}
		for k, param := range t.net.Params() {
			if param.Kind == model.Running { // a statistic, which the loss's share does not scale
				kernel.Scale(share, e.ddense[k])
			}
			kernel.Add(s.ddense[k], e.ddense[k])
		}
	}
	return nil
}

// prepare sizes the buffers and clears what is summed.
func (e *everyWidth) prepare(t *Trainer, s *slot) {
	e.input = append(e.input[:0], t.input[t.super.column]...)
	e.uniform, e.teacher = grow(e.uniform, s.data.Fields), grow(e.teacher, s.data.N)
	if e.ddense == nil {
		e.ddense, e.dInput = t.newDense(), make([][]float32, len(t.columns))
	}
	for c := range t.input {
		e.dInput[c] = grow(e.dInput[c], len(t.input[c]))
		clear(t.dInput[c])
	}
	for k := range t.net.Params() {
		clear(s.ddense[k])
	}
}
