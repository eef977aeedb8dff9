package gemm

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/fathom-train/fathom/compute/kernel"
)

// checkBatched compares a batch on every path with one Gemm per pair.
func checkBatched(t *testing.T, rng *rand.Rand, outer, inner, m, n, k int, transA, transB bool) {
	t.Helper()
	stored := func(rows, cols int, trans bool) Operand {
		if trans {
			rows, cols = cols, rows
		}
		// The inner matrices side by side, as the heads of attention are.
		x := Operand{Trans: trans, Stride: cols*inner + rng.IntN(3)}
		x.Inner, x.Outer = cols, rows*x.Stride+rng.IntN(3)
		x.Data = make([]float32, outer*x.Outer+256) // an empty matrix begins somewhere, too
		for i := range x.Data {
			x.Data[i] = float32(rng.NormFloat64())
		}
		return x
	}
	a, b, c := stored(m, k, transA), stored(k, n, transB), stored(m, n, false)
	spoil(rng, a.Data, 1, awkward)
	spoil(rng, b.Data, 1, awkward)
	want := append([]float32(nil), c.Data...)
	for o := range outer {
		for i := range inner {
			at := o*c.Outer + i*c.Inner
			Gemm(transA, transB, m, n, k, a.at(o, i), a.Stride, b.at(o, i), b.Stride, want[at:], c.Stride, false)
		}
	}
	before := c.Data
	for _, path := range kernel.Paths() {
		restore, _ := kernel.SetPath(path)
		c.Data = append([]float32(nil), before...)
		Batched(outer, inner, m, n, k, a, b, c)
		restore()
		for i := range want {
			if math.Float32bits(c.Data[i]) != math.Float32bits(want[i]) {
				t.Fatalf("%s, %d x %d of %d,%d,%d %v %v: element %d is %v, want %v",
					path, outer, inner, m, n, k, transA, transB, i, c.Data[i], want[i])
			}
		}
	}
}

func TestBatchedGivesTheBitsOfGemm(t *testing.T) {
	rng := rand.New(rand.NewPCG(11, 0))
	for _, s := range [][3]int{{39, 39, 32}, {39, 32, 39}, {6, 16, 1}, {7, 17, 3}, {10, 10, 8}, {5, 40, 9}, {40, 5, 9}, {12, 16, 700}, {18, 31, 0}} {
		for trans := range 4 {
			checkBatched(t, rng, 1+rng.IntN(3), 1+rng.IntN(2), s[0], s[1], s[2], trans&1 != 0, trans&2 != 0)
		}
	}
}

func FuzzBatched(f *testing.F) {
	f.Add(uint8(39), uint8(32), uint8(39), uint8(1), uint64(3))
	f.Fuzz(func(t *testing.T, m, n, k, flags uint8, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 1))
		checkBatched(t, rng, 1+int(flags>>2)%3, 1+int(flags>>4)%3, 1+int(m)%48, 1+int(n)%48, int(k)%70, flags&1 != 0, flags&2 != 0)
	})
}

func TestBatchedRefusesWhatItCannotDo(t *testing.T) {
	x := Operand{Data: make([]float32, 40*40), Stride: 40}
	trans, short := x, x
	trans.Trans = true
	short.Data = short.Data[:39*40]
	for name, f := range map[string]func(){
		"transposed result": func() { Batched(1, 1, 40, 40, 40, x, x, trans) },
		"short a":           func() { Batched(1, 1, 40, 40, 40, short, x, x) },
		"short b":           func() { Batched(1, 1, 40, 40, 40, x, short, x) },
		"short c":           func() { Batched(1, 1, 40, 40, 40, x, x, short) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
}

func TestBatchedDoesNotAllocate(t *testing.T) {
	x := Operand{Data: make([]float32, 4*39*64), Stride: 64, Strides: Strides{39 * 64, 32}}
	y := Operand{Data: make([]float32, 8*39*39), Stride: 39, Strides: Strides{2 * 39 * 39, 39 * 39}}
	b := x
	b.Trans = true
	Batched(4, 2, 39, 39, 32, x, b, y)
	if n := testing.AllocsPerRun(10, func() { Batched(4, 2, 39, 39, 32, x, b, y) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkBatched(b *testing.B) {
	const samples, heads, f, width = 64, 2, 39, 32
	x := Operand{Data: make([]float32, samples*f*heads*width), Stride: heads * width, Strides: Strides{f * heads * width, width}}
	p := Operand{Data: make([]float32, samples*heads*f*f), Stride: f, Strides: Strides{heads * f * f, f * f}}
	xT, pT := x, p
	xT.Trans, pT.Trans = true, true
	y := x
	y.Data = make([]float32, len(x.Data))
	for _, c := range []struct {
		name    string
		m, n, k int
		a, b, c Operand
	}{{"scores", f, f, width, x, xT, p}, {"mix", f, width, f, p, x, y}, {"mixT", f, width, f, pT, x, y}} {
		b.Run(fmt.Sprintf("%s/%dx%dx%d", c.name, c.m, c.k, c.n), func(b *testing.B) {
			start := cpuSeconds()
			for b.Loop() {
				Batched(samples, heads, c.m, c.n, c.k, c.a, c.b, c.c)
			}
			b.ReportMetric(2*samples*heads*float64(c.m*c.n*c.k)*float64(b.N)/(cpuSeconds()-start)/1e9, "GFLOP/cpu-s")
		})
	}
}

func TestProductsOfEveryKindGiveTheSameBits(t *testing.T) {
	rng := rand.New(rand.NewPCG(21, 0))
	for range 150 {
		m, n, k := 1+rng.IntN(140), 1+rng.IntN(140), 1+rng.IntN(300)
		if rng.IntN(2) == 0 {
			n = (n + 15) / 16 * 16
		}
		transA, transB, acc := rng.IntN(2) == 0, rng.IntN(3) == 0, rng.IntN(2) == 0
		lda, ldb := k, n
		if transA {
			lda = m
		}
		if transB {
			ldb = k
		}
		a, b, c := matrix(rng, m, k, k), matrix(rng, k, n, n), matrix(rng, m, n, n)
		spoil(rng, a, 1, awkward)
		var want []float32
		for _, path := range kernel.Paths() {
			restore, _ := kernel.SetPath(path)
			got := append([]float32(nil), c...)
			Gemm(transA, transB, m, n, k, a, lda, b, ldb, got, n, acc)
			restore()
			if want == nil {
				want = got
			}
			for i := range want {
				if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
					t.Fatalf("%s, %d,%d,%d %v %v accumulate %v: element %d is %v, want %v", path, m, n, k, transA, transB, acc, i, got[i], want[i])
				}
			}
		}
	}
}
