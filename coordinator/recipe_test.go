package coordinator

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/fathom-train/fathom/proto"
)

func TestRatesFallAndTrainingStopsWhenValidationsStandStill(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		c.coordinator("c0")
		ctl := c.control("c0")
		c.servers("c0")
		w := c.worker("worker-0", simWorker{digest: "d"}, "c0")
		name := submit(t, ctl, spec(t, "plateau", func(j *job.Job) {
			j.Spec.Train.Epochs = 9
			j.Spec.Train.Monitor.PerEpoch = 2
			j.Spec.Train.Plateau = &job.Plateau{}
			j.Spec.Train.EarlyStopping = &job.EarlyStopping{Patience: 3}
		}))
		s := await(t, ctl, name, inPhase(proto.Phase_PHASE_DONE))
		type score struct {
			Epoch, Version uint64
			Factor         float32
			Best           bool
		}
		var got []score
		for _, v := range s.GetScores() {
			got = append(got, score{v.GetEpoch(), v.GetVersion(), v.GetLearningRateFactor(), v.GetBest()})
		}
		factors := []float32{1, 1, float32(0.1), float32(0.1) * float32(0.1)}
		want := []score{{1, 5, factors[0], true}, {1, 10, factors[1], false}, {2, 15, factors[2], false}, {2, 20, factors[3], false}, {2, 20, 0.001, false}}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("scores (-want +got):\n%s", diff)
		}
		if s.GetStopped() == "" || s.GetStep() != 20 || s.GetSteps() != 90 {
			t.Errorf("stopped %q at step %d of %d", s.GetStopped(), s.GetStep(), s.GetSteps())
		}
		ordered := map[uint64]float32{}
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, o := range w.orders {
			if o.GetWorker().GetTask() == proto.Task_TASK_TRAIN {
				ordered[o.GetWorker().GetLastStep()] = o.GetWorker().GetLearningRateFactor()
			}
		}
		if diff := cmp.Diff(map[uint64]float32{5: factors[0], 10: factors[1], 15: factors[2], 20: factors[3]}, ordered); diff != "" {
			t.Errorf("factors in the orders (-want +got):\n%s", diff)
		}
	})
}
