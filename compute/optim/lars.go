package optim

import (
	"math"

	"github.com/fathom-train/fathom/compute/kernel"
)

// lars is LARS (You et al., 2017, Alg. 1) with the ratio held where LAMB holds
// it. Slot 0 is the velocity b:
//
//	u = g + weight_decay*w
//	r = trust_coefficient * max(|w|, trust_floor) / (|g| + weight_decay*|w| + epsilon)
//	b = momentum*b + learning_rate * r * u;  w -= b
type lars struct{ *rates }

// Slots is 1 per weight: the velocity.
func (o *lars) Slots(n int) int { return n }

// Update implements Optimizer.
func (o *lars) Update(w, slots, g []float32, s Step) {
	checkLengths(len(w), len(w), slots, g)
	ratio := s.Trust
	if ratio == 0 {
		ratio = o.ratio(sqrt(kernel.SumSquares(w)), sqrt(kernel.SumSquares(g)))
	}
	rate := float32(o.at(s) * ratio)
	kernel.Scale(o.c.Momentum, slots)
	kernel.Axpy(rate, g, slots)
	if o.c.WeightDecay != 0 {
		kernel.Axpy(float32(rate*o.c.WeightDecay), w, slots)
	}
	kernel.Axpy(-1, slots, w)
}

// ratio returns the trust ratio from the norms of weights and gradient.
func (o *lars) ratio(weight, gradient float32) float32 {
	divisor := gradient + float32(o.c.WeightDecay*weight) + o.c.Epsilon
	weight = max(weight, o.c.TrustFloor)
	if !(weight > 0 && gradient > 0) {
		return 1
	}
	return o.c.bounded(float32(o.c.TrustCoefficient*weight) / divisor)
}

// Norms implements Layerwise.
func (o *lars) Norms(w, _, g []float32, _ Step) (weight2, direction2 float32) {
	return kernel.SumSquares(w), kernel.SumSquares(g)
}

// Ratio implements Layerwise.
func (o *lars) Ratio(weight2, direction2 float64) float32 {
	return o.ratio(float32(math.Sqrt(weight2)), float32(math.Sqrt(direction2)))
}
