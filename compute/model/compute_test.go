package model

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/fathom-train/fathom/compute/kernel"
	"github.com/fathom-train/fathom/compute/layer"
)

// roundingSpecs is the specifications of models that can compute in BF16, with
// a network of the given widths.
func roundingSpecs(hidden ...int) []Spec {
	var all []Spec
	for _, s := range specs() {
		if d, _ := find(s.Name); d.hasNetwork(s) {
			s.Hidden = hidden
		} else if s.Name != "dcnv2" || s.LowRank > 0 {
			continue // nothing to round
		}
		if m, err := New(s.WithDefaults(), 10); err == nil {
			if _, ok := m.(rounding); ok {
				all = append(all, s)
			}
		}
	}
	return all
}

func newRoundingBatch(t *testing.T, s Spec, compute string, n int) *batch {
	t.Helper()
	b := newBatch(t, s, 10, n)
	if err := SetCompute(b.model, s.Name, compute); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBF16HasTheSameBitsOnEveryPath(t *testing.T) {
	for _, s := range roundingSpecs(33, 20) { // not only small edges of tiles
		var want *batch
		for _, path := range kernel.Paths() {
			restore, err := kernel.SetPath(path)
			if err != nil {
				t.Fatal(err)
			}
			b := newRoundingBatch(t, s, BF16, 50)
			_, loss := b.step()
			restore()
			if want == nil {
				want = b
				continue
			}
			if math.IsNaN(loss) {
				t.Fatalf("%s: the loss is no number", s.Name)
			}
			same(t, s.Name+" "+path+": gradients of tensors", b.gradients, want.gradients)
			same(t, s.Name+" "+path+": gradients of columns", b.dColumns, want.dColumns)
		}
	}
}

// Each operand of a product is off by 2^-9 at most. Gradients are by more than
// that, because those of single samples cancel and some units of ReLU switch;
// but they must be off.
func TestBF16GradientsAreCloseToF32(t *testing.T) {
	found := map[string]bool{}
	for _, s := range roundingSpecs(40, 30) {
		found[s.Name] = true
		s.BatchNorm = false
		exact, rounded := newRoundingBatch(t, s, F32, 200), newRoundingBatch(t, s, BF16, 200)
		logits, loss := exact.step()
		roundedLogits, roundedLoss := rounded.step()
		if off := math.Abs(loss-roundedLoss) / loss; off > 0.002 {
			t.Errorf("%s: the loss is off by %v", s.Name, off)
		}
		check := func(what string, got, want []float32) {
			var diff, size float64
			for i, v := range want {
				diff += float64(v-got[i]) * float64(v-got[i])
				size += float64(v) * float64(v)
			}
			if off := math.Sqrt(diff / size); off > 0.1 || off == 0 {
				t.Errorf("%s: %s is off by %v", s.Name, what, off)
			}
		}
		check("the logits", roundedLogits, logits)
		for i, p := range exact.model.Params() {
			check(p.Name, rounded.gradients[i], exact.gradients[i])
		}
		for c, column := range exact.model.Columns() {
			check("column "+column.Name, rounded.dColumns[c], exact.dColumns[c])
		}
	}
	for _, name := range []string{"deepfm", "dnn", "wide_deep", "fnn", "ipnn", "dcn", "dcnv2"} {
		if !found[name] {
			t.Errorf("%s cannot compute in bf16", name)
		}
	}
}

func TestBF16StepAllocatesNothing(t *testing.T) {
	if raced {
		t.Skip("allocations cannot be counted under the race detector")
	}
	b := newRoundingBatch(t, Spec{Name: "deepfm", EmbeddingDim: 4, Hidden: []int{33, 20}}, BF16, 50)
	x := b.input(0, 50, true)
	step := func() {
		logits := b.model.Forward(b.params, x)
		layer.BCEWithLogits(logits, b.labels, b.dLogits, 1)
		b.model.Backward(b.params, b.dLogits, b.gradients, b.dColumns)
	}
	if n := testing.AllocsPerRun(10, step); n > 0 {
		t.Errorf("%v allocations per step", n)
	}
}

func TestSetComputeRefuses(t *testing.T) {
	for _, c := range []struct{ model, compute, want string }{
		{"fm", BF16, "compute: model fm cannot compute in bf16"},
		{"deepfm", "f16", `compute: "f16" is none of f32, bf16`},
	} {
		s := Spec{Name: c.model}.WithDefaults()
		m, err := New(s, 3)
		if err != nil {
			t.Fatal(err)
		}
		if err := SetCompute(m, s.Name, c.compute); !errors.Is(err, ErrSpec) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s in %s: %v, want %q", c.model, c.compute, err, c.want)
		}
		for _, compute := range []string{"", F32} {
			if err := SetCompute(m, s.Name, compute); err != nil {
				t.Errorf("%s in %q: %v", c.model, compute, err)
			}
		}
	}
}
