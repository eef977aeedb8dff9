package coordinator

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/fathom-train/fathom/compute/eval"
	"github.com/fathom-train/fathom/compute/model"
	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/fathom-train/fathom/coordinator/search"
	"github.com/fathom-train/fathom/coordinator/store"
	"github.com/fathom-train/fathom/coordinator/task"
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

// searchRecord is the stored state of a search: its space and its trials, from
// which the same search goes on. It is written once per generation, twice when
// that is screened.
type searchRecord struct {
	Survey *search.Survey `json:"survey"`
	Trials []search.Trial `json:"trials"`
	// Passes and CPUSeconds are for the report.
	Passes     int64              `json:"passes"`
	CPUSeconds map[string]float64 `json:"cpu_seconds"`
}

// encode compresses the record: widths and scores repeat much, and the store
// bounds the size of a value.
func (s *searchRecord) encode() []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if err := json.NewEncoder(z).Encode(s); err != nil {
		panic(fmt.Sprintf("coordinator: BUG: encode search: %v", err))
	}
	if err := z.Close(); err != nil {
		panic(fmt.Sprintf("coordinator: BUG: encode search: %v", err))
	}
	return b.Bytes()
}

// searchBytesMax bounds a record when it is read.
const searchBytesMax = 64 << 20

func decodeSearch(b []byte) (*searchRecord, error) {
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(z, searchBytesMax))
	if err != nil {
		return nil, err
	}
	s := new(searchRecord)
	if err := json.Unmarshal(text, s); err != nil {
		return nil, err
	}
	return s, nil
}

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
		return r.carry(full)
	}
	return nil
}

func (r *run) stageJob(full *job.Job) (*job.Job, error) {
	if r.plan.stage != stageRetrain {
		return full.Supernet(), nil
	}
	winner, ok := r.search.Best()
	if !ok {
		return nil, fmt.Errorf("job %s is to be retrained, but its search has no winner", r.name)
	}
	return full.Retrain(r.search.Space().Widths(winner.Candidate))
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
	s := full.Spec.Search
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
	}
	return nil
}

// resume restores the search from its record; a job whose supernet is not
// surveyed yet has none.
func (r *run) resume(full *job.Job) error {
	r.search = nil
	if r.record == nil || full.Spec.Search == nil {
		return nil
	}
	space, err := r.space(full, r.record.Survey)
	if err != nil {
		return err
	}
	r.search, err = search.Resume(full.SearchConfig(), space, r.record.Trials)
	return err
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

// withRecord adds the storing of a search record to a write.
func (l *leader) withRecord(r *run, w *write, record *searchRecord) *write {
	w.ops = append(w.ops, store.Put(l.keys.search(r.number), record.encode()))
	install := w.apply
	w.apply = func() {
		r.entry.record = record
		install()
	}
	return w
}

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

// searchReport is what is told of a search, as JSON; nil when there is none yet.
func (r *run) searchReport() []byte {
	if r.search == nil {
		return nil
	}
	if r.report == nil || r.reported != r.search.Generation() || r.reportedPhase != r.phase() {
		report := r.search.Report(r.record.Survey)
		report.Passes, report.CPUSeconds = r.record.Passes, r.record.CPUSeconds
		text, err := json.Marshal(report)
		if err != nil {
			panic(fmt.Sprintf("coordinator: BUG: encode report: %v", err))
		}
		r.report, r.reported, r.reportedPhase = text, r.search.Generation(), r.phase()
	}
	return r.report
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
