package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

func TestSlicesOfFunctionsGiveTheBitsOfTheFunctions(t *testing.T) {
	r := rand.New(rand.NewPCG(12, 0))
	for range 300 {
		n := r.IntN(60)
		x := fill(r, n)
		if n > 0 {
			x[r.IntN(n)] = specials[r.IntN(len(specials))]
		}
		for name, f := range map[string]struct {
			slice func(dst, x []float32)
			one   func(float32) float32
		}{"exp": {ExpSlice, Exp}, "tanh": {TanhSlice, Tanh}} {
			got := samePaths(t, name, [][]float32{x, x}, func(x [][]float32) { f.slice(x[0], x[1]) })
			for i, v := range x {
				equalTo(t, name, i, got[0][i], f.one(v))
			}
		}
	}
	if y := Tanh(float32(math.Copysign(0, -1))); !math.Signbit(float64(y)) {
		t.Error("tanh(-0) is not -0")
	}
}

// softmax64 is the softmax of a row in float64, and the largest distance of an
// element from the top.
func softmax64(row []float32) (y []float64, far float64) {
	top, sum := math.Inf(-1), 0.0
	for _, v := range row {
		top = max(top, float64(v))
	}
	for _, v := range row {
		e := math.Exp(float64(v) - top)
		y, sum, far = append(y, e), sum+e, max(far, top-float64(v))
	}
	for i := range y {
		y[i] /= sum
	}
	return y, far
}

func TestSoftmaxRowsIsWithinItsBound(t *testing.T) {
	r := rand.New(rand.NewPCG(13, 0))
	for range 300 {
		n, width := r.IntN(7), 1+r.IntN(80)
		scale := []float32{0.1, 1, 20}[r.IntN(3)]
		x := make([]float32, n*width)
		for i := range x {
			x[i] = float32(r.NormFloat64()) * scale
		}
		got := samePaths(t, fmt.Sprint(n, width), [][]float32{x}, func(x [][]float32) { SoftmaxRows(x[0], width) })
		for at := 0; at < len(x); at += width {
			want, far := softmax64(x[at : at+width])
			bound := (2*far + float64(width)/16 + 8) * 0x1p-24
			for j, w := range want {
				if e := math.Abs(float64(got[0][at+j]) - w); e > bound*w+0x1p-149 {
					t.Fatalf("width %d: element %d is %v, want %v: %v off, bound %v", width, at+j, got[0][at+j], w, e/w, bound)
				}
			}
		}
	}
}

func TestSoftmaxRowsOfSpecialNumbersHasTheSameBits(t *testing.T) {
	r := rand.New(rand.NewPCG(14, 0))
	for range 400 {
		n, width := r.IntN(5), 1+r.IntN(60)
		x, g := fill(r, n*width), fill(r, n*width)
		samePaths(t, "softmax", [][]float32{x}, func(x [][]float32) { SoftmaxRows(x[0], width) })
		got := samePaths(t, "softmax gradient", [][]float32{g, x}, func(x [][]float32) { SoftmaxRowsGrad(x[0], x[1], width) })
		for at := 0; at < len(x); at += width {
			dot := Dot(g[at:at+width], x[at:at+width])
			for j := at; j < at+width; j++ {
				equalTo(t, "softmax gradient", j, got[0][j], x[j]*(g[j]-dot))
			}
		}
	}
	one := []float32{5, -3, 0}
	SoftmaxRows(one, 1)
	if one[0] != 1 || one[1] != 1 || one[2] != 1 {
		t.Errorf("softmax of rows of one is %v", one)
	}
	bad := []float32{1, float32(math.NaN()), 2, 1, 2, 3}
	SoftmaxRows(bad, 3)
	if bad[0] == bad[0] || bad[2] == bad[2] || bad[3] != bad[3] {
		t.Errorf("a NaN must fill its row, and no other: %v", bad)
	}
	SoftmaxRows(nil, 0)
	SoftmaxRowsGrad(nil, nil, 0)
}

func TestLayerNormRowsMatchesTheReference(t *testing.T) {
	r := rand.New(rand.NewPCG(15, 0))
	for range 200 {
		n, m := r.IntN(5), 1+r.IntN(70)
		context := fmt.Sprintf("%d x %d", n, m)
		x, dy, gamma, beta := fill(r, n*m), fill(r, n*m), fill(r, m), fill(r, m)
		empty, short := make([]float32, n*m), make([]float32, n)
		forward := func(x [][]float32) { LayerNormRows(x[0], x[1], x[2], x[0], x[3], x[4], 1e-5) }
		got := samePaths(t, context, [][]float32{x, empty, short, gamma, beta}, forward)
		back := samePaths(t, context, [][]float32{dy, got[1], got[2], gamma, make([]float32, m), make([]float32, m)}, func(x [][]float32) {
			LayerNormRowsGrad(x[0], x[4], x[5], x[0], x[1], x[2], x[3])
		})
		if !ordinary(x, dy, gamma, beta) {
			continue
		}
		dgamma := make([]float64, m)
		for i := range n {
			want, wantDX := layerNorm64(x[i*m:i*m+m], dy[i*m:i*m+m], gamma, beta, dgamma)
			for j := range m {
				// Float32 keeps 24 bits; a mean far from zero costs some of them.
				if e := math.Abs(float64(got[0][i*m+j]) - want[j]); e > 1e-4*(1+math.Abs(want[j])) {
					t.Fatalf("%s: y[%d] = %v, want %v", context, i*m+j, got[0][i*m+j], want[j])
				}
				if e := math.Abs(float64(back[0][i*m+j]) - wantDX[j]); m > 2 && e > 1e-3*(1+math.Abs(wantDX[j])) {
					t.Fatalf("%s: dx[%d] = %v, want %v", context, i*m+j, back[0][i*m+j], wantDX[j])
				}
			}
		}
		for j, w := range dgamma {
			if e := math.Abs(float64(back[4][j]) - w); e > 1e-3*(1+math.Abs(w)) {
				t.Fatalf("%s: dgamma[%d] = %v, want %v", context, j, back[4][j], w)
			}
		}
	}
}

// ordinary tells that all numbers are of moderate size.
func ordinary(xs ...[]float32) bool {
	for _, x := range xs {
		for _, v := range x {
			if !(v > -10 && v < 10) {
				return false
			}
		}
	}
	return true
}

// layerNorm64 is the reference of one row: y and dx; it adds to dgamma.
func layerNorm64(x, dy, gamma, beta []float32, dgamma []float64) (y, dx []float64) {
	m := float64(len(x))
	var mean, variance float64
	for _, v := range x {
		mean += float64(v) / m
	}
	for _, v := range x {
		variance += (float64(v) - mean) * (float64(v) - mean) / m
	}
	inverse := 1 / math.Sqrt(variance+1e-5)
	var meanG, slope float64
	for j, v := range x {
		hat := (float64(v) - mean) * inverse
		y = append(y, hat*float64(gamma[j])+float64(beta[j]))
		g := float64(dy[j]) * float64(gamma[j])
		meanG, slope = meanG+g/m, slope+g*hat/m
		dgamma[j] += float64(dy[j]) * hat
	}
	for j, v := range x {
		hat := (float64(v) - mean) * inverse
		dx = append(dx, (float64(dy[j])*float64(gamma[j])-meanG-hat*slope)*inverse)
	}
	return y, dx
}

func FuzzRowFunctions(f *testing.F) {
	f.Add(uint8(39), uint8(3), uint64(1))
	f.Fuzz(func(t *testing.T, width, n uint8, seed uint64) {
		r := rand.New(rand.NewPCG(seed, 2))
		m, rows := 1+int(width), int(n)%9
		x, y, a, b := fill(r, m*rows), fill(r, m*rows), fill(r, m), fill(r, m)
		samePaths(t, "softmax", [][]float32{x}, func(x [][]float32) { SoftmaxRows(x[0], m) })
		samePaths(t, "softmax gradient", [][]float32{x, y}, func(x [][]float32) { SoftmaxRowsGrad(x[0], x[1], m) })
		samePaths(t, "layer norm", [][]float32{x, y, a, b, make([]float32, rows)}, func(x [][]float32) {
			LayerNormRows(x[0], x[1], x[4], x[0], x[2], x[3], 1e-5)
			LayerNormRowsGrad(x[0], x[2], x[3], x[0], x[1], x[4], x[2])
		})
		norm := func(x [][]float32) *Norm { return &Norm{Mean: x[2], Inverse: x[3], Gamma: x[2], Beta: x[3]} }
		samePaths(t, "norm", [][]float32{x, y, a, b}, func(x [][]float32) {
			norm(x).Normalize(x[1], x[0], seed&1 == 0)
			norm(x).InputGrad(x[0], x[0], x[1], x[2], x[3], x[2])
			SumRows(x[2], x[0])
			SumSquaresRows(x[3], x[1], x[2])
		})
	})
}

func TestAttentionKernelsDoNotAllocate(t *testing.T) {
	x, y, a, b, c := make([]float32, 30*39), make([]float32, 30*39), make([]float32, 39), make([]float32, 39), make([]float32, 30)
	for _, path := range Paths() {
		restore, _ := SetPath(path)
		if n := testing.AllocsPerRun(5, func() {
			SoftmaxRows(x, 39)
			SoftmaxRowsGrad(x, y, 39)
			LayerNormRows(x, y, c, x, a, b, 1e-5)
			LayerNormRowsGrad(x, a, b, x, y, c, a)
			TanhSlice(x, y)
		}); n > 0 {
			t.Errorf("%s: %v allocations", path, n)
		}
		restore()
	}
}

func BenchmarkAttentionKernels(b *testing.B) {
	const n, width = 256, 39
	x, y, gamma, inverse := make([]float32, n*width), make([]float32, n*width), make([]float32, width), make([]float32, n)
	for name, f := range map[string]func(){
		"softmax": func() { SoftmaxRows(x, width) }, "softmaxgrad": func() { SoftmaxRowsGrad(x, y, width) },
		"layernorm":     func() { LayerNormRows(x, y, inverse, x, gamma, gamma, 1e-5) },
		"layernormgrad": func() { LayerNormRowsGrad(x, gamma, gamma, x, y, inverse, gamma) },
		"tanh":          func() { TanhSlice(x, y) },
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				f()
			}
			b.ReportMetric(b.Elapsed().Seconds()*1e9/float64(b.N)/n/width, "ns/element")
		})
	}
}
