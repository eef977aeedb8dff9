package coordinator

import (
	"context"
	"encoding/json"
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

// position is what a manifest says of where its job stood: the plan, and the search
// so far, if candidates have been scored or the winner is trained.
type position struct {
	planRecord
	Search []byte `json:"search,omitempty"` // as searchRecord.encode has it
}

// positionAt is the job's plan as it was when the shards reached a step of the
// stage under way, and its search. A checkpoint is committed after the job has gone
// on, so what came later is taken back. A score of exactly that step is dropped as
// well: it is computed again, with the same result, and what follows from it is
// decided by the same code. While candidates are scored the shards stand still:
// then the search goes on behind the generations that are stored.
func (r *run) positionAt(step uint64) (*plan, *searchRecord) {
	p, record := r.plan.clone(), r.record
	s := p.status
	s.Step = step
	if r.phase() != proto.Phase_PHASE_SEARCHING || step != p.lastStep {
		r.trainingAt(p, step)
		if p.stage != stageRetrain {
			record = nil
		}
	}
	s.Checkpoints, s.RestoredFrom, s.CheckpointError = nil, "", ""
	s.Error, s.ErrorIsInput, s.Detail = "", false, ""
	s.Spec, s.Tables, s.Usage = nil, nil, nil
	p.then, p.origin, p.generation, p.pinned = nil, nil, 0, nil
	return p, record
}

// trainingAt takes a plan back to the training behind a step.
func (r *run) trainingAt(p *plan, step uint64) {
	s := p.status
	s.Phase, p.split = proto.Phase_PHASE_TRAINING, ""
	scores := s.Scores
	s.Scores = nil
	for _, score := range scores {
		if score.GetSplit() != splitTest && score.GetVersion() < step {
			s.Scores = append(s.Scores, score)
		}
	}
	p.lastStep = p.start + uint64(r.job.NextValidation(r.rows(splitTrain), int64(max(step-p.start, 1))-1))
	s.Epoch = (p.lastStep-p.start-1)/r.stepsPerEpoch() + 1
	p.factor = recipe.Judge(&r.job.Spec.Train, p.stageScores()).Factor
	s.LearningRateFactor, s.Stopped = p.factor, ""
}

func encodePosition(p *plan, search *searchRecord) ([]byte, error) {
	r, err := p.record()
	if err != nil {
		return nil, err
	}
	at := position{planRecord: r}
	if search != nil {
		at.Search = search.encode()
	}
	return json.Marshal(at)
}

func decodePosition(b []byte) (*plan, *searchRecord, error) {
	p, err := decodePlan(b)
	if err != nil {
		return nil, nil, err
	}
	var at position
	if err := json.Unmarshal(b, &at); err != nil {
		return nil, nil, err
	}
	if at.Search == nil {
		return p, nil, nil
	}
	search, err := decodeSearch(at.Search)
	if err != nil {
		return nil, nil, fmt.Errorf("search: %w", err)
	}
	return p, search, nil
}

// manifestSource is a checkpoint a new job goes on from.
type manifestSource struct {
	origin origin
	plan   *plan
	search *searchRecord
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
	p, search, err := decodePosition(m.Position)
	if err != nil {
		return nil, fmt.Errorf("position of the checkpoint: %w", err)
	}
	if client.Ended(p.status.GetPhase()) {
		return nil, errors.New("position of the checkpoint: the job has ended there")
	}
	if (p.stage == "") != (j.Spec.Search == nil) {
		return nil, errors.New("the job cannot go on from this checkpoint: one of the two has spec.search, the other has not")
	}
	// The tables are those of the stage the checkpoint is of.
	r, err := newRun(&entry{name: j.Metadata.Name, spec: j.JSON(), plan: p, record: search})
	if err != nil {
		return nil, fmt.Errorf("the job cannot go on from this checkpoint: %w", err)
	}
	if d := checkpoint.Differences(m.Schema, r.layout.checkpointSchema()); len(d) > 0 {
		return nil, fmt.Errorf("the job cannot go on from this checkpoint:\n  %s", strings.Join(d, "\n  "))
	}
	return &manifestSource{plan: p, search: search,
		origin: origin{Location: location, Step: m.Step, Hash: m.StateHash, DataDigest: m.DataDigest}}, nil
}

// planFrom is the plan of a new job that goes on from a checkpoint.
func planFrom(from *manifestSource, j *job.Job, now time.Time) *plan {
	p := from.plan.clone()
	p.generation, p.origin = 1, &from.origin
	p.then = &target{Phase: p.status.GetPhase(), Split: p.split, LastStep: p.lastStep}
	// The workers must find the same data again; see inspected.
	p.digest, p.split, p.enteredNano = "", "", now.UnixNano()
	s := p.status
	s.Job, s.Phase, s.RestoredFrom = j.Metadata.Name, proto.Phase_PHASE_PENDING, from.origin.Location
	s.Epochs, s.SpecDigest = uint64(j.Spec.Train.Epochs), j.Digest()
	s.CreatedUnixNano, s.StartedUnixNano, s.EndedUnixNano = now.UnixNano(), 0, 0
	return p
}

// checkPlace refuses a place of checkpoints that cannot be meant.
func checkPlace(j *job.Job) error {
	c := &j.Spec.Checkpoint
	if c.Dir == "" {
		if c.EverySteps > 0 || c.EveryMinutes > 0 {
			return errNoPlace
		}
		return nil
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
