package optim

import (
	"math"
	"sync/atomic"
)

// rates gives the learning rate of a step. It is safe for concurrent use.
type rates struct {
	c Config
	// last is the answer to the last question: nearly all calls of a process are
	// for the same step, and a miss only costs computing it anew.
	last atomic.Pointer[rateOf]
}

type rateOf struct {
	t           uint64
	scale, rate float32
}

// at returns the learning rate of a step.
func (r *rates) at(s Step) float32 {
	if l := r.last.Load(); l != nil && l.t == s.T && l.scale == s.Rate {
		return l.rate
	}
	rate := float32(float32(r.c.LearningRate*s.Rate) * r.c.factor(s.T))
	r.last.Store(&rateOf{s.T, s.Rate, rate})
	return rate
}

// factor is what the schedule multiplies the learning rate of step t with.
func (c Config) factor(t uint64) float32 {
	if w := uint64(c.WarmupSteps); t <= w {
		return float32(float64(t) / float64(w))
	}
	behind := float64(t - uint64(c.WarmupSteps))
	steps, least := float64(c.DecaySteps), float64(c.LeastRate)
	switch c.Schedule {
	case StepDown:
		return float32(power(float64(c.DecayRate), uint64(behind/steps)))
	case Cosine:
		return float32(least + float64((1-least)*(0.5+float64(0.5*cosine(min(1, behind/steps))))))
	case Linear:
		return float32(1 - float64((1-least)*min(1, behind/steps)))
	}
	return 1
}

// cosine returns cos(pi*x) for x in [0, 1]: the first terms of the series of
// sin(pi*(1/2-x)). math.Cos may round differently from processor to processor.
func cosine(x float64) float64 {
	y := float64(math.Pi * (0.5 - x))
	square := float64(y * y)
	term, sum := y, y
	for n := 2.0; n < 22; n += 2 {
		term = float64(-term*square) / (n * (n + 1))
		sum += term
	}
	return sum
}
