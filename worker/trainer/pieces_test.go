package trainer

import (
	"context"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/fathom-train/fathom/coordinator/job"
)

// laneOf returns the loss and all gradients of a lane of n samples.
func laneOf(t *testing.T, model string, n int, inPieces bool) (loss float64, grads []float32) {
	t.Helper()
	j, err := job.Parse("bench.yaml", []byte(benchJob), []string{"spec.model=" + model, "spec.train.positive_weight=3"})
	if err != nil {
		t.Fatal(err)
	}
	tr := benchTrainer(t, j)
	if tr.separate == nil {
		t.Fatalf("%s does not go in pieces", model)
	}
	if !inPieces {
		tr.separate = nil
	}
	s := &slot{ddense: tr.newDense(), dense: &denseSet{values: tr.newDense(), ready: make(chan struct{})}, step: 1, batch: int64(n)}
	s.data = benchBatches(1, n)[0]
	tr.find(s)
	if err := tr.pullRows(context.Background(), s, true); err != nil {
		t.Fatal(err)
	}
	if err := tr.compute(context.Background(), s); err != nil {
		t.Fatal(err)
	}
	return s.lossSum, slices.Concat(append(s.ddense, s.tables[0].grads)...)
}

func TestLaneInPiecesHasTheBitsOfTheWhole(t *testing.T) {
	const attention = "embedding_dim: 8, attention_layers: 2, attention_dim: 12, heads: 2, "
	for _, model := range []string{
		"{name: lr}", "{name: fm, embedding_dim: 16}", "{name: fm, embedding_dim: 10}",
		"{name: autoint, " + attention + "wide: true}", "{name: autoint, " + attention + "layer_norm: true, scale: true}",
		"{name: autoint, " + attention + "layer_norm: true, norm_placement: peri, residual: false}",
	} {
		for _, n := range []int{1, 15, 16, 17, 133} {
			whole, want := laneOf(t, model, n, false)
			loss, got := laneOf(t, model, n, true)
			context := fmt.Sprintf("%s, %d samples", model, n)
			if math.Abs(loss-whole) > 1e-12*whole {
				t.Errorf("%s: the loss is %v in pieces, %v as a whole", context, loss, whole)
			}
			for i := range want {
				if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
					t.Fatalf("%s: gradient %d is %v in pieces, %v as a whole", context, i, got[i], want[i])
				}
			}
		}
	}
}
