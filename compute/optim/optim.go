// Package optim owns the optimizers: how a gradient changes weights and the
// optimizer's own state, which lives beside the weights in slots. An Optimizer
// has no state of its own beyond constants, so a table of rows, a snapshot and
// a replica hold everything there is to know about training.
//
// All arithmetic is float32 in a fixed sequence of correctly rounded
// operations: equal inputs give equal bits on every processor (package kernel).
//
//	o, err := optim.New(optim.Config{Name: optim.LAMB})
//	slots := make([]float32, o.Slots(len(w)))
//	o.Update(w, slots, g, optim.At(1))
package optim

// Optimizer updates weights from gradients. It is safe for concurrent use, as
// long as the slices of concurrent calls do not overlap.
type Optimizer interface {
	// Slots is how many floats of state a layer of n weights has. They start at
	// zero.
	Slots(n int) int
	// Update changes w and slots by the gradient g. The slices are one layer: a
	// row's column, or a whole dense tensor. len(g) is len(w), and slot s of
	// weight i is slots[s*len(w)+i] (row_adagrad has one for all weights). g is not changed, and must not overlap w or
	// slots.
	Update(w, slots, g []float32, s Step)
}

// Step is what an update depends on beside weights, slots and gradient.
type Step struct {
	// T is the global step, counted from 1.
	T uint64
	// Rate is a factor of the learning rate that something outside decided, like
	// the coordinator when a score stopped rising; 1 leaves the rate alone.
	Rate float32
	// Count is how many samples' values the gradient comes from: the occurrences
	// of a row's key in the global batch. Only cowclip looks at it.
	Count uint32
	// Trust is the trust ratio where a layer is more than what one call updates;
	// 0: the call's own.
	Trust float32
}

// At returns step t with nothing unusual: rate 1 and one occurrence.
func At(t uint64) Step { return Step{T: t, Rate: 1, Count: 1} }

// Layerwise is an optimizer whose update depends on two norms of the whole
// layer. Where a layer is more than one call updates, like a table of rows, the
// squares of all its parts' norms are summed first; Step.Trust tells the updates
// the ratio.
type Layerwise interface {
	Optimizer
	// Norms returns the squares of the norms of the weights and of what the update
	// with gradient g moves them along. Nothing is changed.
	Norms(w, slots, g []float32, s Step) (weight2, direction2 float32)
	// Ratio returns the trust ratio of a layer from the squares of its norms.
	Ratio(weight2, direction2 float64) float32
}

// New returns the optimizer c describes, its defaults filled in.
func New(c Config) (Optimizer, error) {
	c = c.WithDefaults()
	if err := c.Validate(); err != nil {
		return nil, err
	}
	r := &rates{c: c}
	switch c.Name {
	case LAMB, Adam, AdamW:
		return newMoments(c), nil
	case CowClip:
		return newCowClip(c), nil
	case LARS:
		return &lars{r}, nil
	case SGD:
		return &sgd{r}, nil
	case AdaGrad:
		return &adaGrad{r}, nil
	case RowAdaGrad:
		return &rowAdaGrad{r}, nil
	case FTRL:
		return &ftrl{r}, nil
	}
	return &ema{keep: 1 - c.Momentum, take: c.Momentum}, nil
}
