package optim

import "github.com/fathom-train/fathom/compute/kernel"

// ftrl is FTRL-Proximal (McMahan et al., 2013, Alg. 1) with rate a, smoothing b
// and penalties l1 and weight_decay. Slot 0 is z, slot 1 the sum of squares n,
// counted from the accumulator:
//
//	z += g - (sqrt(n+g*g) - sqrt(n))/a * w;  n += g*g
//	w = 0 where |z| <= l1, else -(z - sign(z)*l1) / ((b + sqrt(n))/a + weight_decay)
type ftrl struct{ *rates }

// Slots is 2 per weight: z and n.
func (o *ftrl) Slots(n int) int { return 2 * n }

// Update implements Optimizer.
func (o *ftrl) Update(w, slots, g []float32, s Step) {
	checkLengths(len(w), 2*len(w), slots, g)
	rate := o.at(s)
	if !(rate > 0) {
		return // the end of a schedule that falls to nothing
	}
	z, n := slots[:len(w)], slots[len(w):]
	for i, x := range g {
		before := sqrt(o.c.Accumulator + n[i])
		n[i] = kernel.Canonical(n[i] + float32(x*x))
		after := sqrt(o.c.Accumulator + n[i])
		z[i] = kernel.Canonical(z[i] + x - float32((after-before)/rate*w[i]))
		penalty := o.c.L1
		if z[i] < 0 {
			penalty = -penalty
		}
		w[i] = 0
		if !(z[i] <= o.c.L1 && z[i] >= -o.c.L1) {
			w[i] = kernel.Canonical((penalty - z[i]) / ((o.c.Smoothing+after)/rate + o.c.WeightDecay))
		}
	}
}
