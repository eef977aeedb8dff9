package job

import (
	"math"

	"github.com/fathom-train/fathom/compute/optim"
)

// The scale rules: how settings found with a small batch are turned into those
// of a large one.
const (
	ScaleNone    = "none"
	ScaleLinear  = "linear"
	ScaleLAMB    = "lamb"
	ScaleCowClip = "cowclip"
)

// ScaleRules lists them.
func ScaleRules() []string { return []string{ScaleNone, ScaleLinear, ScaleLAMB, ScaleCowClip} }

// Optimizers returns the optimizers of the rows and of the network as training
// uses them: those of the job, turned by its scale rule from the base batch to
// the batch it has. With k the ratio of the two:
//
//	linear:  rates * k
//	lamb:    rates * sqrt(k); a warm-up keeps its steps, so that it takes k times
//	         the samples (You et al., 2020)
//	cowclip: the rows' rate stays and their weight decay is times k, the network's
//	         rate times sqrt(k) (Zheng et al., 2022)
//
// With all of them schedules keep their samples, so that they have 1/k of the
// steps.
func (t Train) Optimizers() (rows, dense optim.Config) {
	rows = t.Optimizer
	dense = rows.Dense()
	if t.DenseOptimizer != nil {
		dense = *t.DenseOptimizer
	}
	if t.ScaleRule == "" || t.ScaleRule == ScaleNone || t.BaseBatchSize < 1 {
		return rows, dense
	}
	k := float64(t.BatchSize) / float64(t.BaseBatchSize)
	rowRate, denseRate := math.Sqrt(k), math.Sqrt(k)
	switch t.ScaleRule {
	case ScaleLinear:
		rowRate, denseRate = k, k
	case ScaleCowClip:
		rowRate = 1
		rows.WeightDecay = float32(float64(rows.WeightDecay) * k)
	}
	for _, o := range []struct {
		c    *optim.Config
		rate float64
	}{{&rows, rowRate}, {&dense, denseRate}} {
		o.c.LearningRate = float32(float64(o.c.LearningRate) * o.rate)
		fewer := func(steps int64) int64 { return int64(math.Ceil(float64(steps) / k)) }
		o.c.DecaySteps = fewer(o.c.DecaySteps)
		if t.ScaleRule != ScaleLAMB {
			o.c.WarmupSteps = fewer(o.c.WarmupSteps)
		}
	}
	return rows, dense
}
