package supernet

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/fathom-train/fathom/compute/random"
)

func values(seed uint64, n int, scale float32) []float32 {
	x := make([]float32, n)
	random.Init{Kind: random.Normal, Scale: scale}.Fill(x, random.Stream(seed, random.InitDense, 1, 2, 3))
	return x
}

func wide(x []float32) []float64 {
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = float64(v)
	}
	return y
}

// numeric returns the central differences of f with respect to x, which f reads.
func numeric(f func() float64, x []float64) []float64 {
	const h = 1e-6
	g := make([]float64, len(x))
	for i, v := range x {
		x[i] = v + h
		up := f()
		x[i] = v - h
		g[i] = (up - f()) / (2 * h)
		x[i] = v
	}
	return g
}

func near(t *testing.T, what string, got []float32, want []float64) {
	t.Helper()
	scale := 0.1
	for _, w := range want {
		scale = max(scale, math.Abs(w))
	}
	for i, w := range want {
		if !(math.Abs(float64(got[i])-w) <= 3e-5*scale) {
			t.Fatalf("%s[%d] = %v, want %v", what, i, got[i], w)
		}
	}
}

// step is the function that Surrogate is the derivative of, odd around zero.
func step(x float64) float64 {
	switch a := math.Abs(x); {
	case a <= 0.4:
		return math.Copysign(2*a-2*a*a, x)
	case a <= 1:
		return math.Copysign(0.48+0.4*(a-0.4), x)
	default:
		return math.Copysign(0.72, x)
	}
}

func TestSurrogateHasThePublishedShape(t *testing.T) {
	t.Parallel()
	for x, want := range map[float32]float32{0: 2, 0.1: 1.6, -0.1: 1.6, 0.39: 2 - 4*0.39, 0.5: 0.4, -1: 0.4, 1: 0.4, 1.01: 0, -7: 0} {
		if got := Surrogate(x); math.Abs(float64(got-want)) > 1e-6 {
			t.Errorf("Surrogate(%v) = %v, want %v", x, got, want)
		}
	}
}

// The gradient of the pruned rows is that of the model's input with the 0/1 mask
// as it is, plus that of the mask by way of the surrogate.
func TestPruneGradient(t *testing.T) {
	t.Parallel()
	const rows, stride, off, width = 7, 6, 1, 4
	field := []int32{0, 1, 2, 0, 1, 2, 0}
	for i, norm := range []Norm{L1, L2, L1} {
		var instead []float32 // what pruned rows read as
		if i == 2 {
			instead = []float32{0.3, -0.2, 0.5, 0.1}
		}
		e, g := values(1, rows*stride, 0.3), values(2, rows*stride, 1)
		thresholds := []float32{0.4, 1.1, -0.3}
		in, out := Rows{e, stride, off, width}, make([]float32, rows*stride)
		excess := make([]float32, rows)
		Prune(Rows{out, stride, off, width}, in, field, thresholds, norm, excess)

		e64, t64, e0 := wide(e), wide(thresholds), wide(e)
		kept := 0
		loss := func() (sum float64) {
			for u, f := range field {
				length := 0.0
				for k := range width {
					v := e64[u*stride+off+k]
					if norm == L1 {
						length += math.Abs(v)
					} else {
						length += v * v
					}
				}
				if norm == L2 {
					length = math.Sqrt(length)
				}
				for k := range width {
					at := u*stride + off + k
					if excess[u] > 0 {
						sum += float64(g[at]) * e64[at]
					}
					other := 0.0
					if instead != nil {
						other = float64(instead[k])
					}
					sum += float64(g[at]) * step(length-t64[f]) * (e0[at] - other)
				}
			}
			return sum
		}
		for u := range rows {
			row := out[u*stride+off : u*stride+off+width]
			if excess[u] > 0 {
				kept++
				if !slices.Equal(row, in.row(u)) {
					t.Errorf("%s: kept row %d is changed", norm, u)
				}
			} else if slices.ContainsFunc(row, func(v float32) bool { return v != 0 }) {
				t.Errorf("%s: pruned row %d is not zero", norm, u)
			}
		}
		if kept == 0 || kept == rows {
			t.Fatalf("%s: %d of %d rows kept: the test sees one side only", norm, kept, rows)
		}
		wantE, wantT := numeric(loss, e64), numeric(loss, t64)
		d, dt := slices.Clone(g), make([]float32, len(thresholds))
		PruneBackward(Rows{d, stride, off, width}, in, field, norm, excess, dt, instead)
		near(t, string(norm)+" thresholds", dt, wantT)
		for u := range rows {
			at := u*stride + off
			near(t, string(norm)+" row", d[at:at+width], wantE[at:at+width])
			if d[at-1] != g[at-1] {
				t.Errorf("%s: the column before row %d was touched", norm, u)
			}
		}
	}
}

// Soft thresholding and its gradients, and that the rows that are left are those
// whose largest weight is above the threshold.
func TestSoftThreshold(t *testing.T) {
	t.Parallel()
	const rows, stride, off, width, threshold = 7, 6, 1, 4, 0.3
	e, g := values(1, rows*stride, 0.3), values(2, rows*stride, 1)
	clear(e[2*stride : 3*stride])
	in := Rows{e, stride, off, width}
	out := slices.Clone(g)
	Soft(Rows{out, stride, off, width}, in, rows, threshold)
	e64, t64 := wide(e), []float64{threshold}
	loss := func() (sum float64) {
		for u := range rows {
			for k := range width {
				at := u*stride + off + k
				sum += float64(g[at]) * math.Copysign(max(math.Abs(e64[at])-t64[0], 0), e64[at])
			}
		}
		return sum
	}
	forward, left := 0.0, 0
	for u := range rows {
		row := out[u*stride+off : u*stride+off+width]
		for k, v := range row {
			forward += float64(g[u*stride+off+k]) * float64(v)
		}
		some := slices.ContainsFunc(row, func(v float32) bool { return v != 0 })
		if some != LInf.Keeps(in.row(u), threshold) {
			t.Errorf("row %d of largest weight %v is %v", u, LInf.Of(in.row(u)), row)
		}
		if some {
			left++
		}
		if out[u*stride] != g[u*stride] || out[u*stride+off+width] != g[u*stride+off+width] {
			t.Errorf("the columns around row %d were touched", u)
		}
	}
	if math.Abs(forward-loss()) > 1e-5 || left == 0 || left == rows {
		t.Errorf("forward gives %v, want %v; %d of %d rows are left", forward, loss(), left, rows)
	}
	wantE, wantT := numeric(loss, e64), numeric(loss, t64)
	d := slices.Clone(g)
	near(t, "threshold", []float32{SoftBackward(Rows{d, stride, off, width}, in, rows, threshold)}, wantT)
	for u := range rows {
		at := u*stride + off
		near(t, "row", d[at:at+width], wantE[at:at+width])
	}
}

func TestAPrunedRowCanComeBack(t *testing.T) {
	t.Parallel()
	e := []float32{0.1, -0.1}
	in, excess := Rows{e, 2, 0, 2}, make([]float32, 1)
	Prune(Rows{make([]float32, 2), 2, 0, 2}, in, []int32{0}, []float32{0.3}, L1, excess)
	if excess[0] > 0 {
		t.Fatal("the row is not pruned")
	}
	// The loss falls along the row: keeping it would help.
	d, dt := []float32{-1, 1}, make([]float32, 1)
	PruneBackward(Rows{d, 2, 0, 2}, in, []int32{0}, L1, excess, dt, nil)
	for range 10 {
		for k := range e {
			e[k] -= 0.1 * d[k]
		}
	}
	if !L1.Keeps(e, 0.3) || dt[0] <= 0 {
		t.Errorf("row %v with threshold gradient %v does not come back", e, dt)
	}
}

func TestRowAtItsThresholdIsPruned(t *testing.T) {
	t.Parallel()
	if L1.Keeps([]float32{0.5, -0.5}, 1) || !L1.Keeps([]float32{0.5, -0.5}, 0.99) || L1.Keeps([]float32{0, 0}, 0) {
		t.Error("the comparison is not strict")
	}
}

func TestRegulariserGradientAndLanes(t *testing.T) {
	t.Parallel()
	const weight = 0.02
	thresholds := []float32{0, 0.5, -1}
	t64 := wide(thresholds)
	want := numeric(func() (sum float64) {
		for _, v := range t64 {
			sum += weight * math.Exp(-v)
		}
		return sum
	}, t64)
	d := make([]float32, 3)
	loss := Regularise(thresholds, weight, 0.25, d)
	Regularise(thresholds, weight, 0.75, d)
	near(t, "thresholds", d, want)
	if whole := weight * (1 + math.Exp(-0.5) + math.Exp(1)); math.Abs(loss-whole) > 1e-6 {
		t.Errorf("loss %v, want %v", loss, whole)
	}
}

func all(d int) []int {
	w := make([]int, d)
	for i := range w {
		w[i] = i + 1
	}
	return w
}

// Width 1 must be drawn, and the full width, each as often as any other.
func TestEveryWidthIsDrawnEquallyOften(t *testing.T) {
	t.Parallel()
	const n, dim = 8000, 8
	s := Sampler{Seed: 3, Sampling: PerSample, Choices: [][]int{all(dim), all(dim), {0, 4}}}
	widths := make([]uint16, n*3)
	s.Draw(widths, 5, 1, n)
	var counts [3][dim + 1]int
	for i, w := range widths {
		counts[i%3][w]++
	}
	for f := range 2 {
		for w := 1; w <= dim; w++ {
			if c := counts[f][w]; math.Abs(float64(c)-n/dim) > 5*math.Sqrt(n/dim) {
				t.Errorf("field %d: width %d came %d times of %d", f, w, c, n)
			}
		}
	}
	if counts[2][0]+counts[2][4] != n || counts[2][0] < n/3 || counts[2][4] < n/3 {
		t.Errorf("choices 0 and 4 came %d and %d times of %d", counts[2][0], counts[2][4], n)
	}
}

func TestSamplesOfALaneDependOnTheirPlaceOnly(t *testing.T) {
	t.Parallel()
	s := Sampler{Seed: 3, Sampling: PerSample, Choices: [][]int{all(8), all(8)}}
	long, short, other := make([]uint16, 200), make([]uint16, 20), make([]uint16, 200)
	s.Draw(long, 5, 1, 100)
	s.Draw(short, 5, 1, 10)
	if !slices.Equal(long[:20], short) {
		t.Error("the masks of a sample depend on the size of its lane")
	}
	for _, at := range [][2]uint64{{5, 2}, {6, 1}} {
		s.Draw(other, at[0], at[1], 100)
		if slices.Equal(long, other) {
			t.Errorf("step %d lane %d has the masks of step 5 lane 1", at[0], at[1])
		}
	}
}

func TestBatchSamplingIsOneDrawForAllLanes(t *testing.T) {
	t.Parallel()
	s := Sampler{Seed: 3, Sampling: PerBatch, Choices: [][]int{all(64), all(64), all(64)}}
	a, b := make([]uint16, 30), make([]uint16, 6)
	s.Draw(a, 9, 0, 10)
	s.Draw(b, 9, 3, 2)
	s.Draw(nil, 9, 1, 0)
	for i := range a {
		if a[i] != b[i%3] {
			t.Fatalf("lanes of a step draw %v and %v", a, b)
		}
	}
}

func TestProgressiveScheduleBeginsAtFullWidth(t *testing.T) {
	t.Parallel()
	s := Sampler{Seed: 1, Sampling: PerSample, Choices: [][]int{all(16), all(16)}, Full: 1, FullLast: 0.25, Steps: 100}
	share := func(step uint64) float64 {
		w := make([]uint16, 8000)
		s.Draw(w, step, 0, 4000)
		full := 0
		for i := 0; i < len(w); i += 2 {
			if w[i] == 16 && w[i+1] == 16 {
				full++
			}
		}
		return float64(full) / 4000
	}
	if got := share(0); got != 1 {
		t.Errorf("share of the full width at the start is %v", got)
	}
	if got := share(50); math.Abs(got-0.627) > 0.03 {
		t.Errorf("share of the full width half way is %v", got)
	}
	if got := share(1000); math.Abs(got-0.253) > 0.03 {
		t.Errorf("share of the full width after the schedule is %v", got)
	}
}

func TestMasksKeepThePrefix(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n, fields, width := rapid.IntRange(0, 5).Draw(t, "n"), rapid.IntRange(1, 4).Draw(t, "fields"), rapid.IntRange(1, 9).Draw(t, "width")
		x := values(7, n*fields*width, 1)
		widths := make([]uint16, n*fields)
		for i := range widths {
			widths[i] = uint16(rapid.IntRange(0, width).Draw(t, "w"))
		}
		got := slices.Clone(x)
		MaskPrefixes(got, width, widths)
		for i, v := range got {
			want := x[i]
			if i%width >= int(widths[i/width]) {
				want = 0
			}
			if v != want {
				t.Fatalf("element %d is %v, want %v", i, v, want)
			}
		}
		if n == 0 {
			return
		}
		same, of := make([]uint16, n*fields), make([]int, fields)
		for f := range of {
			of[f] = int(widths[f])
			for i := range n {
				same[i*fields+f] = widths[f]
			}
		}
		a, b := slices.Clone(x), slices.Clone(x)
		MaskPrefixes(a, width, same)
		MaskFields(b, n, width, of)
		if !slices.Equal(a, b) {
			t.Fatal("one width for all samples and the same width for each differ")
		}
	})
}

func TestGateGradients(t *testing.T) {
	t.Parallel()
	const n, fields, width = 5, 3, 4
	choices := []int{1, 3, 4}
	for _, kind := range []GateKind{ElementGate, PrefixGate, ChoiceGate} {
		g := Gates{Kind: kind, Fields: fields, Width: width, Choices: choices}
		v := make([]float32, g.Size())
		for i := range v {
			v[i] = 0.3 + 0.1*float32(i%5)
			if kind == PrefixGate {
				v[i] = 0.6 + 1.1*float32(i)
			}
		}
		x, dy := values(1, n*fields*width, 1), values(2, n*fields*width, 1)
		factors := make([]float32, fields*width)
		g.Factors(factors, v)
		y := make([]float32, len(x))
		g.Forward(y, x, factors, n)

		x64, v64 := wide(x), wide(v)
		loss := func() (sum float64) {
			for i := range x64 {
				f, j := i/width%fields, i%width
				factor := 0.0
				switch kind {
				case ElementGate:
					factor = v64[f*width+j]
				case PrefixGate:
					factor = min(max(v64[f]-float64(j), 0), 1)
				case ChoiceGate:
					all := 0.0
					for c, w := range choices {
						e := math.Exp(v64[f*len(choices)+c])
						all += e
						if w > j {
							factor += e
						}
					}
					factor /= all
				}
				sum += float64(dy[i]) * factor * x64[i]
			}
			return sum
		}
		forward := 0.0
		for i := range y {
			forward += float64(dy[i]) * float64(y[i])
		}
		if math.Abs(forward-loss()) > 1e-4 {
			t.Errorf("%s: forward gives %v, want %v", kind, forward, loss())
		}
		wantX, wantV := numeric(loss, x64), numeric(loss, v64)
		dv := make([]float32, g.Size())
		g.Backward(dy, x, v, factors, n, dv)
		near(t, string(kind)+" dx", dy, wantX)
		near(t, string(kind)+" dv", dv, wantV)
	}
}

func TestBalanceAndHold(t *testing.T) {
	t.Parallel()
	g := Gates{Kind: ElementGate, Fields: 2, Width: 2}
	d := []float32{100, -300, 0.001, 0.003}
	g.Balance(d)
	near(t, "balanced", d, []float64{0.5, -1.5, 0.5, 1.5})
	// Descent subtracts the gradient, so a negative one opens a gate.
	for _, c := range []struct {
		g               Gates
		values, d, want []float32
	}{
		{g, []float32{0, 0, 1, 1}, []float32{1, -1, 1, -1}, []float32{0, -1, 1, 0}},
		{Gates{Kind: PrefixGate, Fields: 3, Width: 4}, []float32{1, 4, 4.1}, []float32{-1, -1, 1}, []float32{-1, 0, 1}},
		{Gates{Kind: ChoiceGate, Fields: 1, Choices: []int{1, 2}}, []float32{-3, 7}, []float32{1, -1}, []float32{1, -1}},
	} {
		if c.g.Hold(c.d, c.values); !slices.Equal(c.d, c.want) {
			t.Errorf("%s gates %v: gradients %v, want %v", c.g.Kind, c.values, c.d, c.want)
		}
	}
}

// Distilled logits are drawn towards the teacher's probabilities: the gradient is
// that of the cross entropy.
func TestDistillGradient(t *testing.T) {
	t.Parallel()
	z, teacher := values(1, 9, 2), make([]float32, 9)
	for i := range teacher {
		teacher[i] = 0.1 * float32(i+1)
	}
	z64 := wide(z)
	want := numeric(func() (sum float64) {
		for i, v := range z64 {
			p, q := 1/(1+math.Exp(-v)), float64(teacher[i])
			sum -= 0.7 * (q*math.Log(p) + (1-q)*math.Log(1-p))
		}
		return sum
	}, z64)
	d := make([]float32, 9)
	Distill(d, z, teacher, 0.7)
	near(t, "dLogits", d, want)
}

// A width is a number of dimensions, not the index of the last one.
func TestParametersAreExact(t *testing.T) {
	t.Parallel()
	rows := []int64{10, 4000, 0, 7}
	if got := Parameters(rows, []int{1, 16, 8, 0}); got != 10+4000*16 {
		t.Errorf("%d parameters", got)
	}
	if got := Bytes(rows, []int{1, 1, 1, 1}); got != 4*4017 {
		t.Errorf("%d bytes", got)
	}
}

// What is most important has labels of both kinds, often; of values with one label only
// the length of the row decides.
func TestImportance(t *testing.T) {
	t.Parallel()
	uses := func(all, ones float32) []float32 { return []float32{all * UsesUnit, ones * UsesUnit} }
	long, short := []float32{3, -1}, []float32{1, 0}
	for _, c := range []struct {
		e, uses []float32
		want    float64
	}{
		{long, uses(100, 50), 4 * 100 * 0.25},
		{long, uses(99, 9), 4 * 99 * (9.5 / 100) * (90.5 / 100)},
		{long, uses(1, 1), 4 * 1 * 0.75 * 0.25},
		{short, uses(1, 0), 1 * 1 * 0.25 * 0.75},
		{short, uses(0, 0), 0},
	} {
		if got := float64(L1.Importance(c.e, c.uses)) / UsesUnit; math.Abs(got-c.want) > 1e-5*c.want {
			t.Errorf("%v with %v: importance %v, want %v", c.e, c.uses, got, c.want)
		}
	}
}
