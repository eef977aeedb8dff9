package optim

import (
	"sync"

	"github.com/fathom-train/fathom/compute/kernel"
)

// cowClip is Adam behind CowClip (Zheng et al., 2022), which bounds the gradient
// of a row by how often its key occurred and by the size of its weights, so that
// one rate serves batches of any size. With g' = g + weight_decay*w, r the clip
// ratio and z the clip floor, in a row of n weights:
//
//	bound = r * count * max(|w|, r*sqrt(n)*z);  g' *= bound / max(|g'|, bound)
type cowClip struct {
	*moments
	room sync.Pool // *[]float32
}

func newCowClip(c Config) *cowClip {
	o := &cowClip{moments: newMoments(c)}
	o.room.New = func() any { return new([]float32) }
	return o
}

// Update implements Optimizer.
func (o *cowClip) Update(w, slots, g []float32, s Step) {
	n := len(w)
	checkLengths(n, 2*n, slots, g)
	p := o.room.Get().(*[]float32)
	if cap(*p) < n {
		*p = make([]float32, n)
	}
	clipped := (*p)[:n]
	copy(clipped, g)
	if o.c.WeightDecay != 0 {
		kernel.Axpy(o.c.WeightDecay, w, clipped)
	}
	floor := float32(float32(o.c.ClipRatio*o.c.ClipFloor) * sqrt(float32(n)))
	bound := float32(float32(o.c.ClipRatio*float32(max(1, s.Count))) * max(sqrt(kernel.SumSquares(w)), floor))
	if norm := sqrt(kernel.SumSquares(clipped)); norm > bound {
		kernel.Scale(bound/norm, clipped)
	}
	o.moments.Update(w, slots, clipped, s)
	o.room.Put(p)
}
