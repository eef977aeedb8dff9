package coordinator

import (
	"fmt"
	"time"

	"github.com/fathom-train/fathom/compute/eval"
	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/fathom-train/fathom/proto"
)

// evaluationOf returns the evaluation a block belongs to, or nil when it is
// over or never was: such a block is of no use to anyone, and no fault of its
// sender, who may have been given an order that is out of date.
func (l *leader) evaluationOf(b *proto.EvaluationBlock) *evaluation {
	r := l.active()
	if r == nil || r.evaluation == nil || b.GetJob() != r.id() || b.GetRun() != r.groupRun() {
		return nil
	}
	if e := r.evaluation; b.GetVersion() == r.plan.lastStep && b.GetSplit() == e.split && b.GetRound() == e.round {
		return e
	}
	return nil
}

// noteBlock takes in what was found of one block; errors are the sender's fault.
func (l *leader) noteBlock(b *proto.EvaluationBlock) error {
	l.mu.Lock()
	e := l.evaluationOf(b)
	l.mu.Unlock()
	if e == nil {
		return nil
	}
	if b.GetBlock() >= uint64(e.blocks()) {
		return fmt.Errorf("block %d of split %s, which has %d", b.GetBlock(), e.split, e.blocks())
	}
	// Parsing takes long, so it does not hold mu.
	note, err := e.parse(b)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.evaluationOf(b) == e && e.share.Done(int(b.GetBlock())) {
		note()
		l.poke()
	}
	return nil
}

// parse decodes a block and returns what takes it in.
func (e *evaluation) parse(b *proto.EvaluationBlock) (func(), error) {
	if e.scores == nil {
		return e.noteCandidates(b)
	}
	scores, err := eval.Parse(b.GetScores())
	if err != nil {
		return nil, fmt.Errorf("scores of block %d: %w", b.GetBlock(), err)
	}
	if scores.Samples() > job.EvaluationBlockRows {
		return nil, fmt.Errorf("block %d has %d samples, at most %d fit", b.GetBlock(), scores.Samples(), job.EvaluationBlockRows)
	}
	return func() { e.scores[b.GetBlock()] = scores }, nil
}

// mergeScores makes the result of an evaluation whose blocks are all there. It
// sorts all scores, so it does not hold mu; it is called by one goroutine.
func (l *leader) mergeScores() {
	l.mu.Lock()
	var e *evaluation
	if r := l.active(); r != nil && r.evaluation != nil && r.evaluation.share.Left() == 0 && r.evaluation.result == nil && r.evaluation.results == nil && r.evaluation.surveys == nil {
		e = r.evaluation
	}
	l.mu.Unlock()
	if e == nil {
		return
	}
	if e.each != nil {
		results := e.mergeCandidates()
		l.mu.Lock()
		e.results = results
		l.mu.Unlock()
		return
	}
	result := eval.Merge(e.scores)
	l.mu.Lock()
	e.result = &result
	l.mu.Unlock()
}

// evaluated leaves an evaluation that has its result.
func (l *leader) evaluated(r *run, now time.Time) *write {
	e := r.evaluation
	if e.result == nil {
		return nil
	}
	if e.result.Invalid > 0 {
		r.fail(false, "%d of %d scores of split %s at step %d are no numbers: the training diverged",
			e.result.Invalid, e.result.Samples, e.split, r.plan.lastStep)
		return nil
	}
	return l.next(r, now, r.score())
}

// score is what the evaluation under way has found; nil before that, and of scores
// that are no numbers.
func (r *run) score() *proto.Score {
	e := r.evaluation
	if e == nil || e.result == nil || e.result.Invalid > 0 {
		return nil
	}
	return &proto.Score{Epoch: e.epoch, Split: e.split, Version: r.plan.lastStep,
		Samples: e.result.Samples, Auc: e.result.AUC, LogLoss: e.result.LogLoss,
		Gauc: e.result.GAUC, GaucSamples: e.result.GroupedSamples, LearningRateFactor: r.plan.factor, Stage: r.plan.stage}
}
