package trainer

import (
	"math"

	"github.com/fathom-train/fathom/compute/layer"
	"github.com/fathom-train/fathom/compute/model"
)

// computePieces is compute for a separate model over plain rows, so few samples
// at a time that their values stay in a near cache from the gather to the
// scatter; those of a whole lane would go through memory several times. The
// gradients have the same bits. It reports whether all numbers are usable: if
// not, compute tells what is at fault.
func (t *Trainer) computePieces(s *slot) bool {
	s.clearGradients()
	s.lossSum = 0
	r, fields, weights := &s.tables[0], s.data.Fields, t.sampleWeights(&s.data)
	size := t.separate.PieceSamples()
	for lo := 0; lo < s.data.N; lo += size {
		hi := min(lo+size, s.data.N)
		n, offsets := hi-lo, s.data.Offsets[lo*fields:hi*fields+1]
		t.eachColumn(func(c, off, width int) {
			t.input[c], t.dInput[c] = grow(t.input[c], n*fields*width), grow(t.dInput[c], n*fields*width)
			layer.Gather(t.input[c], n, fields, width, r.values, r.width, off, r.unique.Index, offsets, s.data.Weights)
		})
		if lo > 0 {
			t.separate.Continue()
		}
		logits := t.separate.Forward(s.dense.values, model.Input{N: n, Columns: t.input, Train: true})
		t.dLogits = grow(t.dLogits, n)
		var heavy []float32
		if len(weights) > 0 {
			heavy = weights[lo:hi]
		}
		s.lossSum += layer.WeightedBCE(logits, s.data.Labels[lo:hi], heavy, t.dLogits, 1/float32(s.batch))
		t.separate.Backward(s.dense.values, t.dLogits, s.ddense, t.dInput)
		t.eachColumn(func(c, off, width int) {
			layer.Scatter(r.grads, r.width, off, t.dInput[c], n, fields, width, r.unique.Index, offsets, s.data.Weights)
		})
	}
	_, bad := unusable(r.grads)
	for _, d := range s.ddense {
		_, worse := unusable(d)
		bad = bad || worse
	}
	return !bad && !math.IsNaN(s.lossSum) && !math.IsInf(s.lossSum, 0)
}
