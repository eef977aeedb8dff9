package trainer

import (
	"context"
	"fmt"
	"iter"

	"github.com/fathom-train/fathom/compute/eval"
	"github.com/fathom-train/fathom/compute/model"
	"github.com/fathom-train/fathom/worker/dataset"
)

// evalRows is how many samples are scored at once. A sample's score does not
// depend on it.
const evalRows = 2048

// Evaluate scores rows [lo, hi) of a split, in the order of the files, with
// the model as it was at the version.
func (t *Trainer) Evaluate(ctx context.Context, split string, version uint64, lo, hi int64) (*eval.Accumulator, error) {
	acc := &eval.Accumulator{}
	err := t.Predict(ctx, split, version, lo, hi, func(_ int64, probabilities []float32, b *dataset.Batch) error {
		acc.Add(probabilities, b.Labels, b.Groups)
		return nil
	})
	return acc, err
}

// Predict calls f with the probabilities and the samples of rows [lo, hi) of a
// split, part by part in the order of the files; first is the number of the first row
// of the part. f must not keep its arguments.
func (t *Trainer) Predict(ctx context.Context, split string, version uint64, lo, hi int64, f func(first int64, probabilities []float32, b *dataset.Batch) error) error {
	return t.scan(ctx, split, version, pieces(lo, hi), func(s *slot, first int64) error {
		t.fill(s)
		t.selector.open(s, t.input, false)
		for i, p := range t.score(s) {
			if p != p {
				return fmt.Errorf("the score of %s is not a number at version %d: check the numeric fields for extreme values", t.locate(ctx, split, first+int64(i)), version)
			}
		}
		return f(first, t.probs, &s.data)
	})
}

// locate names a row of a split, and its record where that is known.
func (t *Trainer) locate(ctx context.Context, split string, row int64) string {
	if data, ok := t.cfg.Data.Split(split); ok {
		where, err := data.LocateRow(ctx, row)
		if err == nil {
			return where
		}
		return fmt.Sprintf("row %d of the %s split (%v)", row, split, err)
	}
	return fmt.Sprintf("row %d of the %s split", row, split)
}

// score returns the probabilities of the model's input, valid until the next call.
func (t *Trainer) score(s *slot) []float32 {
	logits := t.forward(s, false)
	t.probs = grow(t.probs, len(logits))
	model.Probabilities(t.probs, logits)
	model.Calibrate(t.probs, float32(t.cfg.Job.Spec.Data.NegativeRate))
	return t.probs
}

// pieces cuts [lo, hi) into ranges of at most evalRows.
func pieces(lo, hi int64) iter.Seq2[int64, int64] {
	return func(yield func(lo, hi int64) bool) {
		for ; lo < hi; lo += evalRows {
			if !yield(lo, min(lo+evalRows, hi)) {
				return
			}
		}
	}
}

// scan reads ranges of the rows of a split, pulls what the model needs at the
// version, and calls f with the number of the first row of each.
func (t *Trainer) scan(ctx context.Context, split string, version uint64, ranges iter.Seq2[int64, int64], f func(s *slot, first int64) error) error {
	data, ok := t.cfg.Data.Split(split)
	if !ok {
		return fmt.Errorf("the data have no %s split", split)
	}
	s := &slot{dense: &denseSet{values: t.takeDense()}}
	defer t.giveDense(s.dense.values)
	dense := s.dense.values
	for lo, end := range ranges {
		if err := data.Read(ctx, &s.data, lo, end); err != nil {
			return fmt.Errorf("read rows %d to %d of the %s split: %w", lo, end, split, err)
		}
		t.find(s)
		if err := t.cfg.Weights.Pull(ctx, version, s.request(), dense); err != nil {
			return err
		}
		dense = nil // once is enough
		if err := f(s, lo); err != nil {
			return err
		}
	}
	return nil
}
