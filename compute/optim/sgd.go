package optim

import "github.com/fathom-train/fathom/compute/kernel"

// sgd is stochastic gradient descent with an L2 term and, if momentum is not
// zero, a velocity b in slot 0 (the form of Sutskever et al., 2013, as in
// PyTorch without dampening):
//
//	g' = g + weight_decay*w;  b = momentum*b + g';  w -= learning_rate * b
//
// or, with nesterov, w -= learning_rate * (g' + momentum*b).
type sgd struct{ *rates }

// Slots is 1 per weight with momentum (the velocity), else 0.
func (o *sgd) Slots(n int) int {
	if o.c.Momentum == 0 {
		return 0
	}
	return n
}

// Update implements Optimizer.
func (o *sgd) Update(w, slots, g []float32, s Step) {
	rate := o.at(s)
	checkLengths(len(w), o.Slots(len(w)), slots, g)
	if o.c.Momentum == 0 {
		if o.c.WeightDecay != 0 {
			// w - lr*(g + wd*w), without room for the bracket.
			kernel.Scale(1-float32(rate*o.c.WeightDecay), w)
		}
		kernel.Axpy(-rate, g, w)
		return
	}
	kernel.Scale(o.c.Momentum, slots)
	kernel.Add(slots, g)
	if o.c.WeightDecay != 0 {
		kernel.Axpy(o.c.WeightDecay, w, slots)
	}
	if o.c.Nesterov {
		// g' + momentum*b; the decay of g' is of the old weights.
		if o.c.WeightDecay != 0 {
			kernel.Scale(1-float32(rate*o.c.WeightDecay), w)
		}
		kernel.Axpy(-rate, g, w)
		rate = float32(rate * o.c.Momentum)
	}
	kernel.Axpy(-rate, slots, w)
}

// ema is an exponential moving average of what it is given instead of a
// gradient: w = keep*w + take*g. It serves the running statistics of batch
// normalization.
type ema struct{ keep, take float32 }

// Slots is 0.
func (*ema) Slots(int) int { return 0 }

// Update implements Optimizer.
func (o *ema) Update(w, slots, g []float32, _ Step) {
	checkLengths(len(w), 0, slots, g)
	kernel.Scale(o.keep, w)
	kernel.Axpy(o.take, g, w)
}
