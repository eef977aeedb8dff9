package optim

import (
	"errors"
	"fmt"
	"math"
	"strings"
)

// The names of the optimizers.
const (
	LAMB = "lamb"
	Adam = "adam"
	SGD  = "sgd"
	EMA  = "ema"
)

// Config names an optimizer and its settings. The zero value of a setting
// means its default (WithDefaults).
type Config struct {
	// Name is lamb, adam, sgd or ema.
	Name         string  `json:"name,omitempty"`
	LearningRate float32 `json:"learning_rate,omitempty"`
	// Beta1 and Beta2 are the decay rates of lamb's and adam's two moments.
	Beta1   float32 `json:"beta1,omitempty"`
	Beta2   float32 `json:"beta2,omitempty"`
	Epsilon float32 `json:"epsilon,omitempty"`
	// WeightDecay is decoupled in lamb (inside the update, so inside the trust
	// ratio) and an L2 term of the gradient in adam and sgd.
	WeightDecay float32 `json:"weight_decay,omitempty"`
	// TrustFloor is the least weight norm lamb reckons with; 0: none, and a
	// layer of zeros has the ratio 1.
	TrustFloor float32 `json:"trust_floor,omitempty"`
	// TrustMin and TrustMax clip lamb's trust ratio; a TrustMax of 0 is none.
	TrustMin float32 `json:"trust_min,omitempty"`
	TrustMax float32 `json:"trust_max,omitempty"`
	// Momentum is sgd's momentum, or the share of the new value in ema.
	Momentum float32 `json:"momentum,omitempty"`
}

// WithDefaults returns the configuration with every setting that is zero at
// its default: lamb with learning rate 0.001, betas 0.9 and 0.999 and epsilon
// 1e-6 (adam: 1e-8), sgd with learning rate 0.01, ema with momentum 0.1.
func (c Config) WithDefaults() Config {
	or := func(p *float32, def float32) {
		if *p == 0 {
			*p = def
		}
	}
	if c.Name == "" {
		c.Name = LAMB
	}
	switch c.Name {
	case LAMB, Adam:
		or(&c.LearningRate, 1e-3)
		or(&c.Beta1, 0.9)
		or(&c.Beta2, 0.999)
		if c.Name == LAMB {
			or(&c.Epsilon, 1e-6)
		} else {
			or(&c.Epsilon, 1e-8)
		}
	case SGD:
		or(&c.LearningRate, 1e-2)
	case EMA:
		or(&c.Momentum, 0.1)
	}
	return c
}

// Validate reports all faults of a configuration whose defaults are filled in.
func (c Config) Validate() error {
	var faults []error
	fault := func(format string, args ...any) {
		faults = append(faults, fmt.Errorf(format, args...))
	}
	applies := c.settings()
	if applies == "" {
		return fmt.Errorf("name: unknown optimizer %q: use lamb, adam, sgd or ema", c.Name)
	}
	for _, f := range []struct {
		name  string
		value float32
		lo    float32 // exclusive when open
		open  bool
		hi    float32
	}{
		{"learning_rate", c.LearningRate, 0, true, math.MaxFloat32},
		{"beta1", c.Beta1, 0, true, belowOne},
		{"beta2", c.Beta2, 0, true, belowOne},
		{"epsilon", c.Epsilon, 0, true, math.MaxFloat32},
		{"weight_decay", c.WeightDecay, 0, false, math.MaxFloat32},
		{"trust_floor", c.TrustFloor, 0, false, math.MaxFloat32},
		{"trust_min", c.TrustMin, 0, false, math.MaxFloat32},
		{"trust_max", c.TrustMax, 0, false, math.MaxFloat32},
		{"momentum", c.Momentum, 0, c.Name == EMA, 1},
	} {
		switch v := f.value; {
		case !strings.Contains(applies, " "+f.name+" "):
			if v != 0 {
				fault("%s: not a setting of %s", f.name, c.Name)
			}
		case f.open && !(v > f.lo && v <= f.hi):
			fault("%s: %v is not above %v and at most %v", f.name, v, f.lo, f.hi)
		case !(v >= f.lo && v <= f.hi):
			fault("%s: %v is not between %v and %v", f.name, v, f.lo, f.hi)
		}
	}
	if c.TrustMax != 0 && c.TrustMin > c.TrustMax {
		fault("trust_min: %v is above trust_max %v", c.TrustMin, c.TrustMax)
	}
	return errors.Join(faults...)
}

// belowOne is the largest float32 below 1.
const belowOne = 1 - 0x1p-24

// settings lists the settings of the named optimizer, each between spaces; ""
// for an unknown name.
func (c Config) settings() string {
	switch c.Name {
	case LAMB:
		return " learning_rate beta1 beta2 epsilon weight_decay trust_floor trust_min trust_max "
	case Adam:
		return " learning_rate beta1 beta2 epsilon weight_decay "
	case SGD:
		return " learning_rate weight_decay momentum "
	case EMA:
		return " momentum "
	}
	return ""
}
