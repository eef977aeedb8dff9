package coordinator

import (
	"context"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/fathom-train/fathom/proto"
	"github.com/fathom-train/fathom/ps/checkpoint"
)

// into is a job that keeps checkpoints in a directory.
func into(dir string, more func(*job.Job)) func(*job.Job) {
	return func(j *job.Job) {
		j.Spec.Checkpoint.Dir = dir
		if more != nil {
			more(j)
		}
	}
}

// manifests reads what is in a directory of checkpoints.
func manifests(t *testing.T, dir string) []*checkpoint.Manifest {
	t.Helper()
	b, err := checkpoint.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	all, err := checkpoint.List(t.Context(), b)
	if err != nil {
		t.Fatal(err)
	}
	var found []*checkpoint.Manifest
	for _, e := range all {
		if e.Err != nil {
			t.Fatal(e.Err)
		}
		found = append(found, e.Manifest)
	}
	return found
}

func steps(all []*checkpoint.Manifest) (found []uint64) {
	for _, m := range all {
		found = append(found, m.Step)
	}
	return found
}

func TestCheckpointsEverySoManySteps(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		dir := t.TempDir()
		c.coordinator("c0")
		c.servers("c0")
		c.worker("worker-0", simWorker{digest: "d", stepMs: 500}, "c0")
		ctl := c.control("c0")
		name := submit(t, ctl, spec(t, "regular", into(dir, func(j *job.Job) { j.Spec.Checkpoint.EverySteps, j.Spec.Checkpoint.Keep = 4, 2 })))
		s := await(t, ctl, name, inPhase(proto.Phase_PHASE_DONE))
		var listed []uint64
		for _, i := range s.GetCheckpoints() {
			listed = append(listed, i.GetStep())
		}
		// Of 4, 8, 12, 16 and 20 the two newest are kept.
		if len(listed) != 2 || listed[0] != 16 || listed[1] != 20 {
			t.Errorf("checkpoints %v", listed)
		}
		all := manifests(t, dir)
		if got := steps(all); len(got) != 2 || got[0] != 16 {
			t.Errorf("in the directory: steps %v", got)
		}
		m := all[0]
		if m.DataDigest != "d" || m.Epoch != 2 || len(m.Files) != 2 || m.Job != "regular" || m.StateHash == "" || len(m.Schema.Tables) == 0 {
			t.Errorf("manifest %+v", m)
		}
	})
}

// TestAsyncCheckpointsLieOnValidations: no other step of mode async is a cut.
func TestAsyncCheckpointsLieOnValidations(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		dir := t.TempDir()
		c.coordinator("c0")
		c.servers("c0")
		c.worker("worker-0", simWorker{digest: "d", stepMs: 500}, "c0")
		ctl := c.control("c0")
		text := func(name string) []byte {
			return spec(t, name, into(dir, func(j *job.Job) {
				j.Spec.Train.Mode = job.ModeAsync
				j.Spec.Checkpoint.EverySteps = 4
			}))
		}
		s := await(t, ctl, submit(t, ctl, text("loose")), inPhase(proto.Phase_PHASE_DONE))
		if got := steps(manifests(t, dir)); len(got) != 2 || got[0] != 10 || got[1] != 20 {
			t.Fatalf("checkpoints of steps %v, want the ends of the epochs", got)
		}
		again, err := ctl.Restore(t.Context(), text("again"), s.GetCheckpoints()[0].GetLocation())
		if err != nil {
			t.Fatal(err)
		}
		if got := await(t, ctl, again, inPhase(proto.Phase_PHASE_DONE)); got.GetStep() != s.GetStep() {
			t.Errorf("ended at step %d, want %d", got.GetStep(), s.GetStep())
		}
	})
}

// TestRestoredJobGoesOnWhereTheCheckpointWas takes a checkpoint in the second
// epoch, and one exactly at the end of the first: the validation of the first
// epoch is not repeated in one case and is in the other.
func TestRestoredJobGoesOnWhereTheCheckpointWas(t *testing.T) {
	for _, at := range []int64{14, 10} {
		inBubble(t, func(t *testing.T, c *cluster) {
			dir := t.TempDir()
			c.coordinator("c0")
			c.servers("c0")
			c.worker("worker-0", simWorker{digest: "d", stepMs: 500}, "c0")
			ctl := c.control("c0")
			text := spec(t, "first", into(dir, func(j *job.Job) { j.Spec.Checkpoint.EverySteps = at }))
			want := await(t, ctl, submit(t, ctl, text), inPhase(proto.Phase_PHASE_DONE))
			from := want.GetCheckpoints()[0].GetLocation()
			again, err := ctl.Restore(t.Context(), spec(t, "second", into(dir, nil)), from)
			if err != nil {
				t.Fatal(err)
			}
			before := c.model.pushes
			got := await(t, ctl, again, inPhase(proto.Phase_PHASE_DONE))
			if got.GetModelHash() != want.GetModelHash() || got.GetStep() != want.GetStep() || got.GetRestoredFrom() != from {
				t.Errorf("after the restore: %v\nwant %v", got, want)
			}
			if len(got.GetScores()) != len(want.GetScores()) {
				t.Errorf("scores %v, want %v", got.GetScores(), want.GetScores())
			}
			if n := c.model.pushes - before; n != int(20-at)*4 {
				t.Errorf("%d pushes after the restore, want those of the steps behind %d", n, at)
			}
		})
	}
}

func TestCheckpointNow(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		dir := t.TempDir()
		c.coordinator("c0")
		nodes := c.servers("c0")
		c.worker("worker-0", simWorker{digest: "d", stepMs: 1000}, "c0")
		ctl := c.control("c0")
		name := submit(t, ctl, spec(t, "now", into(dir, func(j *job.Job) { j.Spec.Train.Epochs = 10 })))
		await(t, ctl, name, func(s *proto.JobStatus) bool { return s.GetStep() > 2 })
		info, err := ctl.Checkpoint(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if all := manifests(t, dir); len(all) != 1 || all[0].Step != info.GetStep() || info.GetStep() < 4 ||
			info.GetLocation() != filepath.Join(dir, all[0].Name()) || all[0].StateHash != info.GetStateHash() {
			t.Errorf("info %v, in the directory %v", info, all)
		}
		// A writer dies after the order: another replica takes over.
		result := make(chan error, 1)
		go func() {
			_, err := ctl.Checkpoint(context.Background(), name)
			result <- err
		}()
		time.Sleep(500 * time.Millisecond) // virtual: the order is out
		nodes[1].stop()
		if err := <-result; err != nil {
			t.Error(err)
		}
		if got := steps(manifests(t, dir)); len(got) != 2 {
			t.Errorf("checkpoints %v", got)
		}
	})
}

func TestCheckpointThatCannotBeWritten(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		c.coordinator("c0")
		c.server("ps-0", nil, "c0")
		for _, name := range []string{"ps-1", "ps-2"} {
			c.server(name, func(g *proto.GroupReport) {
				if g.GetCheckpoint().GetFile() != nil {
					g.Checkpoint = &proto.CheckpointReport{Id: g.GetCheckpoint().GetId(), Error: "no space left on device"}
				}
			}, "c0")
		}
		c.worker("worker-0", simWorker{digest: "d", stepMs: 500}, "c0")
		ctl := c.control("c0")
		name := submit(t, ctl, spec(t, "full", into(t.TempDir(), func(j *job.Job) { j.Spec.Train.Epochs = 10 })))
		await(t, ctl, name, func(s *proto.JobStatus) bool { return s.GetStep() > 2 })
		if _, err := ctl.Checkpoint(t.Context(), name); err == nil || !strings.Contains(err.Error(), "no space left on device") {
			t.Errorf("error %v", err)
		}
		s := await(t, ctl, name, inPhase(proto.Phase_PHASE_DONE)) // the training is not disturbed
		if len(s.GetCheckpoints()) != 0 {
			t.Errorf("status %v", s)
		}
	})
}

func TestCheckpointIsRefused(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		c.coordinator("c0")
		c.servers("c0")
		c.worker("worker-0", simWorker{digest: "d", stepMs: 500}, "c0")
		ctl := c.control("c0")
		name := submit(t, ctl, spec(t, "nowhere", nil))
		await(t, ctl, name, func(s *proto.JobStatus) bool { return s.GetStep() > 2 })
		refused := func(want string) {
			t.Helper()
			if _, err := ctl.Checkpoint(t.Context(), name); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("error %v, want %q", err, want)
			}
		}
		refused("has no spec.checkpoint.dir")
		await(t, ctl, name, inPhase(proto.Phase_PHASE_DONE))
		refused("only a job that trains")
		for want, dir := range map[string]string{"relative path": "ckpt", "want a path, file:// or s3://": "ftp://x/y", "the bucket is not named": "s3:///y"} {
			if _, err := ctl.Submit(t.Context(), spec(t, "bad", into(dir, nil))); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: error %v, want %q", dir, err, want)
			}
		}
		if _, err := ctl.Submit(t.Context(), spec(t, "bad", into("", func(j *job.Job) { j.Spec.Checkpoint.EverySteps = 5 }))); err == nil || !strings.Contains(err.Error(), "spec.checkpoint.dir") {
			t.Errorf("error %v", err)
		}
	})
}

func TestRestoreIsRefused(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		dir := t.TempDir()
		c.coordinator("c0")
		c.servers("c0")
		c.worker("worker-0", simWorker{digest: "d", stepMs: 500}, "c0")
		ctl := c.control("c0")
		s := await(t, ctl, submit(t, ctl, spec(t, "first", into(dir, func(j *job.Job) { j.Spec.Checkpoint.EverySteps = 10 }))), inPhase(proto.Phase_PHASE_DONE))
		from := s.GetCheckpoints()[0].GetLocation()
		for want, change := range map[string]func(*job.Job){
			"there is no manifest.json": nil,
			"updated by":                func(j *job.Job) { j.Spec.Train.Optimizer.Name = "sgd" },
			"is not in the checkpoint":  func(j *job.Job) { j.Spec.Model.Name, j.Spec.Model.EmbeddingDim = "fm", 4 },
		} {
			at := from
			if change == nil {
				at = dir
			}
			if _, err := ctl.Restore(t.Context(), spec(t, "other", change), at); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("error %v, want %q", err, want)
			}
		}
	})
}

// TestTheTablesAreFormedAnew reloads the model of the first epoch for the last
// evaluation, as a job does that keeps the best one.
func TestTheTablesAreFormedAnew(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		dir := t.TempDir()
		service, _ := c.coordinator("c0")
		c.servers("c0")
		worker := c.worker("worker-0", simWorker{digest: "d", stepMs: 500}, "c0")
		ctl := c.control("c0")
		name := submit(t, ctl, spec(t, "best", into(dir, func(j *job.Job) { j.Spec.Checkpoint.EverySteps = 10 })))
		s := await(t, ctl, name, func(s *proto.JobStatus) bool { return s.GetStep() > 12 })
		l := service.led.Load()
		err := l.commit(t.Context(), func(now time.Time) (*write, error) {
			return l.reform(l.active(), now, originOf(s.GetCheckpoints()[0]), target{Phase: proto.Phase_PHASE_EVALUATING, Split: splitTest, LastStep: 10}), nil
		})
		if err != nil {
			t.Fatal(err)
		}
		s = await(t, ctl, name, inPhase(proto.Phase_PHASE_DONE))
		last := s.GetScores()[len(s.GetScores())-1]
		if last.GetSplit() != splitTest || last.GetVersion() != 10 {
			t.Errorf("last score %v", last)
		}
		want := modelHash([]*proto.GroupReport{{Hash: simHash(0, 10)}, {Hash: simHash(1, 10)}})
		if s.GetModelHash() != want {
			t.Errorf("model hash %s, want that of step 10, %s", s.GetModelHash(), want)
		}
		runs := map[uint64]bool{}
		for _, o := range worker.orders {
			if w := o.GetWorker(); w.GetTask() > proto.Task_TASK_INSPECT {
				runs[w.GetRun()] = true
			}
		}
		if len(runs) != 2 {
			t.Errorf("run numbers %v, want two generations", runs)
		}
	})
}

func TestRestoredModelIsCompared(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		dir := t.TempDir()
		c.coordinator("c0")
		wrong := false
		alter := func(g *proto.GroupReport) {
			if wrong && g.GetShard() == 1 {
				g.Hash = simHash(7, g.GetVersion())
			}
		}
		for _, n := range []string{"ps-0", "ps-1", "ps-2"} {
			c.server(n, alter, "c0")
		}
		c.worker("worker-0", simWorker{digest: "d", stepMs: 500}, "c0")
		ctl := c.control("c0")
		s := await(t, ctl, submit(t, ctl, spec(t, "first", into(dir, func(j *job.Job) { j.Spec.Checkpoint.EverySteps = 10 }))), inPhase(proto.Phase_PHASE_DONE))
		wrong = true
		again, err := ctl.Restore(t.Context(), spec(t, "second", nil), s.GetCheckpoints()[0].GetLocation())
		if err != nil {
			t.Fatal(err)
		}
		got := await(t, ctl, again, inPhase(proto.Phase_PHASE_FAILED))
		if !strings.Contains(got.GetError(), "has the state hash") {
			t.Errorf("error %q", got.GetError())
		}
	})
}
