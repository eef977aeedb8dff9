package layer

import (
	"fmt"
	"slices"
	"testing"

	"github.com/fathom-train/fathom/compute/random"
)

// residual adapts a Residual in training to stack.
type residual struct{ *Residual }

const residualStream = 31

func (r residual) Forward(p [][]float32, x []float32, n int) []float32 {
	return r.Residual.Forward(p, x, n, true, residualStream)
}

func (r residual) Backward(p, dp [][]float32, dx, dy []float32) {
	r.Residual.Backward(p, dp, dx, dy, 0.5)
}

func residualShapes() []ResidualShape {
	var all []ResidualShape
	for _, parallel := range []bool{false, true} {
		for _, peri := range []bool{false, true} {
			all = append(all,
				ResidualShape{Width: 6, Hidden: []int{3, 4}, Parallel: parallel, Peri: peri},
				ResidualShape{Width: 5, Hidden: []int{2, 3, 2}, Parallel: parallel, Peri: peri, Dropout: 0.3},
				ResidualShape{Width: 4, Parallel: parallel, Peri: peri})
		}
	}
	return all
}

func TestResidualMatchesReference(t *testing.T) {
	for _, shape := range residualShapes() {
		t.Run(fmt.Sprintf("%+v", shape), func(t *testing.T) {
			const n, in = 4, 3
			var masks [][]float64
			for i, width := range shape.Hidden {
				ones := slices.Repeat([]float32{1}, n*width)
				d := Dropout{Rate: shape.Dropout}
				d.Forward(ones, ones, random.Stream(residualStream, random.Dropout, uint64(i), 0, 0))
				masks = append(masks, wide(ones))
			}
			checkStack(t, residual{NewResidual(in, shape)}, n, in, shape.Width, func(p [][]float64, x []float64) []float64 {
				return shape.reference(p, x, n, in, masks)
			})
		})
	}
}

// reference is the tower's definition; it takes the tensors one after the other.
func (s ResidualShape) reference(p [][]float64, x []float64, n, in int, masks [][]float64) []float64 {
	next := func() []float64 { q := p[0]; p = p[1:]; return q }
	linear := func(x []float64, in, out int) []float64 {
		w, b := next(), next()
		return linearReference(x, w, b, n, in, out)
	}
	norm := func(x []float64) []float64 { gamma, beta := next(), next(); return layerNormReference(x, gamma, beta) }
	z := linear(x, in, s.Width)
	if s.Peri {
		z = norm(z)
	}
	first := slices.Clone(z)
	for i, width := range s.Hidden {
		f := z
		if s.Parallel {
			f = first
		}
		f = linear(norm(f), s.Width, width)
		for j, v := range f {
			f[j] = max(v, 0) * masks[i][j]
		}
		f = linear(f, width, s.Width)
		if s.Peri {
			f = norm(f)
		}
		for j := range z {
			z[j] += f[j]
		}
	}
	return norm(z)
}

func TestHeadedIsALinearOverItsTower(t *testing.T) {
	const n, in = 5, 3
	shape := ResidualShape{Width: 4, Hidden: []int{3}, Peri: true}
	h, tower, head := NewHeaded(in, shape), NewResidual(in, shape), Linear{In: 4, Out: 1}
	p, dp := tensors(h.Params("mlp"))
	_, want := tensors(h.Params("mlp"))
	x, dy, y, dx := values(1, n*in), values(2, n), make([]float32, n), make([]float32, n*in)
	h.Forward(p, y, x, n, true, 1)
	h.Backward(p, dp, dx, dy, 1)

	at := len(p) - 2
	wantY, dTower, wantDx := make([]float32, n), make([]float32, n*4), make([]float32, n*in)
	head.Forward(wantY, tower.Forward(p, x, n, true, 1), p[at], p[at+1], n)
	head.Backward(dTower, want[at], want[at+1], dy, p[at])
	tower.Backward(p, want, wantDx, dTower, 1)
	equalBits(t, "y", y, wantY)
	equalBits(t, "dx", dx, wantDx)
	for i := range want {
		equalBits(t, fmt.Sprint("gradient ", i), dp[i], want[i])
	}
}

func TestResidualNamesItsTensors(t *testing.T) {
	var got []string
	for _, p := range NewHeaded(3, ResidualShape{Width: 4, Hidden: []int{2}, Peri: true}).Params("mlp") {
		got = append(got, fmt.Sprint(p.Name, p.Shape))
	}
	want := []string{
		"mlp.lift.weight[4 3]", "mlp.lift.bias[4]", "mlp.entry.weight[4]", "mlp.entry.bias[4]",
		"mlp.0.norm.weight[4]", "mlp.0.norm.bias[4]", "mlp.0.up.weight[2 4]", "mlp.0.up.bias[2]",
		"mlp.0.down.weight[4 2]", "mlp.0.down.bias[4]", "mlp.0.after.weight[4]", "mlp.0.after.bias[4]",
		"mlp.norm.weight[4]", "mlp.norm.bias[4]", "mlp.1.weight[1 4]", "mlp.1.bias[1]",
	}
	if !slices.Equal(got, want) {
		t.Errorf("params\n%q, want\n%q", got, want)
	}
}

func TestResidualRefusesBackwardAfterEvaluation(t *testing.T) {
	r := NewResidual(3, ResidualShape{Width: 4, Hidden: []int{2}})
	p, dp := tensors(r.Params("mlp"))
	r.Forward(p, values(1, 3), 1, false, 1)
	panics(t, "backward after evaluation", func() { r.Backward(p, dp, nil, values(2, 4), 1) })
}
