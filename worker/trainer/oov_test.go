package trainer

import (
	"math"
	"testing"

	"github.com/fathom-train/fathom/compute/embedding"
	"github.com/fathom-train/fathom/compute/model"
	"github.com/fathom-train/fathom/shard"
	"github.com/fathom-train/fathom/worker/dataset"
)

// oovSlot is a slot of one field with a table of its own, embeddings that are all
// zero for key 2 and first-order weights for all.
func oovSlot(t *testing.T) (*Trainer, *slot) {
	t.Helper()
	columns := []model.Column{{Name: model.Linear, Width: 1}, {Name: model.Embedding, Width: 3}}
	spec := embedding.Spec{Tables: embedding.PerField, Fields: []embedding.Field{{Name: "a", Width: 2, OwnLinear: true, OOV: true}}}.WithDefaults()
	plan, err := embedding.New(spec, columns, []embedding.FieldName{{Name: "a"}})
	if err != nil {
		t.Fatal(err)
	}
	tr := &Trainer{plan: plan, columns: columns, input: make([][]float32, 2), dInput: make([][]float32, 2)}
	s := &slot{data: dataset.Batch{N: 3, Fields: 1, Keys: []shard.Key{1, 2, 3, 2}, Weights: []float32{1, 2, 1, 1}, Offsets: []int32{0, 2, 3, 4}}}
	tr.find(s)
	for i := range s.tables {
		r := &s.tables[i]
		for u, k := range r.unique.Keys {
			for c := range r.width {
				r.values[u*r.width+c] = 0.1*float32(k%5) + 0.3*float32(c+1)
				if i == 0 && k == 2 {
					r.values[u*r.width+c] = 0
				}
			}
		}
	}
	for c, col := range columns {
		tr.input[c], tr.dInput[c] = make([]float32, 3*col.Width), make([]float32, 3*col.Width)
		for i := range tr.dInput[c] {
			tr.dInput[c][i] = float32(1+i) / 4
		}
	}
	return tr, s
}

// A value without an embedding reads the row that stands in for others, whose
// gradient is that of all of them; first-order weights are not concerned.
func TestRowsAreReplaced(t *testing.T) {
	t.Parallel()
	tr, s := oovSlot(t)
	loss := func() (sum float64) {
		tr.fill(s)
		for c := range tr.input {
			for i, v := range tr.input[c] {
				sum += float64(v) * float64(tr.dInput[c][i])
			}
		}
		return sum
	}
	loss()
	r := &s.tables[0]
	if len(r.replaced) != 1 || r.unique.Keys[r.replaced[0]] != 2 || r.unique.Counts[r.oov] != 3 {
		t.Fatalf("places %v are replaced, counts %v", r.replaced, r.unique.Counts)
	}
	if want := r.values[r.oov*2]; tr.input[1][6] != want || tr.input[0][2] == want {
		t.Errorf("the third sample reads %v and %v, want the embedding %v", tr.input[0][2], tr.input[1][6:], want)
	}
	s.clearGradients()
	tr.scatter(s)
	tr.substituteGradient(s)
	for i := range s.tables {
		r := &s.tables[i]
		for at := range r.values {
			if u := at / r.width; i == 0 && r.unique.Keys[u] == 2 {
				continue // of a row that is not there
			}
			const h = 0.25
			v := r.values[at]
			r.values[at] = v + h
			up := loss()
			r.values[at] = v - h
			down := loss()
			r.values[at] = v
			if want := (up - down) / (2 * h); math.Abs(want-float64(r.grads[at])) > 1e-4 {
				t.Errorf("table %d value %d: gradient %v, differences say %v", i, at, r.grads[at], want)
			}
		}
	}
	if len(s.tables[1].replaced) > 0 || s.tables[1].oov >= 0 {
		t.Error("first-order weights are replaced")
	}
}
