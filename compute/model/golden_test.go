package model

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"testing"

	"github.com/fathom-train/fathom/compute/layer"
)

// golden is one case of testdata/golden.json, written by testdata/golden.py.
type golden struct {
	Spec        Spec
	Fields      int
	Samples     int
	Params      map[string][]float32
	Columns     [][]float32
	Labels      []float32
	EvalLogits  []float64 `json:"eval_logits"`
	Logits      []float64
	LossSum     float64              `json:"loss_sum"`
	ParamGrads  map[string][]float64 `json:"param_grads"`
	ColumnGrads [][]float64          `json:"column_grads"`
}

func TestModelsMatchPyTorch(t *testing.T) {
	data, err := os.ReadFile("testdata/golden.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []golden
	if err := json.Unmarshal(data, &cases); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for i, g := range cases {
		seen[g.Spec.Name] = true
		t.Run(fmt.Sprint(i, g.Spec.Name), func(t *testing.T) { g.check(t) })
	}
	for _, name := range Names() {
		if !seen[name] {
			t.Errorf("no reference of %s", name)
		}
	}
}

func (g golden) check(t *testing.T) {
	m, err := New(g.Spec, g.Fields)
	if err != nil {
		t.Fatal(err)
	}
	params := m.Params()
	if len(params) != len(g.Params) {
		t.Fatalf("%d tensors, want %d", len(params), len(g.Params))
	}
	var p, dp, dx [][]float32
	for _, q := range params {
		p, dp = append(p, g.Params[q.Name]), append(dp, make([]float32, q.Size()))
	}
	for _, c := range g.Columns {
		dx = append(dx, make([]float32, len(c)))
	}
	x := Input{N: g.Samples, Columns: g.Columns, Share: 1}
	near(t, "eval logits", m.Forward(p, x), g.EvalLogits)
	x.Train = true
	logits, dLogits := m.Forward(p, x), make([]float32, g.Samples)
	near(t, "logits", logits, g.Logits)
	loss := layer.BCEWithLogits(logits, g.Labels, dLogits, 1/float32(g.Samples))
	if math.Abs(loss-g.LossSum) > 1e-5*g.LossSum {
		t.Errorf("loss %v, want %v", loss, g.LossSum)
	}
	m.Backward(p, dLogits, dp, dx)
	for i, q := range params {
		near(t, "gradient of "+q.Name, dp[i], g.ParamGrads[q.Name])
	}
	for c := range dx {
		near(t, "gradient of column "+m.Columns()[c].Name, dx[c], g.ColumnGrads[c])
	}
}

// near fails the test unless got and want agree to float32 accuracy.
func near(t *testing.T, what string, got []float32, want []float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d elements, want %d", what, len(got), len(want))
	}
	scale := 0.1
	for _, w := range want {
		scale = max(scale, math.Abs(w))
	}
	for i, w := range want {
		if !(math.Abs(float64(got[i])-w) <= 1e-5*scale) {
			t.Errorf("%s[%d] = %v, want %v", what, i, got[i], w)
		}
	}
}
