// Package optim owns the optimizers: how a gradient changes weights and the
// optimizer's own state, which lives beside the weights in slots. An Optimizer
// has no state of its own beyond constants, so a table of rows, a snapshot and
// a replica hold everything there is to know about training.
//
// All arithmetic is float32 in a fixed sequence of correctly rounded
// operations: equal inputs give equal bits on every processor (package kernel).
//
//	o, err := optim.New(optim.Config{Name: optim.LAMB})
//	slots := make([]float32, o.Slots()*len(w))
//	o.Update(w, slots, g, 1)
package optim

// Optimizer updates weights from gradients. It is safe for concurrent use, as
// long as the slices of concurrent calls do not overlap.
type Optimizer interface {
	// Slots is how many floats of state each weight has. They start at zero.
	Slots() int
	// Update changes w and slots by the gradient g at global step t, counted
	// from 1. The slices are one layer: a row's column, or a whole dense
	// tensor. len(g) is len(w), and slot s of weight i is slots[s*len(w)+i].
	// g is not changed, and must not overlap w or slots.
	Update(w, slots, g []float32, t uint64)
}

// New returns the optimizer c describes, its defaults filled in.
func New(c Config) (Optimizer, error) {
	c = c.WithDefaults()
	if err := c.Validate(); err != nil {
		return nil, err
	}
	switch c.Name {
	case LAMB, Adam:
		return newMoments(c), nil
	case SGD:
		return &sgd{c}, nil
	}
	return &ema{keep: 1 - c.Momentum, take: c.Momentum}, nil
}
