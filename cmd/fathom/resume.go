package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"google.golang.org/grpc/codes"

	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/fathom-train/fathom/proto"
	"github.com/fathom-train/fathom/ps/checkpoint"
)

// Names in the working directory of a run.
const (
	// jobFile is the resolved job, so that the run can be resumed.
	jobFile = "job.json"
	// checkpointsDir is where checkpoints go unless the job says otherwise.
	checkpointsDir = "checkpoints"
	// asideDir is where the data go that a run resumed from a checkpoint leaves.
	asideDir = "data-set-aside"
)

// prepareRun lets the run in dir be resumed.
func prepareRun(j *job.Job, dir string) error {
	if c := &j.Spec.Checkpoint; c.Dir == "" {
		c.Dir = filepath.Join(dir, checkpointsDir)
	}
	if err := os.WriteFile(filepath.Join(dir, jobFile), j.JSON(), 0o644); err != nil {
		return fmt.Errorf("write the job: %w", err)
	}
	return nil
}

// resume goes on with the run in the working directory.
func (a *app) resume(ctx context.Context, sets []string, f *runFlags) error {
	dir, err := filepath.Abs(f.workdir)
	if err != nil {
		return fmt.Errorf("working directory: %w", err)
	}
	text, err := os.ReadFile(filepath.Join(dir, jobFile))
	if errors.Is(err, fs.ErrNotExist) {
		return inputError{fmt.Errorf("%s is not the working directory of a run: it has no %s", dir, jobFile)}
	}
	if err != nil {
		return fmt.Errorf("read the job: %w", err)
	}
	data := filepath.Join(dir, dataDir)
	if _, err := os.Stat(filepath.Join(dir, "result.json")); err == nil && !f.fromCheckpoint {
		return inputError{fmt.Errorf("the run in %s is done", dir)}
	}
	_, err = os.Stat(data)
	if err == nil && !f.fromCheckpoint {
		if len(sets) > 0 {
			return inputError{errors.New("the run goes on from its servers' logs, with the job and the cluster it began with: --set and sizes go with --from-checkpoint only")}
		}
		j, err := job.FromJSON(text)
		if err != nil {
			return fmt.Errorf("%s: %w", jobFile, err)
		}
		return a.run(ctx, j, dir, "", f)
	}
	j, err := job.Parse(filepath.Join(dir, jobFile), text, sets)
	if err != nil {
		return err
	}
	if len(j.Spec.Train.Seeds) > 0 {
		return inputError{errors.New("a run of several seeds can be resumed from its servers' logs only, and they are gone")}
	}
	if j.Spec.Checkpoint.Dir == "" {
		return inputError{fmt.Errorf("%s has neither the servers' logs nor checkpoints", dir)}
	}
	var location string
	err = withCheckpoint(ctx, j.Spec.Checkpoint.Dir, func(at string, _ checkpoint.Bucket, m *checkpoint.Manifest) error {
		location = at
		if f.output == outputText {
			fmt.Fprintf(a.err, "%s: goes on from step %d, %s\n", m.Job, m.Step, at)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := setAside(data, filepath.Join(dir, asideDir)); err != nil {
		return err
	}
	f.resume = false // the new cluster knows no job
	return a.run(ctx, j, dir, location, f)
}

// setAside moves data out of the way, in place of what was there.
func setAside(data, aside string) error {
	if _, err := os.Stat(data); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := os.RemoveAll(aside); err != nil {
		return fmt.Errorf("set the servers' data aside: %w", err)
	}
	if err := os.Rename(data, aside); err != nil {
		return fmt.Errorf("set the servers' data aside: %w", err)
	}
	return nil
}

// hasCheckpoint tells whether the job has been under way before.
func hasCheckpoint(ctx context.Context, j *job.Job) bool {
	return j.Spec.Checkpoint.Dir != "" &&
		withCheckpoint(ctx, j.Spec.Checkpoint.Dir, func(string, checkpoint.Bucket, *checkpoint.Manifest) error { return nil }) == nil
}

// beginning is how a job comes to its cluster.
type beginning struct {
	resume  bool   // the cluster may have it already
	restore string // location of the checkpoint to go on from; empty: none
}

// begin returns the name of the job to follow.
func (b beginning) begin(ctx context.Context, c control, j *job.Job) (string, error) {
	if b.resume {
		s, err := c.Status(ctx, j.Metadata.Name)
		if err != nil && rpcStatus(err).Code() != codes.NotFound {
			return "", err
		}
		ended := s.GetPhase() == proto.Phase_PHASE_FAILED || s.GetPhase() == proto.Phase_PHASE_CANCELLED
		if err == nil && !ended {
			return s.GetJob(), nil
		}
		if err != nil && hasCheckpoint(ctx, j) {
			return "", inputError{fmt.Errorf("etcd does not know job %s any more: its data were lost. Go on from the newest checkpoint in %s: add --from-checkpoint",
				j.Metadata.Name, j.Spec.Checkpoint.Dir)}
		}
		// It was killed before the job was there, or the job may be tried again.
	}
	if b.restore != "" {
		return c.Restore(ctx, j.JSON(), b.restore)
	}
	return c.Submit(ctx, j.JSON())
}
