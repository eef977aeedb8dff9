package coordinator

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/fathom-train/fathom/compute/eval"
	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/fathom-train/fathom/coordinator/search"
	"github.com/fathom-train/fathom/coordinator/task"
	"github.com/fathom-train/fathom/proto"
)

// sliceBytes bounds the scores of the candidates that are scored together.
const sliceBytes = 256 << 20

// sliceMax bounds their number: a block's scores travel in one message.
const sliceMax = 64

// nextSlice prepares the scoring of the candidates that come next; nil when the
// generation has all its scores.
func (r *run) nextSlice() *evaluation {
	open := r.search.Ask()
	if len(r.scored) >= len(open) {
		return nil
	}
	rows := r.rows(splitValid)
	most := int(min(sliceMax, max(1, sliceBytes/(4*rows))))
	from := len(r.scored)
	some := open[from:min(len(open), from+most)]
	text, err := json.Marshal(r.search.Order(some))
	if err != nil {
		panic(fmt.Sprintf("coordinator: BUG: encode candidates: %v", err))
	}
	n := blocks(rows)
	return &evaluation{epoch: r.plan.status.GetEpoch(), split: splitValid, share: task.NewEvaluation(n),
		round: r.round() | uint64(from) + 1, candidates: len(some), order: text,
		each: make([][]*eval.Accumulator, n)}
}

// round is the number of the first slice of what is scored now, before 1 is added.
func (r *run) round() uint64 {
	n := uint64(r.search.Generation()) << 20
	if r.search.Share() == 1 {
		n |= 1 << 19 // the finalists of a generation that was screened
	}
	return n
}

// searching goes on with a search: to the next candidates, the next generation,
// or the retraining of the winner.
func (l *leader) searching(r *run, now time.Time) *write {
	if r.search == nil {
		return nil // resuming failed: the fault ends the job
	}
	if e := r.evaluation; e != nil {
		if e.results == nil {
			return nil
		}
		for i, result := range e.results {
			if result.Invalid > 0 {
				r.fail(false, "%d of %d scores of candidate %d are no numbers: the supernet diverged", result.Invalid, result.Samples, i)
				return nil
			}
			r.scored = append(r.scored, search.Score{AUC: result.AUC, LogLoss: result.LogLoss})
		}
		r.passes += int64(len(e.each))
		r.evaluation = nil
	}
	if r.evaluation = r.nextSlice(); r.evaluation != nil {
		return nil
	}
	open := r.search.Ask()
	if len(open) == 0 {
		if r.attempt != nil {
			return nil // of the tables there are: it is about to be complete
		}
		return l.retrain(r, now)
	}
	record := *r.record
	record.Trials = r.search.After(r.scored)
	record.Passes += r.passes
	w := l.setPlan(r.entry, now, func(p *plan) { l.measure(r, p.status, now) })
	w = l.withRecord(r, w, &record)
	install := w.apply
	w.apply = func() {
		install()
		if err := r.search.Tell(r.scored); err != nil {
			r.fail(false, "%v", err)
		}
		r.scored, r.passes = nil, 0
		if best, ok := r.search.Best(); ok {
			l.log.Info("generation is scored", "job", r.name, "generation", r.search.Generation(), "candidates", len(open),
				"auc", best.Score.AUC, "parameters", best.Parameters)
		}
	}
	return w
}

// searchReport is what is told of a search, as JSON; nil when there is none yet.
func (r *run) searchReport() []byte {
	if r.search == nil {
		return nil
	}
	if r.report == nil || r.reported != r.search.Generation() || r.reportedPhase != r.phase() {
		report := r.search.Report(r.record.Survey)
		report.Passes, report.CPUSeconds = r.record.Passes, r.record.CPUSeconds
		if c := r.pinned(func(step uint64) bool { return r.plan.stage == stageSupernet || step < r.plan.start }); c != nil {
			report.Checkpoint = c.GetLocation()
		}
		text, err := json.Marshal(report)
		if err != nil {
			panic(fmt.Sprintf("coordinator: BUG: encode report: %v", err))
		}
		r.report, r.reported, r.reportedPhase = text, r.search.Generation(), r.phase()
	}
	return r.report
}

// noteCandidates takes in what was found of one block of a survey or a slice.
func (e *evaluation) noteCandidates(b *proto.EvaluationBlock) (func(), error) {
	if e.surveys != nil {
		s := new(search.Survey)
		if err := json.Unmarshal(b.GetSurvey(), s); err != nil {
			return nil, fmt.Errorf("survey of shard %d: %w", b.GetBlock(), err)
		}
		return func() { e.surveys[b.GetBlock()] = s }, nil
	}
	if len(b.GetCandidates()) != e.candidates {
		return nil, fmt.Errorf("block %d has the scores of %d candidates, want %d", b.GetBlock(), len(b.GetCandidates()), e.candidates)
	}
	all := make([]*eval.Accumulator, e.candidates)
	for i, text := range b.GetCandidates() {
		var err error
		if all[i], err = eval.Parse(text); err != nil {
			return nil, fmt.Errorf("scores of block %d, candidate %d: %w", b.GetBlock(), i, err)
		}
		if all[i].Samples() > job.EvaluationBlockRows {
			return nil, fmt.Errorf("block %d has %d samples, at most %d fit", b.GetBlock(), all[i].Samples(), job.EvaluationBlockRows)
		}
	}
	return func() { e.each[b.GetBlock()] = all }, nil
}

// mergeCandidates merges the blocks of every candidate, in their order.
func (e *evaluation) mergeCandidates() []eval.Result {
	results := make([]eval.Result, e.candidates)
	parts := make([]*eval.Accumulator, len(e.each))
	for c := range results {
		for b := range parts {
			parts[b] = e.each[b][c]
		}
		results[c] = eval.Merge(parts)
	}
	return results
}

// searchDetail is one line on what is done between the two trainings.
func (r *run) searchDetail() string {
	e := r.evaluation
	switch {
	case r.phase() == proto.Phase_PHASE_RESHAPING:
		return "forms the tables anew at the widths found"
	case e == nil:
		return "goes on with the search"
	case r.phase() == proto.Phase_PHASE_SURVEYING:
		return fmt.Sprintf("counts the rows of the supernet, %d of %d shards", e.blocks()-e.share.Left(), e.blocks())
	}
	text := fmt.Sprintf("generation %d: %d of %d candidates scored, %d more under way", r.search.Generation(), len(r.scored), len(r.search.Ask()), e.candidates)
	if best, ok := r.search.Best(); ok {
		text += fmt.Sprintf("; best AUC %.6f with %d weights", best.Score.AUC, best.Parameters)
	}
	return text
}
