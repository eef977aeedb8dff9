package optim

import "github.com/fathom-train/fathom/compute/kernel"

// adaGrad is AdaGrad (Duchi et al., 2011) as in PyTorch. Slot 0 is the sum of
// squares s, counted from the accumulator a:
//
//	g' = g + weight_decay*w;  s += g'*g';  w -= learning_rate * g' / (sqrt(a+s) + epsilon)
type adaGrad struct{ *rates }

// Slots is 1 per weight: the sum of squares.
func (o *adaGrad) Slots(n int) int { return n }

// Update implements Optimizer.
func (o *adaGrad) Update(w, slots, g []float32, s Step) {
	checkLengths(len(w), len(w), slots, g)
	rate := o.at(s)
	for i, x := range g {
		x += float32(o.c.WeightDecay * w[i])
		slots[i] = kernel.Canonical(slots[i] + float32(x*x))
		root := sqrt(o.c.Accumulator + slots[i])
		w[i] = kernel.Canonical(w[i] - float32(rate*x)/(root+o.c.Epsilon))
	}
}

// rowAdaGrad is AdaGrad with one sum for all weights of a row, of the mean of
// their squares (as in DLRM and FBGEMM):
//
//	g' = g + weight_decay*w;  s += mean(g'*g');  w -= learning_rate * g' / (sqrt(a+s) + epsilon)
type rowAdaGrad struct{ *rates }

// Slots is 1, however many weights there are.
func (o *rowAdaGrad) Slots(n int) int { return min(n, 1) }

// Update implements Optimizer.
func (o *rowAdaGrad) Update(w, slots, g []float32, s Step) {
	checkLengths(len(w), o.Slots(len(w)), slots, g)
	if len(w) == 0 {
		return
	}
	squares := float32(0)
	for i, x := range g {
		x += float32(o.c.WeightDecay * w[i])
		squares += float32(x * x)
	}
	slots[0] = kernel.Canonical(slots[0] + squares/float32(len(w)))
	rate := o.at(s) / (sqrt(o.c.Accumulator+slots[0]) + o.c.Epsilon)
	for i, x := range g {
		x += float32(o.c.WeightDecay * w[i])
		w[i] = kernel.Canonical(w[i] - float32(rate*x))
	}
}
