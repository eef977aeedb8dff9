package gemm

import (
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/fathom-train/fathom/compute/kernel"
)

// awkwardBF16 are operands at the edges of the conversion: ties up and down,
// what rounds to infinity and to the least operand, and what is flushed.
var awkwardBF16 = append([]float32{
	1 + 0x1p-8, 1 + 0x3p-8, 1 + 0x1p-8 + 0x1p-23, -1 - 0x1p-8, 0x1.fep0, 0x1.ffp0, math.MaxFloat32, -math.MaxFloat32, 0x1.fep127, 0x1.fefffep127,
	0x1p-56, -0x1p-56, 0x1.fefffep-57, 0x1.ffp-57, 0x1p-63, 0x1p-126, 0x1.02p-56, 0x1.8p63, -0x1.8p63, 0x1.fp64,
}, awkward...)

// roundByDefinition rounds with the arithmetic of big numbers.
func roundByDefinition(x float32) float32 {
	if x != x || math.IsInf(float64(x), 0) {
		return kernel.Canonical(x)
	}
	r, _ := new(big.Float).SetPrec(8).SetMode(big.ToNearestEven).SetFloat64(float64(x)).Float32()
	if math.Abs(float64(r)) < BF16Tiny {
		return 0
	}
	return r
}

func TestRoundBF16(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 7))
	check := func(x float32) {
		t.Helper()
		if got, want := RoundBF16(x), roundByDefinition(x); math.Float32bits(got) != math.Float32bits(want) {
			t.Fatalf("RoundBF16(%x) = %x, want %x", x, got, want)
		}
	}
	for _, x := range awkwardBF16 {
		check(x)
	}
	for range 200000 {
		check(math.Float32frombits(rng.Uint32()))
		check(math.Float32frombits(rng.Uint32()&^0xffff | 0x7fff + rng.Uint32N(3)))
	}
}

func TestRoundRowHasTheBitsOfTheDefinitionOnEveryPath(t *testing.T) {
	rng := rand.New(rand.NewPCG(2, 7))
	for n := range 130 {
		src := make([]float32, n+3)
		for i := range src {
			src[i] = math.Float32frombits(rng.Uint32())
		}
		spoil(rng, src, 3, awkwardBF16)
		for _, path := range kernel.Paths() {
			restore, err := kernel.SetPath(path)
			if err != nil {
				t.Fatal(err)
			}
			dst := make([]float32, n+2)
			dst[0], dst[n+1] = guard, guard
			roundRow(dst[1:n+1], src)
			restore()
			if dst[0] != guard || dst[n+1] != guard {
				t.Fatalf("%s, n=%d: wrote outside", path, n)
			}
			for i, v := range dst[1 : n+1] {
				if math.Float32bits(v) != math.Float32bits(RoundBF16(src[i])) {
					t.Fatalf("%s, n=%d: %x became %x, want %x", path, n, src[i], v, RoundBF16(src[i]))
				}
			}
		}
	}
}

// product is one call of GemmBF16.
type product struct {
	transA, transB bool
	m, n, k        int
	lda, ldb, ldc  int
	a, b, c        []float32
}

func (p *product) String() string {
	return fmt.Sprintf("m=%d n=%d k=%d transA=%v transB=%v lda=%d ldb=%d ldc=%d", p.m, p.n, p.k, p.transA, p.transB, p.lda, p.ldb, p.ldc)
}

// newProduct makes guarded matrices with strides up to two above the least.
func newProduct(rng *rand.Rand, transA, transB bool, m, n, k int) *product {
	p := &product{transA: transA, transB: transB, m: m, n: n, k: k}
	ra, ca, rb, cb := m, k, k, n
	if transA {
		ra, ca = ca, ra
	}
	if transB {
		rb, cb = cb, rb
	}
	p.lda, p.ldb, p.ldc = max(1, ca)+rng.IntN(3), max(1, cb)+rng.IntN(3), n+rng.IntN(3)
	p.a, p.b, p.c = matrix(rng, ra, ca, p.lda), matrix(rng, rb, cb, p.ldb), matrix(rng, m, n, p.ldc)
	return p
}

// stretch multiplies the elements by random powers of two.
func stretch(rng *rand.Rand, x []float32, lo, hi int) {
	for i := range x {
		if x[i] != guard {
			x[i] = float32(math.Ldexp(float64(x[i]), lo+rng.IntN(hi-lo)))
		}
	}
}

// onEveryPathBF16 runs f on every path, on avx512 with and without the instruction.
func onEveryPathBF16(t *testing.T, f func(path string)) {
	t.Helper()
	defer func(old bool) { fastBF16 = old }(fastBF16)
	for _, path := range kernel.Paths() {
		for _, fastBF16 = range []bool{false, true} {
			if fastBF16 && path != kernel.AVX512 {
				continue
			}
			restore, err := kernel.SetPath(path)
			if err != nil {
				t.Fatal(err)
			}
			if fastBF16 {
				path += " with VDPBF16PS"
			}
			f(path)
			restore()
		}
	}
}

// check compares all paths and numbers of goroutines with the definition.
func (p *product) check(t *testing.T) {
	t.Helper()
	round := func(x []float32) []float32 {
		r := make([]float32, len(x))
		for i, v := range x {
			r[i] = RoundBF16(v)
		}
		return r
	}
	want := append([]float32(nil), p.c...)
	reference(p.transA, p.transB, p.m, p.n, p.k, round(p.a), p.lda, round(p.b), p.ldb, want, p.ldc, false)
	for i, v := range want {
		if v != 0 && math.Abs(float64(v)) < 0x1p-126 {
			t.Fatalf("%v: element %d is %x, a subnormal", p, i, v)
		}
	}
	onEveryPathBF16(t, func(path string) {
		for _, workers := range []int{1, 3} {
			got := append([]float32(nil), p.c...)
			a, b := view("A", p.transA, p.m, p.k, p.a, p.lda), view("B", p.transB, p.k, p.n, p.b, p.ldb)
			switch {
			case workers == 1 || p.k == 0 || !wide():
				GemmBF16(p.transA, p.transB, p.m, p.n, p.k, p.a, p.lda, p.b, p.ldb, got, p.ldc)
			case hasBF16():
				parallelBF16(workers, p.m, p.n, p.k, a, b, got, p.ldc, Epilogue{})
			default:
				a.round, b.round = true, true
				parallel(workers, p.m, p.n, p.k, a, b, got, p.ldc, false, Epilogue{})
			}
			for i := range got {
				if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
					t.Fatalf("%s, %d goroutines, %v: element %d is %x, want %x", path, workers, p, i, got[i], want[i])
				}
			}
		}
	})
}

func TestGemmBF16HasTheBitsOfTheDefinitionOnEveryPath(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 7))
	shapes := [][3]int{{1, 1, 1}, {14, 32, 2}, {14, 16, 3}, {15, 33, 5}, {13, 31, 1}, {28, 48, 640}, {14, 17, 642}, {3, 1030, 9},
		{170, 20, 30}, {6, 16, 0}, {30, 1, 65}, {1, 40, 641}, {29, 49, 1283}, {14, 15, 31}, {14, 64, 33}}
	for range 20 {
		shapes = append(shapes, [3]int{1 + rng.IntN(50), 1 + rng.IntN(90), 1 + rng.IntN(200)})
	}
	for _, s := range shapes {
		for flags := range 4 {
			p := newProduct(rng, flags&1 != 0, flags&2 != 0, s[0], s[1], s[2])
			switch rng.IntN(6) {
			case 0: // anything, everywhere
				spoil(rng, p.a, 20, awkwardBF16)
				spoil(rng, p.b, 20, awkwardBF16)
			case 1: // one NaN or infinity in many sums at most
				spoil(rng, p.a, 4*s[2]+1, awkwardBF16)
				spoil(rng, p.b, 4*s[2]+1, awkwardBF16)
			case 2: // around the least operand
				stretch(rng, p.a, -66, -50)
				stretch(rng, p.b, -66, -50)
			case 3: // sums that overflow, some in the middle
				stretch(rng, p.a, 55, 66)
				stretch(rng, p.b, 55, 66)
			case 4: // few different numbers, so that sums cancel
				spoil(rng, p.a, 1, []float32{1, -1, 0x1p-20, -0x1p-20, 0x1p20, -0x1p20})
				spoil(rng, p.b, 1, []float32{1, -1, 1 + 0x1p-7, -1 - 0x1p-7, 0x1p-56, -0x1p-56})
			}
			p.check(t)
		}
	}
}

// The instruction and its description were compared on numbers that the
// conversion lets through; more of them than in any product of the other tests.
func TestTheInstructionDoesWhatTheDefinitionSays(t *testing.T) {
	defer func(old bool) { fastBF16 = old }(fastBF16)
	if fastBF16 = true; !hasBF16() {
		t.Skip("this machine has no bfloat16 instructions")
	}
	rng := rand.New(rand.NewPCG(4, 7))
	for range 40 {
		// One pair per chain, from every sum an earlier pair can leave.
		p := newProduct(rng, rng.IntN(2) == 0, rng.IntN(2) == 0, 28, 96, 4+2*rng.IntN(4))
		for _, x := range [][]float32{p.a, p.b} {
			for i := range x {
				if x[i] != guard {
					x[i] = math.Float32frombits(rng.Uint32())
				}
			}
			lo := rng.IntN(200) - 100
			if rng.IntN(4) > 0 {
				for i := range x {
					if x[i] != guard {
						x[i] = math.Float32frombits(rng.Uint32()&0x807fffff | uint32(127+lo+rng.IntN(20))<<23)
					}
				}
			}
		}
		p.check(t)
	}
}

func TestGemmBF16IsCloseToGemm(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 7))
	p := newProduct(rng, false, true, 50, 70, 300)
	want := append([]float32(nil), p.c...)
	Gemm(p.transA, p.transB, p.m, p.n, p.k, p.a, p.lda, p.b, p.ldb, want, p.ldc, false)
	GemmBF16(p.transA, p.transB, p.m, p.n, p.k, p.a, p.lda, p.b, p.ldb, p.c, p.ldc)
	var diff, size float64
	for i, v := range want {
		diff += float64(v-p.c[i]) * float64(v-p.c[i])
		size += float64(v) * float64(v)
	}
	// Each operand is off by 2^-9 at most, a third of it on average; errors of
	// different products cancel.
	if off := math.Sqrt(diff / size); off > 0x1p-8 || off == 0 {
		t.Errorf("the product is off by %v", off)
	}
}

func TestEpilogueInBF16GivesTheBitsOfSeparateCalls(t *testing.T) {
	defer SetThreads(1)
	rng := rand.New(rand.NewPCG(8, 7))
	for _, s := range [][3]int{{20, 40, 30}, {200, 50, 1290}, {15, 1100, 70}, {3, 4, 0}, {1, 30, 5}} {
		p := newProduct(rng, false, true, s[0], s[1], s[2])
		bias := matrix(rng, 1, p.n, p.n)
		onEveryPathBF16(t, func(path string) {
			want := append([]float32(nil), p.c...)
			GemmBF16(false, true, p.m, p.n, p.k, p.a, p.lda, p.b, p.ldb, want, p.ldc)
			for i := range p.m {
				row := want[i*p.ldc : i*p.ldc+p.n]
				kernel.Add(row, bias)
				kernel.ReLU(row, row)
			}
			for _, threads := range []int{1, 3} {
				SetThreads(threads)
				got := append([]float32(nil), p.c...)
				GemmBF16With(false, true, p.m, p.n, p.k, p.a, p.lda, p.b, p.ldb, got, p.ldc, Epilogue{Bias: bias, ReLU: true})
				for i := range got {
					if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
						t.Fatalf("%s, %d threads, %v: element %d is %v, want %v", path, threads, p, i, got[i], want[i])
					}
				}
			}
		})
	}
}

func TestGemmBF16DoesNotAllocateOnceWarm(t *testing.T) {
	a, b, c := make([]float32, 64*64), make([]float32, 64*64), make([]float32, 64*64)
	onEveryPathBF16(t, func(path string) {
		if n := testing.AllocsPerRun(20, func() { GemmBF16(false, true, 63, 61, 60, a, 64, b, 64, c, 64) }); n > 0 {
			t.Errorf("%s: %v allocations per call, want 0", path, n)
		}
	})
}

func TestThreadsDoNotChangeTheResultInBF16(t *testing.T) {
	defer SetThreads(1)
	rng := rand.New(rand.NewPCG(6, 7))
	for _, s := range [][3]int{{300, 70, 60}, {20, 900, 70}} {
		p := newProduct(rng, false, false, s[0], s[1], s[2])
		var want []float32
		for _, threads := range []int{1, 2, 3, 64} {
			SetThreads(threads)
			c := append([]float32(nil), p.c...)
			GemmBF16(false, false, p.m, p.n, p.k, p.a, p.lda, p.b, p.ldb, c, p.ldc)
			if want == nil {
				want = c
			}
			for i := range c {
				if math.Float32bits(c[i]) != math.Float32bits(want[i]) {
					t.Fatalf("%v, %d threads: element %d is %v, want %v", s, threads, i, c[i], want[i])
				}
			}
		}
	}
}

func FuzzGemmBF16(f *testing.F) {
	f.Add(uint8(14), uint8(32), uint8(9), uint8(0), uint64(1), int8(0))
	f.Add(uint8(1), uint8(70), uint8(30), uint8(3), uint64(2), int8(-60))
	f.Add(uint8(15), uint8(47), uint8(31), uint8(1), uint64(3), int8(60))
	f.Fuzz(func(t *testing.T, m8, n8, k8, flags uint8, seed uint64, scale int8) {
		rng := rand.New(rand.NewPCG(seed, 0))
		p := newProduct(rng, flags&1 != 0, flags&2 != 0, 1+int(m8)%60, 1+int(n8)%100, 1+int(k8))
		stretch(rng, p.a, int(scale)/2-4, int(scale)/2+4)
		stretch(rng, p.b, int(scale)/2-4, int(scale)/2+4)
		if flags&4 != 0 {
			spoil(rng, p.a, 5, awkwardBF16)
			spoil(rng, p.b, 5, awkwardBF16)
		}
		p.check(t)
	})
}

func BenchmarkGemmBF16(b *testing.B) {
	for _, s := range []struct {
		name           string
		transA, transB bool
		m, n, k        int
	}{
		{"forward", false, true, 4096, 400, 624}, {"forward", false, true, 4096, 400, 400}, {"forward", false, true, 4096, 400, 160},
		{"forward", false, true, 1024, 400, 624}, {"forward", false, true, 1024, 400, 400},
		{"dX", false, false, 4096, 400, 400}, {"dX", false, false, 4096, 624, 400}, {"dX", false, false, 1024, 624, 400},
		{"dW", true, false, 400, 400, 4096}, {"dW", true, false, 400, 624, 4096}, {"dW", true, false, 400, 624, 1024},
	} {
		for _, path := range kernel.Paths()[1:] {
			b.Run(fmt.Sprintf("%s/%dx%dx%d/%s", s.name, s.m, s.k, s.n, path), func(b *testing.B) {
				restore, err := kernel.SetPath(path)
				if err != nil {
					b.Fatal(err)
				}
				defer restore()
				lda, ldb := s.k, s.n
				if s.transA {
					lda = s.m
				}
				if s.transB {
					ldb = s.k
				}
				rng := rand.New(rand.NewPCG(1, 1))
				x, y, z := matrix(rng, s.m, s.k, s.k), matrix(rng, s.k, s.n, s.n), make([]float32, s.m*s.n)
				start := cpuSeconds()
				for b.Loop() {
					GemmBF16(s.transA, s.transB, s.m, s.n, s.k, x, lda, y, ldb, z, s.n)
				}
				b.ReportMetric(2*float64(s.m)*float64(s.n)*float64(s.k)*float64(b.N)/(cpuSeconds()-start)/1e9, "GFLOP/cpu-s")
			})
		}
	}
}
