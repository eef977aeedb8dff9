package trainer_test

import (
	"context"
	"testing"

	"github.com/fathom-train/fathom/compute/eval"
)

// validate trains the job to its end and scores the validation split; change is
// done to the job in between.
func validate(t *testing.T, change func(c *cluster), sets ...string) eval.Result {
	t.Helper()
	c := newCluster(t, parse(t, sets...), 1)
	c.trainAll(t, [][]int{{0, 1, 2, 3}}, c.steps())
	change(c)
	split, _ := c.data.Split("valid")
	acc, err := c.trainer(t).Evaluate(context.Background(), "valid", c.steps(), 0, split.Rows())
	if err != nil {
		t.Fatal(err)
	}
	return eval.Merge([]*eval.Accumulator{acc})
}

func TestScoresAreProbabilitiesThoughNegativesWereLeftOut(t *testing.T) {
	thinned := []string{"spec.data.negative_rate=0.1", "spec.model={name: lr}", "spec.train.epochs=10", "spec.train.batch_size=128", "spec.train.optimizer={name: adam, learning_rate: 0.02}"}
	calibrated := validate(t, func(*cluster) {}, thinned...)
	raw := validate(t, func(c *cluster) { c.job.Spec.Data.NegativeRate = 1 }, thinned...)
	if calibrated.LogLoss > raw.LogLoss-0.02 {
		t.Errorf("log loss %.4f, without the correction %.4f", calibrated.LogLoss, raw.LogLoss)
	}
	if d := calibrated.AUC - raw.AUC; d > 1e-4 || d < -1e-4 {
		t.Errorf("AUC %.6f, without the correction %.6f", calibrated.AUC, raw.AUC)
	}
}

func TestHeavyPositivesRaiseTheScores(t *testing.T) {
	plain := validate(t, func(*cluster) {})
	heavy := validate(t, func(*cluster) {}, "spec.train.positive_weight=20")
	if heavy.LogLoss < plain.LogLoss+0.05 {
		t.Errorf("log loss %.4f with positives that weigh 20, %.4f without", heavy.LogLoss, plain.LogLoss)
	}
}

func TestGroupsAreScoredWithinThemselves(t *testing.T) {
	r := validate(t, func(*cluster) {}, "spec.data.group=c1")
	if r.GroupedSamples == 0 || r.GroupedSamples > r.Samples || !(r.GAUC > 0.5 && r.GAUC < 1) {
		t.Errorf("%+v", r)
	}
}
