package layer

import (
	"fmt"
	"slices"
	"testing"

	"github.com/fathom-train/fathom/compute/random"
)

// tensors returns reproducible values for params; variances are positive.
func tensors(params []Param) (p, dp [][]float32) {
	for i, q := range params {
		v := values(uint64(10+i), q.Size())
		if q.Kind == Running {
			for j := range v {
				v[j] = v[j]*v[j] + 0.5
			}
		}
		p, dp = append(p, v), append(dp, values(99, q.Size()))
	}
	return p, dp
}

// mlpReference is the training pass of the MLP; masks holds the dropout of the
// hidden layers, or nil.
func mlpReference(p [][]float64, x []float64, n, in int, hidden []int, batchNorm bool, masks [][]float32) []float64 {
	at := 0
	for i, out := range hidden {
		x = linearReference(x, p[at], p[at+1], n, in, out)
		at += 2
		if batchNorm {
			x = normReference(x, p[at], p[at+1], n, out)
			at += 4
		}
		for j, v := range x {
			x[j] = max(v, 0)
			if masks != nil {
				x[j] *= float64(masks[i][j])
			}
		}
		in = out
	}
	return linearReference(x, p[at], p[at+1], n, in, 1)
}

func TestMLPMatchesReference(t *testing.T) {
	const n, in, stream, share = 6, 5, 77, 0.5
	for _, hidden := range [][]int{nil, {4}, {7, 3}} {
		for _, batchNorm := range []bool{false, true} {
			for _, dropout := range []float32{0, 0.4} {
				t.Run(fmt.Sprint(hidden, batchNorm, dropout), func(t *testing.T) {
					m := NewMLP(in, hidden, dropout, batchNorm)
					params := m.Params("mlp")
					p, dp := tensors(params)
					x, dy := values(1, n*in), values(2, n)
					y, dx := make([]float32, n), values(3, n*in)
					m.Forward(p, y, x, n, true, stream)
					m.Backward(p, dp, dx, dy, share)

					var masks [][]float32
					if dropout > 0 {
						for i, out := range hidden {
							ones := make([]float32, n*out)
							for j := range ones {
								ones[j] = 1
							}
							d := Dropout{Rate: dropout}
							d.Forward(ones, ones, random.Stream(stream, random.Dropout, uint64(i), 0, 0))
							masks = append(masks, ones)
						}
					}
					x64, p64 := wide(x), make([][]float64, len(p))
					for i := range p {
						p64[i] = wide(p[i])
					}
					forward := func() []float64 { return mlpReference(p64, x64, n, in, hidden, batchNorm, masks) }
					near(t, "y", y, forward())
					loss := func() float64 { return dot(dy, forward()) }
					near(t, "dx", dx, numeric(loss, x64))
					for i, q := range params {
						if q.Kind == Weight {
							near(t, q.Name, dp[i], numeric(loss, p64[i]))
						}
					}
				})
			}
		}
	}
}

func TestMLPNamesItsTensors(t *testing.T) {
	var got []string
	for _, p := range NewMLP(3, []int{2}, 0, true).Params("mlp") {
		got = append(got, fmt.Sprintf("%s %v %v %s %d", p.Name, p.Shape, p.Kind, p.Init.Kind, p.Size()))
	}
	want := []string{
		"mlp.0.weight [2 3] weight normal 6", "mlp.0.bias [2] weight  2",
		"mlp.0.bn.weight [2] weight constant 2", "mlp.0.bn.bias [2] weight  2",
		"mlp.0.bn.running_mean [2] running  2", "mlp.0.bn.running_var [2] running constant 2",
		"mlp.1.weight [1 2] weight normal 2", "mlp.1.bias [1] weight  1",
	}
	if !slices.Equal(got, want) {
		t.Errorf("params\n%q, want\n%q", got, want)
	}
}

func TestMLPBackwardOfNoSamplesIsZero(t *testing.T) {
	m := NewMLP(5, []int{4, 3}, 0.5, true)
	p, dp := tensors(m.Params("mlp"))
	m.Forward(p, nil, nil, 0, true, 1)
	m.Backward(p, dp, nil, nil, 0)
	for i, d := range dp {
		equalBits(t, fmt.Sprint("gradient ", i), d, make([]float32, len(d)))
	}
}

func TestMLPEvaluatesEverySampleAlone(t *testing.T) {
	const n, in = 50, 23
	m := NewMLP(in, []int{31, 18}, 0.5, true)
	p, dp := tensors(m.Params("mlp"))
	x, whole, one := values(1, n*in), make([]float32, n), make([]float32, n)
	m.Forward(p, whole, x, n, false, 1)
	for i := range n {
		m.Forward(p, one[i:i+1], x[i*in:(i+1)*in], 1, false, 2)
	}
	equalBits(t, "one by one", one, whole)
	m.Forward(p, one[7:30], x[7*in:30*in], 23, false, 2)
	equalBits(t, "part", one, whole)
	panics(t, "backward after evaluation", func() { m.Backward(p, dp, nil, one[7:30], 1) })
}

func TestMLPAllocatesNothing(t *testing.T) {
	if raced {
		t.Skip("allocations cannot be counted under the race detector")
	}
	const n, in = 40, 23
	m := NewMLP(in, []int{31, 18}, 0.5, true)
	p, dp := tensors(m.Params("mlp"))
	x, y, dx, dy := values(1, n*in), make([]float32, n), make([]float32, n*in), values(2, n)
	size := n
	step := func() {
		m.Forward(p, y[:size], x[:size*in], size, true, 3)
		m.Backward(p, dp, dx[:size*in], dy[:size], 1)
		m.Forward(p, y[:size], x[:size*in], size, false, 3)
		size = n + 13 - size // batches of changing size
	}
	if allocs := testing.AllocsPerRun(20, step); allocs != 0 {
		t.Errorf("%v allocations per step", allocs)
	}
}

func BenchmarkMLP(b *testing.B) {
	const n, in = 1024, 260
	m := NewMLP(in, []int{400, 400, 400}, 0.1, true)
	p, dp := tensors(m.Params("mlp"))
	x, y, dx, dy := values(1, n*in), make([]float32, n), make([]float32, n*in), values(2, n)
	for b.Loop() {
		m.Forward(p, y, x, n, true, 3)
		m.Backward(p, dp, dx, dy, 1)
	}
	b.ReportMetric(n*float64(b.N)/b.Elapsed().Seconds(), "examples/s")
}
