package coordinator

import (
	"testing"
	"time"

	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/fathom-train/fathom/proto"
)

func demandOf(t *testing.T, s *Service) Demand {
	t.Helper()
	d, leads := s.Demand()
	if !leads {
		t.Fatal("the coordinator does not lead")
	}
	return d
}

// What is wanted of the workers follows the jobs, and tells which of them are
// silent or hold the others up, and which do not.
func TestDemandSaysHowTheWorkersAre(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		first, stop := c.coordinator("c0")
		ctl := c.control("c0", "c1")
		c.servers("c0", "c1")
		c.worker("worker-0", simWorker{digest: "d", stepMs: 2000}, "c0", "c1")
		c.worker("worker-1", simWorker{digest: "d", stopAt: 20}, "c0", "c1")
		mute := c.worker("worker-2", simWorker{digest: "d"}, "c0", "c1")
		awaitNodes(t, ctl, 7)
		if d := demandOf(t, first); d.Active || d.Run != "" || len(d.Seen) != 3 {
			t.Errorf("without a job: %+v", d)
		}
		second, _ := c.coordinator("c1")
		if _, leads := second.Demand(); leads {
			t.Error("two lead")
		}
		name := submit(t, ctl, spec(t, "wanted", func(j *job.Job) { j.Spec.Train.Epochs = 20 }))
		await(t, ctl, name, func(s *proto.JobStatus) bool { return s.GetStep() >= 10 })
		release := mute.hang()
		await(t, ctl, name, func(s *proto.JobStatus) bool { return s.GetStep() >= 65 && s.GetPhase() == proto.Phase_PHASE_TRAINING })
		d := demandOf(t, first)
		if !d.Active || d.Job != name || d.Workers != 2 || d.Run == "" || d.Since.IsZero() {
			t.Errorf("in training: %+v", d)
		}
		well, stalled, silent := d.Seen["worker-0"], d.Seen["worker-1"], d.Seen["worker-2"]
		if well.Silent != 0 || well.Stalled > 10*time.Second || stalled.Silent != 0 || stalled.Stalled < time.Minute || silent.Silent < time.Minute {
			t.Errorf("well: %+v, stalled: %+v, silent: %+v", well, stalled, silent)
		}
		stop()
		release()
		await(t, ctl, name, inPhase(proto.Phase_PHASE_DONE))
		if again := demandOf(t, second); again.Active || again.Run != d.Run || again.Ended.IsZero() || !again.Since.After(d.Since) {
			t.Errorf("after the end and with another leader: %+v", again)
		}
	})
}
