package optim

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
)

// settings lists what every optimizer can be told, beside learning rate and
// schedule.
var settings = map[string]string{
	LAMB:       "every_row beta1 beta2 epsilon weight_decay granularity convention coupled sum_gradients trust_floor trust_min trust_max exclude_vectors",
	LARS:       "every_row epsilon weight_decay momentum granularity trust_floor trust_min trust_max trust_coefficient exclude_vectors",
	Adam:       "every_row beta1 beta2 epsilon weight_decay",
	AdamW:      "every_row beta1 beta2 epsilon weight_decay",
	CowClip:    "every_row beta1 beta2 epsilon weight_decay clip_ratio clip_floor",
	SGD:        "every_row weight_decay momentum nesterov",
	AdaGrad:    "every_row epsilon weight_decay accumulator",
	RowAdaGrad: "every_row epsilon weight_decay accumulator",
	FTRL:       "weight_decay accumulator smoothing l1",
	EMA:        "momentum",
}

// scheduled lists the settings of everything that has a learning rate.
const scheduled = "learning_rate warmup_steps schedule decay_steps decay_rate least_rate"

// belowOne is the largest float32 below 1.
const belowOne = 1 - 0x1p-24

// StepsMax bounds the steps of a schedule.
const StepsMax = 1 << 40

// setting is one number of a Config with its bounds.
type setting struct {
	name   string
	value  float64
	lo, hi float64
	open   bool // lo itself is excluded
}

func (c Config) numbers() []setting {
	positive := func(name string, v float32, hi float64) setting { return setting{name, float64(v), 0, hi, true} }
	least := func(name string, v float32, hi float64) setting { return setting{name, float64(v), 0, hi, false} }
	steps := func(name string, v int64) setting { return setting{name, float64(v), 0, StepsMax, false} }
	epsilon := positive("epsilon", c.Epsilon, math.MaxFloat32)
	epsilon.open = c.Name != LARS
	momentum := least("momentum", c.Momentum, 1)
	momentum.open = c.Name == EMA
	return []setting{
		positive("learning_rate", c.LearningRate, math.MaxFloat32),
		positive("beta1", c.Beta1, belowOne), positive("beta2", c.Beta2, belowOne),
		epsilon, least("weight_decay", c.WeightDecay, math.MaxFloat32), momentum,
		least("trust_floor", c.TrustFloor, math.MaxFloat32), least("trust_min", c.TrustMin, math.MaxFloat32),
		least("trust_max", c.TrustMax, math.MaxFloat32), positive("trust_coefficient", c.TrustCoefficient, math.MaxFloat32),
		positive("clip_ratio", c.ClipRatio, math.MaxFloat32), least("clip_floor", c.ClipFloor, math.MaxFloat32),
		least("accumulator", c.Accumulator, math.MaxFloat32), least("smoothing", c.Smoothing, math.MaxFloat32),
		least("l1", c.L1, math.MaxFloat32),
		steps("warmup_steps", c.WarmupSteps), steps("decay_steps", c.DecaySteps),
		least("decay_rate", c.DecayRate, 1), least("least_rate", c.LeastRate, 1),
	}
}

// Validate reports all faults of a configuration whose defaults are filled in.
func (c Config) Validate() error {
	var faults []error
	fault := func(format string, args ...any) {
		faults = append(faults, fmt.Errorf(format, args...))
	}
	known, ok := settings[c.Name]
	if !ok {
		return fmt.Errorf("name: unknown optimizer %q: use one of %s", c.Name, strings.Join(append(Names(), EMA), ", "))
	}
	applies := strings.Fields(known)
	if c.Name != EMA {
		applies = append(applies, strings.Fields(scheduled)...)
	}
	// applied reports whether a setting is one of this optimizer.
	applied := func(name string, given bool) bool {
		if !slices.Contains(applies, name) {
			if given {
				fault("%s: not a setting of %s", name, c.Name)
			}
			return false
		}
		return true
	}
	for _, s := range c.numbers() {
		switch v := s.value; {
		case !applied(s.name, v != 0):
		case s.open && !(v > s.lo && v <= s.hi):
			fault("%s: %v is not above %v and at most %v", s.name, v, s.lo, s.hi)
		case !(v >= s.lo && v <= s.hi):
			fault("%s: %v is not between %v and %v", s.name, v, s.lo, s.hi)
		}
	}
	for _, s := range []struct {
		name, value string
		known       []string
	}{
		{"granularity", c.Granularity, []string{Row, Field, Table}},
		{"convention", c.Convention, []string{TFA, Apex}},
		{"schedule", c.Schedule, []string{Constant, StepDown, Cosine, Linear}},
	} {
		if applied(s.name, s.value != "") && !slices.Contains(s.known, s.value) {
			fault("%s: %q is not accepted: one of %s", s.name, s.value, strings.Join(s.known, ", "))
		}
	}
	applied("every_row", c.EveryRow)
	applied("nesterov", c.Nesterov)
	applied("coupled", c.Coupled)
	applied("sum_gradients", c.SumGradients)
	applied("exclude_vectors", c.ExcludeVectors)
	c.together(fault)
	return errors.Join(faults...)
}

// together reports faults between settings.
func (c Config) together(fault func(format string, args ...any)) {
	if c.TrustMax != 0 && c.TrustMin > c.TrustMax {
		fault("trust_min: %v is above trust_max %v", c.TrustMin, c.TrustMax)
	}
	if c.Nesterov && c.Momentum == 0 {
		fault("nesterov: needs a momentum")
	}
	if c.EveryRow && c.Layerwise() && c.Granularity != Row {
		fault("every_row: needs granularity row: a larger layer has the rows that a step reaches")
	}
	falls := c.Schedule == StepDown || c.Schedule == Cosine || c.Schedule == Linear
	switch {
	case falls && c.DecaySteps == 0:
		fault("decay_steps: is required by schedule %s", c.Schedule)
	case !falls && c.DecaySteps != 0:
		fault("decay_steps: needs a schedule that falls: step, cosine or linear")
	}
	if c.DecayRate != 0 && c.Schedule != StepDown {
		fault("decay_rate: is a setting of schedule step")
	}
	if c.LeastRate != 0 && c.Schedule != Cosine && c.Schedule != Linear {
		fault("least_rate: is a setting of the schedules cosine and linear")
	}
}
