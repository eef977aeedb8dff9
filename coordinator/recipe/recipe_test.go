package recipe

import (
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/fathom-train/fathom/proto"
)

// scores makes one validation per epoch of the given AUCs.
func scores(aucs ...float64) []*proto.Score {
	var all []*proto.Score
	for i, auc := range aucs {
		all = append(all, &proto.Score{Split: "valid", Epoch: uint64(i + 1), Auc: auc, LogLoss: 1 - auc})
	}
	return all
}

func fuxi() *job.Train {
	return &job.Train{Monitor: job.Monitor{Metric: job.MetricAUC, MinDelta: 1e-6},
		Plateau: &job.Plateau{Factor: 0.1, Patience: 1, Least: 0.001}, EarlyStopping: &job.EarlyStopping{Patience: 2}}
}

func TestRatesFallAndTrainingEndsAsInFuxiCTR(t *testing.T) {
	type state struct {
		Factor  float32
		Stopped bool
		Best    uint64
	}
	// The curve of DeepFM on Frappe: one fall, more progress, then the end.
	aucs := []float64{.937, .962, .981, .9808, .9839, .9851, .98509, .985}
	want := []state{{1, false, 1}, {1, false, 2}, {1, false, 3}, {0.1, false, 3}, {0.1, false, 5}, {0.1, false, 6},
		{float32(0.1) * float32(0.1), false, 6}, {0.001, true, 6}}
	for i, w := range want {
		v := Judge(fuxi(), scores(aucs[:i+1]...))
		if diff := cmp.Diff(w, state{v.Factor, v.Stop != "", v.Best.GetEpoch()}); diff != "" {
			t.Errorf("after epoch %d (-want +got):\n%s", i+1, diff)
		}
	}
}

func TestFactorHasALeastValue(t *testing.T) {
	v := Judge(fuxi(), scores(.5, .5, .5, .5, .5, .5, .5))
	if v.Factor != 0.001 || v.Best.GetEpoch() != 1 {
		t.Errorf("got %+v", v)
	}
}

func TestImprovementsBelowMinDeltaDoNotCount(t *testing.T) {
	train := fuxi()
	train.Monitor.MinDelta = 0.01
	if v := Judge(train, scores(.5, .505, .509)); v.Stop == "" || v.Best.GetEpoch() != 1 {
		t.Errorf("steps below min_delta: %+v", v)
	}
	if v := Judge(train, scores(.5, .505, .511)); v.Stop != "" || v.Best.GetEpoch() != 3 {
		t.Errorf("their sum is above it: %+v", v)
	}
}

func TestFirstEpochsMayStandStill(t *testing.T) {
	train := fuxi()
	train.Monitor.MinEpochs = 3
	if v := Judge(train, scores(.5, .5, .5)); v.Stop != "" || v.Factor != 1 {
		t.Errorf("before min_epochs: %+v", v)
	}
	if v := Judge(train, scores(.5, .5, .5, .5, .5)); v.Stop == "" {
		t.Errorf("behind min_epochs: %+v", v)
	}
}

func TestMonitors(t *testing.T) {
	all := scores(.6, .7)
	all[1].LogLoss = 0.6 // worse than the 0.4 of the first
	for metric, best := range map[string]uint64{job.MetricAUC: 2, job.MetricLogLoss: 1, job.MetricAUCLogLoss: 1} {
		train := fuxi()
		train.Monitor.Metric = metric
		if v := Judge(train, all); v.Best.GetEpoch() != best {
			t.Errorf("%s: epoch %d is the best, want %d", metric, v.Best.GetEpoch(), best)
		}
	}
}

func TestOnlyValidationsCount(t *testing.T) {
	all := append(scores(.6), &proto.Score{Split: "test", Epoch: 2, Auc: .9})
	if v := Judge(fuxi(), all); v.Best.GetAuc() != .6 {
		t.Errorf("best %v", v.Best)
	}
	if v := Judge(fuxi(), nil); v.Best != nil || v.Factor != 1 || v.Stop != "" {
		t.Errorf("no scores: %+v", v)
	}
}

func TestVerdictsFollowFromOneAnother(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		aucs := rapid.SliceOfN(rapid.Float64Range(0, 1), 1, 30).Draw(t, "aucs")
		train := fuxi()
		train.Plateau.Patience = rapid.IntRange(1, 4).Draw(t, "patience")
		factor, best := float32(1), math.Inf(-1)
		for i, auc := range aucs {
			v := Judge(train, scores(aucs[:i+1]...))
			best = max(best, auc)
			if v.Factor > factor || v.Factor <= 0 {
				t.Fatalf("factor %v behind %v", v.Factor, factor)
			}
			if v.Best.GetAuc() < best-train.Monitor.MinDelta {
				t.Fatalf("best %v, there was %v", v.Best.GetAuc(), best)
			}
			factor = v.Factor
		}
	})
}
