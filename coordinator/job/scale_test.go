package job

import (
	"math"
	"testing"

	"github.com/fathom-train/fathom/compute/optim"
)

func TestScaleRules(t *testing.T) {
	for _, c := range []struct {
		sets        []string
		rows, dense optim.Config // rate, decay, warm-up and decay steps only
	}{
		{nil, optim.Config{LearningRate: 0.01, WeightDecay: 0.1, WarmupSteps: 100, DecaySteps: 1000}, optim.Config{LearningRate: 0.02, WarmupSteps: 10}},
		{[]string{"spec.train.scale_rule=linear"}, optim.Config{LearningRate: 0.64, WeightDecay: 0.1, WarmupSteps: 2, DecaySteps: 16}, optim.Config{LearningRate: 1.28, WarmupSteps: 1}},
		{[]string{"spec.train.scale_rule=lamb"}, optim.Config{LearningRate: 0.08, WeightDecay: 0.1, WarmupSteps: 100, DecaySteps: 16}, optim.Config{LearningRate: 0.16, WarmupSteps: 10}},
		{[]string{"spec.train.scale_rule=cowclip"}, optim.Config{LearningRate: 0.01, WeightDecay: 6.4, WarmupSteps: 2, DecaySteps: 16}, optim.Config{LearningRate: 0.16, WarmupSteps: 1}},
		{[]string{"spec.train.scale_rule=cowclip", "spec.train.base_batch_size=65536"}, optim.Config{LearningRate: 0.01, WeightDecay: 0.1, WarmupSteps: 100, DecaySteps: 1000}, optim.Config{LearningRate: 0.02, WarmupSteps: 10}},
	} {
		j := mustParse(t, "f", small, append([]string{"spec.train.batch_size=65536",
			"spec.train.optimizer={name: cowclip, learning_rate: 0.01, weight_decay: 0.1, warmup_steps: 100, schedule: cosine, decay_steps: 1000}",
			"spec.train.dense_optimizer={name: adam, learning_rate: 0.02, warmup_steps: 10}"}, c.sets...)...)
		rows, dense := j.Spec.Train.Optimizers()
		for _, o := range []struct{ got, want optim.Config }{{rows, c.rows}, {dense, c.dense}} {
			near := func(a, b float32) bool { return math.Abs(float64(a-b)) <= 1e-6*math.Abs(float64(b)) }
			if !near(o.got.LearningRate, o.want.LearningRate) || !near(o.got.WeightDecay, o.want.WeightDecay) ||
				o.got.WarmupSteps != o.want.WarmupSteps || o.got.DecaySteps != o.want.DecaySteps {
				t.Errorf("%v: %+v, want %+v", c.sets, o.got, o.want)
			}
		}
		tables, err := j.Tables()
		if err != nil {
			t.Fatal(err)
		}
		if got := tables[0].Columns[1].Optimizer; got != rows {
			t.Errorf("%v: the rows' optimizer is %+v, want %+v", c.sets, got, rows)
		}
	}
}
