package model

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/fathom-train/fathom/compute/kernel"
	"github.com/fathom-train/fathom/compute/layer"
	"github.com/fathom-train/fathom/compute/random"
)

// batch is a model with everything a step needs.
type batch struct {
	model             Model
	params, gradients [][]float32
	columns, dColumns [][]float32
	labels, dLogits   []float32
	fields            int
}

// newBatch makes reproducible parameters and n samples.
func newBatch(t testing.TB, s Spec, fields, n int) *batch {
	t.Helper()
	m, err := New(s.WithDefaults(), fields)
	if err != nil {
		t.Fatal(err)
	}
	b := &batch{model: m, fields: fields, labels: make([]float32, n), dLogits: make([]float32, n)}
	for i, p := range m.Params() {
		v := make([]float32, p.Size())
		if p.Init.Kind == "" { // biases; at zero they would sit on the kink of a ReLU without input
			p.Init = random.Init{Kind: "normal", Scale: 0.1}
		}
		p.Init.Fill(v, random.Stream(1, random.InitDense, uint64(i), 0, 0))
		b.params, b.gradients = append(b.params, v), append(b.gradients, make([]float32, p.Size()))
	}
	for c, column := range m.Columns() {
		v := make([]float32, n*fields*column.Width)
		random.Init{Kind: "normal", Scale: 0.5}.Fill(v, random.Stream(2, random.InitRow, uint64(c), 0, 0))
		b.columns, b.dColumns = append(b.columns, v), append(b.dColumns, make([]float32, len(v)))
	}
	for i := range b.labels {
		b.labels[i] = float32(i % 3 % 2)
	}
	return b
}

// input returns samples lo..hi.
func (b *batch) input(lo, hi int, train bool) Input {
	x := Input{N: hi - lo, Train: train, Share: 0.5, Stream: 9}
	for c, column := range b.model.Columns() {
		width := b.fields * column.Width
		x.Columns = append(x.Columns, b.columns[c][lo*width:hi*width])
	}
	return x
}

// step makes a forward and a backward pass over all samples.
func (b *batch) step() (logits []float32, lossSum float64) {
	n := len(b.labels)
	logits = b.model.Forward(b.params, b.input(0, n, true))
	lossSum = layer.BCEWithLogits(logits, b.labels, b.dLogits, 1/float32(n))
	b.model.Backward(b.params, b.dLogits, b.gradients, b.dColumns)
	return logits, lossSum
}

// specs covers every model with every option.
func specs() []Spec {
	return append(zooSpecs(), []Spec{
		{Name: "lr"},
		{Name: "fm", EmbeddingDim: 5},
		{Name: "deepfm", EmbeddingDim: 4, Hidden: []int{9, 5}},
		{Name: "deepfm", EmbeddingDim: 3, Hidden: []int{20, 7, 6}, BatchNorm: true, Dropout: 0.25},
	}...)
}

func forEachSpec(t *testing.T, f func(t *testing.T, s Spec)) {
	for _, s := range specs() {
		t.Run(fmt.Sprintf("%s%v", s.Name, s.BatchNorm), func(t *testing.T) { f(t, s) })
	}
}

func TestParameterCountsMatchBARS(t *testing.T) {
	const frappe, movieLens = 5389, 90239
	for _, c := range []struct {
		name               string
		rows, fields, want int
	}{
		{"lr", frappe, 10, 5_390}, {"lr", movieLens, 3, 90_240},
		{"fm", frappe, 10, 59_280}, {"fm", movieLens, 3, 992_630},
		{"deepfm", frappe, 10, 423_280}, {"deepfm", movieLens, 3, 1_328_630},
	} {
		m, err := New(Spec{Name: c.name, BatchNorm: c.name == "deepfm"}.WithDefaults(), c.fields)
		if err != nil {
			t.Fatal(err)
		}
		got := 0
		for _, p := range m.Params() {
			if p.Kind == Weight {
				got += p.Size()
			}
		}
		for _, column := range m.Columns() {
			got += c.rows * column.Width
		}
		if got != c.want {
			t.Errorf("%s over %d rows has %d parameters, want %d", c.name, c.rows, got, c.want)
		}
	}
}

func TestParamsAreUniqueAndValid(t *testing.T) {
	forEachSpec(t, func(t *testing.T, s Spec) {
		b := newBatch(t, s, 4, 2)
		seen := map[string]bool{}
		for _, p := range b.model.Params() {
			if seen[p.Name] {
				t.Errorf("two tensors are named %s", p.Name)
			}
			seen[p.Name] = true
			if err := p.Init.Validate(); err != nil {
				t.Errorf("%s: %v", p.Name, err)
			}
		}
	})
}

// TestGradientsMatchLossDifferences compares a directional derivative of the whole model
// with the difference of its losses, dropout and all.
func TestGradientsMatchLossDifferences(t *testing.T) {
	forEachSpec(t, func(t *testing.T, s Spec) {
		const n = 40
		b := newBatch(t, s, 4, n)
		b.step()
		kinds := b.model.Params()
		for i := range b.params {
			if kinds[i].Kind == Weight {
				b.compare(t, kinds[i].Name, b.params[i], slices.Clone(b.gradients[i]))
			}
		}
		for c := range b.columns {
			b.compare(t, b.model.Columns()[c].Name, b.columns[c], slices.Clone(b.dColumns[c]))
		}
	})
}

// compare moves x along its gradient, so that the change of the loss is the
// gradient's squared norm times the step.
func (b *batch) compare(t *testing.T, what string, x, gradient []float32) {
	t.Helper()
	var norm2 float64
	for _, g := range gradient {
		norm2 += float64(g) * float64(g)
	}
	if norm2 < 1e-10 { // a bias in front of BatchNorm has no effect
		return
	}
	h := 4e-4 / math.Sqrt(norm2) // small enough to cross few kinks of ReLU
	saved := slices.Clone(x)
	loss := func(direction float64) float64 {
		for i := range x {
			x[i] = saved[i] + float32(direction*h*float64(gradient[i]))
		}
		logits := b.model.Forward(b.params, b.input(0, len(b.labels), true))
		return layer.BCEWithLogits(logits, b.labels, nil, 0) / float64(len(b.labels))
	}
	got := (loss(1) - loss(-1)) / (2 * h)
	copy(x, saved)
	const rounding = 2e-8 // of a loss from float32 logits
	if math.Abs(got-norm2) > 0.02*norm2+rounding/h {
		t.Errorf("%s: loss falls by %v per step, gradient says %v", what, got, norm2)
	}
}

func TestStepOverwritesWhatWasThere(t *testing.T) {
	forEachSpec(t, func(t *testing.T, s Spec) {
		a, b := newBatch(t, s, 4, 17), newBatch(t, s, 4, 17)
		for _, buffers := range [][][]float32{b.gradients, b.dColumns} {
			for _, x := range buffers {
				for i := range x {
					x[i] = float32(math.NaN())
				}
			}
		}
		first, _ := a.step()
		second, _ := b.step()
		same(t, "logits", [][]float32{first}, [][]float32{second})
		same(t, "gradients", a.gradients, b.gradients)
		same(t, "column gradients", a.dColumns, b.dColumns)
		b.step()
		same(t, "gradients of a second pass", a.gradients, b.gradients)
	})
}

func TestEveryPathGivesTheSameBits(t *testing.T) {
	forEachSpec(t, func(t *testing.T, s Spec) {
		var want *batch
		for _, path := range kernel.Paths() {
			restore, err := kernel.SetPath(path)
			if err != nil {
				t.Fatal(err)
			}
			b := newBatch(t, s, 7, 33)
			b.step()
			restore()
			if want == nil {
				want = b
			}
			same(t, path+" logit gradients", [][]float32{b.dLogits}, [][]float32{want.dLogits})
			same(t, path+" gradients", b.gradients, want.gradients)
			same(t, path+" column gradients", b.dColumns, want.dColumns)
		}
	})
}

func TestEvaluationDependsOnTheSampleAlone(t *testing.T) {
	forEachSpec(t, func(t *testing.T, s Spec) {
		const n = 41
		b := newBatch(t, s, 5, n)
		whole := slices.Clone(b.model.Forward(b.params, b.input(0, n, false)))
		for _, size := range []int{1, 7, 16} {
			var parts []float32
			for lo := 0; lo < n; lo += size {
				parts = append(parts, b.model.Forward(b.params, b.input(lo, min(lo+size, n), false))...)
			}
			same(t, fmt.Sprint("batches of ", size), [][]float32{parts}, [][]float32{whole})
		}
		probabilities := make([]float32, n)
		Probabilities(probabilities, whole)
		for i, p := range probabilities {
			if want := 1 / (1 + math.Exp(-float64(whole[i]))); math.Abs(float64(p)-want) > 1e-6 {
				t.Fatalf("probability %v of logit %v, want %v", p, whole[i], want)
			}
			alone := []float32{whole[i]}
			Probabilities(alone, alone)
			same(t, "probability alone", [][]float32{alone}, [][]float32{{p}})
		}
	})
}

func TestRunningStatisticsAddUpToTheBatch(t *testing.T) {
	const n = 30
	b := newBatch(t, Spec{Name: "deepfm", EmbeddingDim: 2, Hidden: []int{3}, BatchNorm: true}, 4, n)
	b.step()
	half := slices.Clone(b.gradients[4]) // Share is one half
	x := b.input(0, n, true)
	x.Share = 1
	b.model.Forward(b.params, x)
	b.model.Backward(b.params, b.dLogits, b.gradients, b.dColumns)
	if name := b.model.Params()[4].Name; name != "mlp.0.bn.running_mean" {
		t.Fatalf("tensor 4 is %s", name)
	}
	for i, v := range half {
		if 2*v != b.gradients[4][i] || v == 0 {
			t.Errorf("column %d: %v at share 1/2, %v at share 1", i, v, b.gradients[4][i])
		}
	}
}

func TestEmptyLaneAndLaneOfOneSample(t *testing.T) {
	forEachSpec(t, func(t *testing.T, s Spec) {
		for _, n := range []int{0, 1} {
			b := newBatch(t, s, 4, n)
			logits, _ := b.step()
			if len(logits) != n {
				t.Fatalf("%d logits of %d samples", len(logits), n)
			}
			for i, g := range b.gradients {
				for j, v := range g {
					if n == 0 && v != 0 || v != v {
						t.Fatalf("n=%d: gradient %d[%d] is %v", n, i, j, v)
					}
				}
			}
		}
	})
}

func TestStepAllocatesNothing(t *testing.T) {
	if raced {
		t.Skip("allocations cannot be counted under the race detector")
	}
	forEachSpec(t, func(t *testing.T, s Spec) {
		b := newBatch(t, s, 6, 50)
		inputs := []Input{b.input(0, 50, true), b.input(0, 31, true), b.input(0, 31, false)}
		step := func() {
			for _, x := range inputs {
				logits := b.model.Forward(b.params, x)
				layer.BCEWithLogits(logits, b.labels[:x.N], b.dLogits[:x.N], 1)
				if x.Train {
					b.model.Backward(b.params, b.dLogits[:x.N], b.gradients, b.shortened(x))
				}
			}
		}
		step()
		if allocs := testing.AllocsPerRun(10, step); allocs != 0 {
			t.Errorf("%v allocations per step", allocs)
		}
	})
}

// short is the memory of shortened, which itself must not allocate.
var short [2][]float32

func (b *batch) shortened(x Input) [][]float32 {
	for c := range x.Columns {
		short[c] = b.dColumns[c][:len(x.Columns[c])]
	}
	return short[:len(x.Columns)]
}

// same fails the test unless the bits agree.
func same(t *testing.T, what string, got, want [][]float32) {
	t.Helper()
	for i := range want {
		if len(got[i]) != len(want[i]) {
			t.Fatalf("%s %d: %d elements, want %d", what, i, len(got[i]), len(want[i]))
		}
		for j := range want[i] {
			if math.Float32bits(got[i][j]) != math.Float32bits(want[i][j]) {
				t.Fatalf("%s %d: element %d is %v, want %v", what, i, j, got[i][j], want[i][j])
			}
		}
	}
}

func TestDefaults(t *testing.T) {
	for _, name := range Names() {
		if err := (Spec{Name: name}).WithDefaults().Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	got := Spec{Name: "deepfm", Dropout: 0.5}.WithDefaults()
	if got.EmbeddingDim != 10 || !slices.Equal(got.Hidden, []int{400, 400, 400}) || got.Dropout != 0.5 {
		t.Errorf("defaults of deepfm: %+v", got)
	}
	if got := (Spec{Name: "none"}).WithDefaults(); got.EmbeddingDim != 0 || got.Hidden != nil {
		t.Errorf("defaults of an unknown model: %+v", got)
	}
}

func TestValidateNamesEveryFault(t *testing.T) {
	wide := slices.Repeat([]int{HiddenWidthMax}, HiddenLayersMax+1)
	for _, c := range []struct {
		spec  Spec
		wants []string
	}{
		{Spec{Name: "deepcross"}, []string{`name: no model "deepcross"; known: lr, fm, `}},
		{Spec{Name: "lr", EmbeddingDim: 4, BatchNorm: true}, []string{"embedding_dim:", "hidden, dropout, batch_norm, tower:"}},
		{Spec{Name: "fm", EmbeddingDim: -1, Hidden: []int{1}}, []string{"embedding_dim: -1", "no hidden layers"}},
		{Spec{Name: "deepfm", EmbeddingDim: 1 << 20, Hidden: []int{0, 5}, Dropout: 1}, []string{"embedding_dim: 1048576", "hidden[0]: 0", "dropout: 1"}},
		{Spec{Name: "deepfm", EmbeddingDim: 4, Hidden: wide, Dropout: float32(math.NaN())}, []string{"hidden: 17 layers", "hidden[1]: a", "dropout: NaN"}},
	} {
		err := c.spec.Validate()
		if !errors.Is(err, ErrSpec) {
			t.Errorf("%+v: %v", c.spec, err)
			continue
		}
		for _, want := range c.wants {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("error %q does not name %q", err, want)
			}
		}
		if _, err := New(c.spec, 3); !errors.Is(err, ErrSpec) {
			t.Errorf("New(%+v): %v", c.spec, err)
		}
	}
	for _, fields := range []int{0, -1, FieldsMax + 1} {
		if _, err := New(Spec{Name: "lr"}, fields); !errors.Is(err, ErrSpec) {
			t.Errorf("%d fields: %v", fields, err)
		}
	}
	if _, err := New(Spec{Name: "deepfm", EmbeddingDim: EmbeddingDimMax, Hidden: []int{HiddenWidthMax}}, FieldsMax); !errors.Is(err, ErrSpec) {
		t.Errorf("huge first layer: %v", err)
	}
}

func BenchmarkStep(b *testing.B) {
	for _, name := range Names() {
		b.Run(name, func(b *testing.B) {
			const n = 1024
			s := newBatch(b, Spec{Name: name, BatchNorm: name == "deepfm"}, 26, n)
			for b.Loop() {
				s.step()
			}
			b.ReportMetric(n*float64(b.N)/b.Elapsed().Seconds(), "examples/s")
		})
	}
}

func TestCalibrateUndoesTheThinningOfNegatives(t *testing.T) {
	// Of 100 positives and 900 negatives a tenth of the latter is left: the
	// model says 100 of 190, the truth is 100 of 1000.
	p := []float32{100.0 / 190, 0, 1}
	Calibrate(p, 0.1)
	if math.Abs(float64(p[0])-0.1) > 1e-6 || p[1] != 0 || p[2] != 1 {
		t.Errorf("got %v, want 0.1, 0 and 1", p)
	}
}
