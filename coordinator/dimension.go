package coordinator

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/fathom-train/fathom/compute/model"
	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/fathom-train/fathom/coordinator/search"
	"github.com/fathom-train/fathom/proto"
)

// A job with a search has two stages of training: the supernet and the retrained
// winner. Between them it is surveyed (how many rows the thresholds keep),
// searched, and its tables are formed anew. The supernet's version does not
// change while candidates are scored on it.
const (
	stageSupernet = "supernet"
	stageRetrain  = "retrain"
)

// splitSurvey stands in the place of a split while shards are surveyed.
const splitSurvey = "survey"

// setStage prepares the run for the stage its plan names: the job its workers
// are given, and the tables.
func (r *run) setStage() error {
	full, err := job.FromJSON(r.spec)
	if err != nil {
		return fmt.Errorf("spec of job %s: %w", r.name, err)
	}
	r.job, r.stageSpec = full, r.spec
	if full.Spec.Search != nil {
		r.retrainFrom = full.Spec.Search.RetrainFrom
		if r.job, err = r.stageJob(full); err != nil {
			return err
		}
		r.stageSpec = r.job.JSON()
	}
	if r.layout, err = newLayout(r.job); err != nil {
		return err
	}
	if r.plan.stage == stageRetrain {
		r.carrySelector()
		return r.carry(full)
	}
	return nil
}

// carrySelector says that the winner has the selector of the supernet, if there is one,
// and the masks of the clusters that were found with it.
func (r *run) carrySelector() {
	for _, d := range r.layout.dense {
		switch {
		case d.GetName() == job.MaskTensor:
			d.Values = r.search.Space().Masks(int(d.GetSize()))
		case strings.HasPrefix(d.GetName(), model.SelectorPrefix):
			d.Carry = true
		}
	}
}

func (r *run) stageJob(full *job.Job) (*job.Job, error) {
	if r.plan.stage != stageRetrain {
		return full.Supernet(), nil
	}
	winner, ok := r.search.Best()
	if !ok {
		return nil, fmt.Errorf("job %s is to be retrained, but its search has no winner", r.name)
	}
	space := r.search.Space()
	return full.Retrain(space.Widths(winner.Candidate), space.Dims(winner.Candidate))
}

// carry says what the retrained tables take over from the supernet, which has one
// table where the winner may have another one for the first-order weights.
func (r *run) carry(full *job.Job) error {
	from, err := full.Tables()
	if err != nil {
		return err
	}
	to, err := r.job.Tables()
	if err != nil {
		return err
	}
	winner, _ := r.search.Best() // stageJob has found it
	s, dims := full.Spec.Search, r.search.Space().Dims(winner.Candidate)
	for i, t := range r.layout.tables {
		of := slices.IndexFunc(from, func(o job.Table) bool { return o.Fields[0] == to[i].Fields[0] })
		weights := s.RetrainFrom == job.FromSupernet
		embeds := slices.ContainsFunc(t.GetColumns(), func(c *proto.Column) bool { return c.GetName() == model.Embedding })
		switch {
		case s.DropsRows() && embeds:
			t.Closed = true
			t.Carry = &proto.Carry{From: uint32(of), Column: model.Embedding, Norm: string(full.RowNorm()), Above: -1, Weights: weights}
			if s.Pruning != nil {
				t.Carry.Above = r.record.Survey.Thresholds[of]
				if s.Pruning.Per == job.PerFeature {
					t.Carry.Plus = job.ThresholdColumn
				}
			}
			if len(s.Rows) > 0 {
				t.Carry.Times, t.Carry.Least = job.UsesColumn, r.search.Space().Level(winner.Candidate, of).Above
			}
			if s.OOV {
				t.Carry.Always = uint64(job.OOVKey)
			}
		case weights:
			t.Carry = &proto.Carry{From: uint32(of), Weights: true}
		}
		if weights && embeds && dims != nil {
			t.Carry.Column = model.Embedding
			if t.Carry.Norm == "" { // all rows are taken over
				t.Carry.Norm, t.Carry.Above = string(full.RowNorm()), -1
			}
			for _, d := range dims[of] {
				t.Carry.Dims = append(t.Carry.Dims, uint32(d))
			}
		}
	}
	return nil
}

func (r *run) space(full *job.Job, survey *search.Survey) (search.Space, error) {
	tables, err := full.Tables()
	if err != nil {
		return search.Space{}, err
	}
	var names []string
	for _, t := range tables {
		names = append(names, t.Name)
	}
	return survey.Space(names, full.Choices(), full.Spec.Search.Rows)
}

// surveyRows begins the counting of rows.
func (r *run) surveyRows(p *plan) {
	p.status.Phase, p.split = proto.Phase_PHASE_SURVEYING, splitSurvey
}

// surveyed makes the search space of the shards' surveys and begins the search.
func (l *leader) surveyed(r *run, now time.Time) *write {
	e := r.evaluation
	if e.share.Left() > 0 {
		return nil
	}
	survey, err := search.Merge(e.surveys)
	if err != nil {
		r.fail(false, "%v", err)
		return nil
	}
	space, err := r.space(r.job, survey)
	if err == nil {
		_, err = search.New(r.job.SearchConfig(), space)
	}
	if err != nil {
		r.fail(true, "spec.search: %v", err)
		return nil
	}
	record := &searchRecord{Survey: survey, CPUSeconds: map[string]float64{stageSupernet: r.cpuSeconds()}}
	w := l.move(r, now, func(p *plan) { p.status.Phase, p.split = proto.Phase_PHASE_SEARCHING, splitValid })
	w = l.withRecord(r, w, record)
	install := w.apply
	w.apply = func() {
		install()
		if err := r.resume(r.job); err != nil {
			r.fail(false, "%v", err)
		}
	}
	return w
}

// retrain forms the tables anew at the winner's widths.
func (l *leader) retrain(r *run, now time.Time) *write {
	record := *r.record
	record.CPUSeconds = map[string]float64{
		stageSupernet: r.record.CPUSeconds[stageSupernet], "search": r.cpuSeconds() - r.record.CPUSeconds[stageSupernet]}
	w := l.move(r, now, func(p *plan) {
		p.stage, p.status.Stage = stageRetrain, stageRetrain
		p.status.Phase, p.split = proto.Phase_PHASE_RESHAPING, ""
		p.start = p.lastStep + 1
		p.lastStep = p.start
	})
	w = l.withRecord(r, w, &record)
	install := w.apply
	w.apply = func() {
		install()
		if err := r.setStage(); err != nil {
			r.fail(false, "%v", err)
		}
	}
	return w
}

// reshaped begins the retraining once all shards have their new tables.
func (l *leader) reshaped(r *run, now time.Time) *write {
	if r.step() < r.plan.lastStep {
		return nil
	}
	return l.move(r, now, func(p *plan) {
		p.factor, p.status.Stopped = 1, ""
		p.status.Epochs = uint64(r.job.Spec.Train.Epochs)
		p.status.Steps = p.start + uint64(r.job.Steps(r.rows(splitTrain)))
		r.train(p)
	})
}

// cpuSeconds is the processor time spent on the job so far.
func (r *run) cpuSeconds() float64 {
	return r.usage[rolePS] + r.usage[roleWorker]
}

// stageScores are the scores of the stage under way.
func (p *plan) stageScores() []*proto.Score {
	var scores []*proto.Score
	for _, s := range p.status.GetScores() {
		if s.GetStage() == p.stage {
			scores = append(scores, s)
		}
	}
	return scores
}
