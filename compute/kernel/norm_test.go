package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/fathom-train/fathom/compute/random"
)

func TestActivationKernelsAreTheirFormulas(t *testing.T) {
	r := rand.New(rand.NewPCG(6, 0))
	for range 200 {
		n := r.IntN(80)
		a, b, c := fill(r, n), fill(r, n), fill(r, n)
		got := samePaths(t, "AddReLU", [][]float32{a, b}, func(x [][]float32) { AddReLU(x[0], x[1]) })
		for i := range a {
			w := a[i] + b[i]
			if w <= 0 {
				w = 0
			}
			equalTo(t, "AddReLU", i, got[0][i], w)
		}
		got = samePaths(t, "ActivationGrad", [][]float32{a, b, c}, func(x [][]float32) { ActivationGrad(x[0], x[1], x[2], 1.25) })
		for i := range a {
			w := float32(0)
			if c[i] > 0 {
				w = b[i] * 1.25
			}
			equalTo(t, "ActivationGrad", i, got[0][i], w)
		}
	}
}

func TestNormKernelsAreTheirFormulas(t *testing.T) {
	r := rand.New(rand.NewPCG(7, 0))
	for range 150 {
		n, m := r.IntN(12), 1+r.IntN(50)
		context := fmt.Sprintf("%d x %d", n, m)
		x, dy := fill(r, n*m), fill(r, n*m)
		mean, inverse, gamma, beta := fill(r, m), fill(r, m), fill(r, m), fill(r, m)
		slope, shift, scale := fill(r, m), fill(r, m), fill(r, m)
		norm := func(x [][]float32) *Norm { return &Norm{Mean: x[0], Inverse: x[1], Gamma: x[2], Beta: x[3]} }
		hat := func(i int) float32 { return float32((x[i] - mean[i%m]) * inverse[i%m]) }

		got := samePaths(t, context, [][]float32{beta, x, mean}, func(x [][]float32) { SumSquaresRows(x[0], x[1], x[2]) })
		for j := range m {
			w := beta[j]
			for i := j; i < n*m; i += m {
				d := x[i] - mean[j]
				w += float32(d * d)
			}
			if n > 0 {
				equalTo(t, "SumSquaresRows", j, got[0][j], w)
			}
		}
		for _, relu := range []bool{false, true} {
			got = samePaths(t, context, [][]float32{mean, inverse, gamma, beta, dy, x}, func(x [][]float32) { norm(x).Normalize(x[4], x[5], relu) })
			for i := range x {
				w := float32(hat(i)*gamma[i%m]) + beta[i%m]
				if relu && w <= 0 {
					w = 0
				}
				equalTo(t, "Normalize", i, got[4][i], w)
			}
		}
		got = samePaths(t, context, [][]float32{mean, inverse, slope, shift, dy, x}, func(x [][]float32) { norm(x).GradSums(x[2], x[3], x[4], x[5]) })
		for j := range m {
			g, b := slope[j], shift[j]
			for i := j; i < n*m; i += m {
				b += dy[i]
				g += float32(dy[i] * hat(i))
			}
			if n > 0 {
				equalTo(t, "GradSums gamma", j, got[2][j], g)
				equalTo(t, "GradSums beta", j, got[3][j], b)
			}
		}
		got = samePaths(t, context, [][]float32{mean, inverse, slope, shift, scale, dy, x}, func(x [][]float32) {
			norm(x).InputGrad(x[5], x[5], x[6], x[2], x[3], x[4])
		})
		for i := range x {
			w := (float32(hat(i)*slope[i%m]) + shift[i%m] + dy[i]) * scale[i%m]
			equalTo(t, "InputGrad", i, got[5][i], w)
		}
	}
}

func TestWordsAreThoseOfTheStream(t *testing.T) {
	for _, path := range Paths() {
		restore, _ := SetPath(path)
		for n := range 21 {
			for _, first := range []uint64{0, 7, 1 << 40, math.MaxUint64 - 5} {
				dst := make([]uint64, n+1)
				Words(dst[:n], 0x123456789abcdef*uint64(n+1), first)
				for i, w := range dst[:n] {
					if want := random.Word(0x123456789abcdef*uint64(n+1), first+uint64(i)); w != want {
						t.Fatalf("%s: word %d from %d is %#x, want %#x", path, i, first, w, want)
					}
				}
				if dst[n] != 0 {
					t.Fatalf("%s: wrote past the end", path)
				}
			}
		}
		restore()
	}
}

func TestDropDecidesByPosition(t *testing.T) {
	const stream = 99
	r := rand.New(rand.NewPCG(9, 0))
	for range 100 {
		n, first, threshold := r.IntN(3000), uint64(r.IntN(50)), uint32(r.IntN(1<<16))
		x := fill(r, n)
		got := samePaths(t, fmt.Sprint(n, first), [][]float32{x, x}, func(x [][]float32) { Drop(x[0], x[1], stream, first, threshold, 1.5) })
		for i, v := range x {
			e := first + uint64(i)
			w := v * 1.5
			if uint32(random.Word(stream, e/4)>>(16*(e%4))&0xffff) < threshold {
				w = 0
			}
			equalTo(t, "Drop", i, got[0][i], w)
		}
	}
}

func TestNormKernelsRejectUnequalLengths(t *testing.T) {
	x, y := make([]float32, 9), make([]float32, 8)
	n := Norm{Mean: y, Inverse: y, Gamma: y, Beta: y}
	for name, f := range map[string]func(){
		"SumRows": func() { SumRows(y, x) }, "SumSquaresRows": func() { SumSquaresRows(y, y, x) },
		"PairsGrad": func() { PairsGrad(x, x, y, 1, true) }, "AddReLU": func() { AddReLU(x, y) },
		"ActivationGrad": func() { ActivationGrad(x, x, y, 1) }, "Normalize": func() { n.Normalize(y, x, true) },
		"GradSums": func() { n.GradSums(y, y, x, y) }, "InputGrad": func() { n.InputGrad(y, y, y, y, y, x) },
		"Drop": func() { Drop(x, y, 1, 0, 1, 1) }, "SumRows of nothing": func() { SumRows(nil, x) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s took unequal lengths", name)
				}
			}()
			f()
		}()
	}
}

func TestRowKernelsDoNotAllocate(t *testing.T) {
	x, v, index := make([]float32, 40*16), make([]float32, 16), make([]int32, 40)
	n := Norm{Mean: v, Inverse: v, Gamma: v, Beta: v}
	for _, path := range Paths() {
		restore, _ := SetPath(path)
		if allocs := testing.AllocsPerRun(5, func() {
			SumRows(v, x)
			SumSquaresRows(v, x, v)
			n.Normalize(x, x, true)
			n.GradSums(v, v, x, x)
			n.InputGrad(x, x, x, v, v, v)
			Drop(x, x, 1, 0, 1, 1)
			GatherRows(x, 16, x, 16, index)
			ScatterRows(x, 16, x, 16, index)
		}); allocs != 0 {
			t.Errorf("%s: %v allocations", path, allocs)
		}
		restore()
	}
}
