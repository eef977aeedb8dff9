package coordinator

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/fathom-train/fathom/coordinator/store"
	"github.com/fathom-train/fathom/proto"
)

// failed runs a job until it fails and returns its last status.
func (c *cluster) failed(t *testing.T, change func(*job.Job)) *proto.JobStatus {
	t.Helper()
	ctl := c.control("c0")
	return await(t, ctl, submit(t, ctl, spec(t, "faulty", change)), inPhase(proto.Phase_PHASE_FAILED))
}

func checkError(t *testing.T, s *proto.JobStatus, input bool, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(s.GetError(), p) {
			t.Errorf("error %q does not say %q", s.GetError(), p)
		}
	}
	if s.GetErrorIsInput() != input {
		t.Errorf("the input is at fault: %t, want %t", s.GetErrorIsInput(), input)
	}
	if s.GetDetail() != s.GetError() || s.GetEndedUnixNano() == 0 {
		t.Errorf("final status %v", s)
	}
}

func TestBadDataFailsTheJobAsTheUsersFault(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		c.coordinator("c0")
		c.servers("c0")
		c.worker("worker-0", simWorker{fail: &proto.Failure{Message: "train.csv:7:3: no number", Input: true}}, "c0")
		checkError(t, c.failed(t, nil), true, "worker-0: train.csv:7:3: no number")
	})
}

func TestWorkersThatSeeDifferentDataFailTheJob(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		c.coordinator("c0")
		c.worker("worker-0", simWorker{digest: "aa"}, "c0")
		c.worker("worker-1", simWorker{digest: "bb"}, "c0")
		ctl := c.control("c0")
		awaitNodes(t, ctl, 3) // both before the servers, so that both are asked
		c.servers("c0")
		checkError(t, c.failed(t, nil), true, "worker-0 has digest aa", "worker-1 has bb")
	})
}

func TestReplicasThatDifferFailTheJob(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		c.coordinator("c0")
		c.server("ps-0", nil, "c0")
		c.server("ps-1", func(g *proto.GroupReport) {
			if g.GetShard() == 1 && g.GetVersion() > 0 {
				g.Hash, g.Served = make([]byte, hashBytes), true
			}
		}, "c0")
		c.server("ps-2", nil, "c0")
		c.worker("worker-0", simWorker{digest: "d"}, "c0")
		checkError(t, c.failed(t, nil), false, "shard 1 differs between its replicas at step", "on ps-1", strings.Repeat("0", 32))
	})
}

func TestServerBeyondTheOrderedStepFailsTheJob(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		c.coordinator("c0")
		c.server("ps-0", func(g *proto.GroupReport) { g.Version += 1000 }, "c0")
		c.server("ps-1", nil, "c0")
		c.server("ps-2", nil, "c0")
		c.worker("worker-0", simWorker{digest: "d"}, "c0")
		checkError(t, c.failed(t, nil), false, "on ps-0 is at step 1000, but only 0 were ordered")
	})
}

func TestDivergedTrainingFailsTheJob(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		c.coordinator("c0")
		c.servers("c0")
		c.worker("worker-0", simWorker{digest: "d", scores: float32(math.NaN())}, "c0")
		checkError(t, c.failed(t, nil), false, "100 of 100 scores of split valid at step 10 are no numbers")
	})
}

func TestLossThatIsNoNumberFailsTheJob(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		c.coordinator("c0")
		c.servers("c0")
		c.worker("worker-0", simWorker{digest: "d", loss: math.Inf(1)}, "c0")
		checkError(t, c.failed(t, nil), false, "worker-0: the loss of lane", "is no number")
	})
}

func TestEmptyTrainingSplitFailsTheJob(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		c.coordinator("c0")
		c.servers("c0")
		c.worker("worker-0", simWorker{digest: "d", empty: true}, "c0")
		checkError(t, c.failed(t, nil), true, "the training split has no rows")
	})
}

func TestJobWithoutValidAndTestEndsAfterTraining(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		c.coordinator("c0")
		c.servers("c0")
		c.worker("worker-0", simWorker{digest: "d", trainOnly: true}, "c0")
		ctl := c.control("c0")
		s := await(t, ctl, submit(t, ctl, spec(t, "bare", nil)), inPhase(proto.Phase_PHASE_DONE))
		if len(s.GetScores()) != 0 || s.GetModelHash() == "" || s.GetStep() != 20 {
			t.Errorf("final %v", s)
		}
	})
}

func TestLostMajorityIsNamedAndWaitedFor(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		c.coordinator("c0")
		nodes := c.servers("c0")
		c.worker("worker-0", simWorker{digest: "d", stepMs: 1000}, "c0")
		ctl := c.control("c0")
		name := submit(t, ctl, spec(t, "majority", nil))
		await(t, ctl, name, func(s *proto.JobStatus) bool { return s.GetStep() > 2 && s.GetDetail() == "epoch 1 of 2" })
		nodes[1].stop()
		nodes[2].stop()
		await(t, ctl, name, func(s *proto.JobStatus) bool {
			return s.GetDetail() == "waits for shard 0: 1 of 3 replicas are in service (ps-1 is gone; ps-2 is gone)"
		})
		c.server("ps-1", nil, "c0")
		await(t, ctl, name, inPhase(proto.Phase_PHASE_DONE)) // without ps-2, after a while
	})
}

// TestLogDamagedBeforeItsGroupIsFormed: nobody has its data, so the groups begin
// anew instead of waiting for ever.
func TestLogDamagedBeforeItsGroupIsFormed(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		c.coordinator("c0")
		var first string // the job's groups at first
		c.server("ps-0", func(g *proto.GroupReport) {
			if first == "" {
				first = g.GetJob()
			}
			if g.GetJob() == first && g.GetShard() == 1 {
				g.Error, g.Lost, g.Configured = "wal/1.wal is damaged: entry 3", true, false
			}
		}, "c0")
		c.server("ps-1", nil, "c0")
		c.server("ps-2", nil, "c0")
		c.worker("worker-0", simWorker{digest: "d"}, "c0")
		ctl := c.control("c0")
		s := await(t, ctl, submit(t, ctl, spec(t, "early", nil)), inPhase(proto.Phase_PHASE_DONE))
		if s.GetStep() != 20 || s.GetError() != "" {
			t.Errorf("status %v", s)
		}
	})
}

func TestReplicaOutOfServiceIsNamed(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		c.coordinator("c0")
		broken := func(g *proto.GroupReport) {
			if g.GetVersion() > 0 {
				g.Error = "log is corrupt at index 9"
			}
		}
		c.server("ps-0", broken, "c0")
		c.server("ps-1", broken, "c0")
		c.server("ps-2", nil, "c0")
		c.worker("worker-0", simWorker{digest: "d", stepMs: 1000}, "c0")
		ctl := c.control("c0")
		name := submit(t, ctl, spec(t, "corrupt", nil))
		await(t, ctl, name, func(s *proto.JobStatus) bool {
			return strings.Contains(s.GetDetail(), "ps-1: log is corrupt at index 9")
		})
	})
}

// brittleStore fails one write, having done it or not.
type brittleStore struct {
	store.Store
	fail chan bool // what the next write does: true stores, then fails
}

type brittleLeadership struct {
	store.Leadership
	fail chan bool
}

var errDisk = errors.New("the disk is on fire")

func (s *brittleStore) Campaign(ctx context.Context, election string, c store.Candidate) (store.Leadership, error) {
	l, err := s.Store.Campaign(ctx, election, c)
	if err != nil {
		return nil, err
	}
	return &brittleLeadership{l, s.fail}, nil
}

func (l *brittleLeadership) Write(ctx context.Context, ops ...store.Op) error {
	select {
	case done := <-l.fail:
		if done {
			if err := l.Leadership.Write(ctx, ops...); err != nil {
				return err
			}
		}
		return errDisk
	default:
		return l.Leadership.Write(ctx, ops...)
	}
}

func TestFailedWriteEndsTheTermAndLosesNothing(t *testing.T) {
	for _, done := range []bool{true, false} {
		inBubble(t, func(t *testing.T, c *cluster) {
			brittle := &brittleStore{Store: c.memory.Open(), fail: make(chan bool, 1)}
			c.coordinatorOn("c0", brittle)
			c.servers("c0")
			c.worker("worker-0", simWorker{digest: "d", stepMs: 100}, "c0")
			ctl := c.control("c0")
			brittle.fail <- done
			name := submit(t, ctl, spec(t, "brittle", nil)) // tried again by the client
			await(t, ctl, name, func(s *proto.JobStatus) bool { return s.GetStep() > 3 })
			brittle.fail <- done
			s := await(t, ctl, name, inPhase(proto.Phase_PHASE_DONE))
			if len(s.GetScores()) != 3 {
				t.Errorf("scores %v", s.GetScores())
			}
			jobs, err := ctl.List(t.Context())
			if err != nil || len(jobs) != 1 {
				t.Errorf("%d jobs, %v; want the one submitted", len(jobs), err)
			}
		})
	}
}

func TestUnreadableRecordKeepsTheCoordinatorFromLeading(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		m := c.memory.Open()
		l, err := m.Campaign(t.Context(), "fathom/leader", store.Candidate{Node: "other"})
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Write(t.Context(), store.Put("fathom/jobs/0000000000000001/plan", []byte("{"))); err != nil {
			t.Fatal(err)
		}
		l.Resign(t.Context())
		s, _ := c.coordinator("c0")
		ctl := c.control("c0")
		begin := time.Now()
		if _, err := ctl.List(t.Context()); err == nil || !strings.Contains(err.Error(), "knows no leader") {
			t.Errorf("list: %v", err)
		}
		if time.Since(begin) < 5*time.Second || s.Leading() {
			t.Errorf("gave up after %s, leading %t", time.Since(begin), s.Leading())
		}
	})
}
