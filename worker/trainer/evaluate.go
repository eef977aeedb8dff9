package trainer

import (
	"context"
	"fmt"

	"github.com/fathom-train/fathom/compute/eval"
	"github.com/fathom-train/fathom/compute/model"
)

// evalRows is how many samples are scored at once. A sample's score does not
// depend on it.
const evalRows = 2048

// Evaluate scores rows [lo, hi) of a split, in the order of the files, with
// the model as it was at the version.
func (t *Trainer) Evaluate(ctx context.Context, split string, version uint64, lo, hi int64) (*eval.Accumulator, error) {
	data, ok := t.cfg.Data.Split(split)
	if !ok {
		return nil, fmt.Errorf("the data have no %s split", split)
	}
	acc := &eval.Accumulator{}
	s := &slot{dense: &denseSet{values: t.takeDense()}}
	defer t.giveDense(s.dense.values)
	dense := s.dense.values
	for ; lo < hi; lo += evalRows {
		end := min(lo+evalRows, hi)
		if err := data.Read(ctx, &s.data, lo, end); err != nil {
			return nil, fmt.Errorf("read rows %d to %d of the %s split: %w", lo, end, split, err)
		}
		t.find(s)
		if err := t.cfg.Client.Pull(ctx, version, s.request(), dense); err != nil {
			return nil, err
		}
		dense = nil // once is enough
		logits := t.forward(s, false)
		t.probs = grow(t.probs, len(logits))
		model.Probabilities(t.probs, logits)
		model.Calibrate(t.probs, float32(t.cfg.Job.Spec.Data.NegativeRate))
		for i, p := range t.probs {
			if p != p {
				where, err := data.LocateRow(ctx, lo+int64(i))
				if err != nil {
					where = fmt.Sprintf("row %d of the %s split (%v)", lo+int64(i), split, err)
				}
				return nil, fmt.Errorf("the score of %s is not a number at version %d: check the numeric fields for extreme values", where, version)
			}
		}
		acc.Add(t.probs, s.data.Labels, s.data.Groups)
	}
	return acc, nil
}
