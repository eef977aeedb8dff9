package coordinator

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/fathom-train/fathom/coordinator/client"
	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/fathom-train/fathom/coordinator/recipe"
	"github.com/fathom-train/fathom/proto"
	"github.com/fathom-train/fathom/ps/checkpoint"
)

// positionAt is the job's plan as it was when the shards reached a step. A
// checkpoint is committed after the job has gone on, so what came later is taken
// back. A score of exactly that step is dropped as well: it is computed again,
// with the same result, and what follows from it is decided by the same code.
func (r *run) positionAt(step uint64) *plan {
	p := r.plan.clone()
	s := p.status
	s.Phase, s.Step, p.split = proto.Phase_PHASE_TRAINING, step, ""
	scores := s.Scores
	s.Scores = nil
	for _, score := range scores {
		if score.GetSplit() != splitTest && score.GetVersion() < step {
			s.Scores = append(s.Scores, score)
		}
	}
	p.lastStep = uint64(r.job.NextValidation(r.rows(splitTrain), int64(max(step, 1))-1))
	s.Epoch = (p.lastStep-1)/r.stepsPerEpoch() + 1
	p.factor = recipe.Judge(&r.job.Spec.Train, s.Scores).Factor
	s.LearningRateFactor, s.Stopped = p.factor, ""
	s.Checkpoints, s.RestoredFrom, s.CheckpointError = nil, "", ""
	s.Error, s.ErrorIsInput, s.Detail = "", false, ""
	s.Spec, s.Tables, s.Usage = nil, nil, nil
	p.then, p.origin, p.generation, p.pinned = nil, nil, 0, nil
	return p
}

// manifestSource is a checkpoint a new job goes on from.
type manifestSource struct {
	origin   origin
	position []byte
}

// readSource reads the manifest of the checkpoint at a location and refuses it
// when the job has other tables, naming every difference.
func readSource(ctx context.Context, j *job.Job, location string) (*manifestSource, error) {
	if err := checkLocation(location); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, manifestTimeout)
	defer cancel()
	var m *checkpoint.Manifest
	err := withBucket(ctx, location, func(b checkpoint.Bucket) (err error) {
		m, err = checkpoint.ReadManifest(ctx, b, "")
		return err
	})
	if err != nil {
		return nil, err
	}
	layout, err := newLayout(j)
	if err != nil {
		return nil, err
	}
	if d := checkpoint.Differences(m.Schema, layout.checkpointSchema()); len(d) > 0 {
		return nil, fmt.Errorf("the job cannot go on from this checkpoint:\n  %s", strings.Join(d, "\n  "))
	}
	return &manifestSource{position: m.Position,
		origin: origin{Location: location, Step: m.Step, Hash: m.StateHash, DataDigest: m.DataDigest}}, nil
}

// planFrom is the plan of a new job that goes on from a checkpoint.
func planFrom(from *manifestSource, j *job.Job, now time.Time) (*plan, error) {
	p, err := decodePlan(from.position)
	if err != nil {
		return nil, fmt.Errorf("position of the checkpoint: %w", err)
	}
	if client.Ended(p.status.GetPhase()) {
		return nil, errors.New("position of the checkpoint: the job has ended there")
	}
	p.generation, p.origin = 1, &from.origin
	p.then = &target{Phase: p.status.GetPhase(), Split: p.split, LastStep: p.lastStep}
	// The workers must find the same data again; see inspected.
	p.digest, p.split, p.enteredNano = "", "", now.UnixNano()
	s := p.status
	s.Job, s.Phase, s.RestoredFrom = j.Metadata.Name, proto.Phase_PHASE_PENDING, from.origin.Location
	s.Epochs, s.SpecDigest = uint64(j.Spec.Train.Epochs), j.Digest()
	s.CreatedUnixNano, s.StartedUnixNano, s.EndedUnixNano = now.UnixNano(), 0, 0
	return p, nil
}

// errAsync: the lanes of a step are applied as they come, so no step is a cut.
var errAsync = errors.New("spec.checkpoint.dir: a job of mode async cannot be checkpointed: no step is a cut through all shards")

// errSearch: the manifest has no place yet for the stage of a search.
var errSearch = errors.New("spec.checkpoint.dir: a job with spec.search cannot be checkpointed yet")

// checkPlace refuses a place of checkpoints that cannot be meant.
func checkPlace(j *job.Job) error {
	c := &j.Spec.Checkpoint
	if c.Dir == "" {
		if c.EverySteps > 0 || c.EveryMinutes > 0 {
			return errNoPlace
		}
		return nil
	}
	if j.Async() {
		return errAsync
	}
	if j.Spec.Search != nil {
		return errSearch
	}
	if err := checkLocation(c.Dir); err != nil {
		return fmt.Errorf("spec.checkpoint.dir: %w", err)
	}
	return nil
}

// checkLocation wants a location that means the same in every process.
func checkLocation(location string) error {
	if !strings.Contains(location, "://") && !filepath.IsAbs(location) {
		return fmt.Errorf("%s is a relative path, which every process would look for elsewhere", location)
	}
	return checkpoint.CheckLocation(location)
}
