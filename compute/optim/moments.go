package optim

import (
	"fmt"
	"math"
	"sync"
	"sync/atomic"

	"github.com/fathom-train/fathom/compute/kernel"
)

// moments is Adam (Kingma and Ba, 2015, Alg. 1, with weight decay as an L2 term
// of the gradient), AdamW (Loshchilov and Hutter, 2019) and LAMB (You et al.,
// 2020, Alg. 2, with the bias correction and epsilon of TensorFlow Addons). Slot 0 is the first moment m, slot 1 the
// second moment v; both follow the direction u documented at kernel.Moments:
//
//	adam, adamw: w -= learning_rate * u
//	lamb: w -= learning_rate * r * u,  r = max(|w|, trust_floor) / |u|
//
// r is clipped to [trust_min, trust_max]; it is 1 when either norm is 0, and
// with Apex's convention when nothing decays. The norms are over one layer: that
// is one call, unless the step brings a ratio along.
type moments struct {
	*rates
	// steps are the factors of the last steps, by number. Nearly all calls of a
	// process are for one step, or lead a row through the last ones, and a miss
	// only costs computing them anew.
	steps [stepsKept]atomic.Pointer[stepFactors]
	// directions holds *[]float32 for the layers too long for the stack.
	directions sync.Pool
}

// stepFactors is what an update needs to know of its step. The order of the
// fields up to t is known to the vector code.
type stepFactors struct {
	kernel.Moments
	rate        float32 // learning rate
	floor       float32 // least weight norm
	least, most float32 // bounds of the trust ratio; most is infinite when there is none
	layerwise   uint32  // 1: the rate is times the trust ratio
	at          Step    // the count is left out
}

// stepsKept is of how many steps the factors are kept.
const stepsKept = 512

// shortLayer is the longest layer whose direction is kept on the stack.
const shortLayer = 64

func newMoments(c Config) *moments {
	o := &moments{rates: &rates{c: c}}
	o.directions.New = func() any { return new([]float32) }
	return o
}

// Slots is 2 per weight: the moments m and v.
func (o *moments) Slots(n int) int { return 2 * n }

// Update implements Optimizer.
func (o *moments) Update(w, slots, g []float32, s Step) {
	n := len(w)
	checkLengths(n, 2*n, slots, g)
	if n == 0 {
		return
	}
	f := o.factors(s)
	if n > 1 && n <= shortLayer && kernel.SIMD() {
		updateRow(&w[0], &slots[0], &slots[n], &g[0], n, f)
		return
	}
	if n == 1 { // the linear weight of a row: most layers of some models
		o.applyOne(f, &w[0], &slots[0], &slots[1], &g[0])
		return
	}
	if n <= shortLayer {
		var u [shortLayer]float32
		o.apply(f, w, slots[:n], slots[n:], g, u[:n])
		return
	}
	p := o.directions.Get().(*[]float32)
	if cap(*p) < n {
		*p = make([]float32, n)
	}
	o.apply(f, w, slots[:n], slots[n:], g, (*p)[:n])
	o.directions.Put(p)
}

// apply is Update with room u for the direction.
func (o *moments) apply(f *stepFactors, w, m, v, g, u []float32) {
	f.Direction(u, w, m, v, g)
	rate := f.rate
	if f.layerwise != 0 {
		rate *= o.trust(kernel.SumSquares(w), kernel.SumSquares(u))
	}
	kernel.Axpy(-rate, u, w)
}

// applyOne is apply for one weight: the operations of package kernel without
// its calls. The square of one number is the sum of squares.
func (o *moments) applyOne(f *stepFactors, w, m, v, g *float32) {
	grad := *g + float32(f.Coupled**w)
	first := kernel.Canonical(float32(f.Beta1**m) + float32(f.Rest1*grad))
	second := kernel.Canonical(float32(f.Beta2**v) + float32(f.Rest2*float32(grad*grad)))
	u := kernel.Canonical(float32(first*f.Correct1)/(sqrt(float32(second*f.Correct2))+f.Epsilon) + float32(f.Decay**w))
	rate := f.rate
	if f.layerwise != 0 {
		rate *= o.trust(float32(*w**w), float32(u*u))
	}
	*m, *v = first, second
	*w = kernel.Canonical(*w + float32(-rate*u))
}

// trust returns the trust ratio of a layer from the squares of its norms.
func (o *moments) trust(weight2, direction2 float32) float32 {
	return o.c.trust(sqrt(weight2), sqrt(direction2))
}

// trust returns the trust ratio from the norms of weights and direction.
func (c *Config) trust(weight, direction float32) float32 {
	weight = max(weight, c.TrustFloor)
	if !(weight > 0 && direction > 0) {
		return 1
	}
	return c.bounded(weight / direction)
}

// bounded clips a trust ratio.
func (c *Config) bounded(ratio float32) float32 {
	ratio = max(ratio, c.TrustMin)
	if c.TrustMax > 0 {
		ratio = min(ratio, c.TrustMax)
	}
	return ratio
}

// Ratio implements Layerwise.
func (o *moments) Ratio(weight2, direction2 float64) float32 {
	if !o.adapts() {
		return 1
	}
	return o.c.trust(float32(math.Sqrt(weight2)), float32(math.Sqrt(direction2)))
}

// adapts reports whether the rate is times a trust ratio.
func (o *moments) adapts() bool {
	return o.c.Name == LAMB && (o.c.Convention != Apex || o.c.WeightDecay != 0)
}

// Norms implements Layerwise.
func (o *moments) Norms(w, slots, g []float32, s Step) (weight2, direction2 float32) {
	n := len(w)
	checkLengths(n, 2*n, slots, g)
	f := o.factors(s)
	p := o.directions.Get().(*[]float32)
	if cap(*p) < 3*n {
		*p = make([]float32, 3*n)
	}
	// The moments are those after the step, so they are made in a copy.
	u, m, v := (*p)[:n], (*p)[n:2*n], (*p)[2*n:3*n]
	copy(m, slots[:n])
	copy(v, slots[n:])
	f.Direction(u, w, m, v, g)
	weight2, direction2 = kernel.SumSquares(w), kernel.SumSquares(u)
	o.directions.Put(p)
	return weight2, direction2
}

// factors returns the factors of a step.
func (o *moments) factors(s Step) *stepFactors {
	t := s.T
	s.Count = 0
	kept := &o.steps[t%stepsKept]
	if f := kept.Load(); f != nil && f.at == s {
		return f
	}
	if t == 0 {
		panic("compute/optim: BUG: update at step 0, steps are counted from 1")
	}
	f := &stepFactors{at: s}
	f.Beta1, f.Rest1 = o.c.Beta1, float32(1-float64(o.c.Beta1))
	if o.c.SumGradients {
		f.Rest1 = 1
	}
	f.Beta2, f.Rest2 = o.c.Beta2, float32(1-float64(o.c.Beta2))
	f.Correct1 = float32(1 / (1 - power(float64(o.c.Beta1), t)))
	f.Correct2 = float32(1 / (1 - power(float64(o.c.Beta2), t)))
	f.Epsilon = o.c.Epsilon
	f.rate, f.floor = o.at(s), o.c.TrustFloor
	f.least, f.most = o.c.TrustMin, float32(math.Inf(1))
	if o.c.TrustMax > 0 {
		f.most = o.c.TrustMax
	}
	switch {
	case s.Trust != 0:
		f.rate *= s.Trust
	case o.adapts():
		f.layerwise = 1
	}
	switch {
	case o.c.Name == CowClip: // decays before it clips
	case o.c.Name == AdamW || o.c.Name == LAMB && !o.c.Coupled:
		f.Decay = o.c.WeightDecay
	default:
		f.Coupled = o.c.WeightDecay
	}
	kept.Store(f)
	return f
}

// power returns base^n by repeated squaring: the same products in the same
// order everywhere, which math.Pow does not promise.
func power(base float64, n uint64) float64 {
	result := 1.0
	for ; n > 0; n >>= 1 {
		if n&1 != 0 {
			result = float64(result * base)
		}
		base = float64(base * base)
	}
	return result
}

// sqrt is the correctly rounded float32 square root.
func sqrt(x float32) float32 { return float32(math.Sqrt(float64(x))) }

// checkLengths panics unless slots and g fit a layer of n weights.
func checkLengths(n, want int, slots, g []float32) {
	if len(g) != n || len(slots) != want {
		panic(fmt.Sprintf("compute/optim: BUG: update of %d weights with %d slots and a gradient of %d, want %d slots",
			n, len(slots), len(g), want))
	}
}
