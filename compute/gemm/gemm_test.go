package gemm

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/fathom-train/fathom/compute/kernel"
)

const guard = float32(-12345.5)

// matrix returns a stored matrix of r rows and stride ld, guarded between rows.
func matrix(rng *rand.Rand, r, c, ld int) []float32 {
	x := make([]float32, r*ld)
	for i := range x {
		x[i] = guard
		if i%ld < c {
			x[i] = float32(rng.NormFloat64())
		}
	}
	return x
}

// awkward are the numbers where multiplications go wrong: NaN of two kinds,
// infinities, subnormals, and small integers, whose sums are ties.
var awkward = []float32{
	0, float32(math.Copysign(0, -1)), 1, 3, 16777215, 0.5, 1e-45, -3e-39, 0x1p-126, 0x1p-75, -0x1p-75, 1e-20, 3e38, -3e38,
	float32(math.Inf(1)), float32(math.Inf(-1)), float32(math.NaN()), math.Float32frombits(0xffc00123),
}

// spoil replaces about one element of x in every by an awkward one. Guard words
// stay.
func spoil(rng *rand.Rand, x []float32, every int, from []float32) {
	for i := range x {
		if x[i] != guard && rng.IntN(every) == 0 {
			x[i] = from[rng.IntN(len(from))]
		}
	}
}

// reference is the definition: one chain of fused multiply-adds per element.
func reference(transA, transB bool, m, n, k int, a []float32, lda int, b []float32, ldb int, c []float32, ldc int, accumulate bool) {
	for i := range m {
		for j := range n {
			acc := float32(0)
			if accumulate {
				acc = c[i*ldc+j]
			}
			for p := range k {
				x, y := 0, 0
				if x = i*lda + p; transA {
					x = p*lda + i
				}
				if y = p*ldb + j; transB {
					y = j*ldb + p
				}
				acc = kernel.FMA(a[x], b[y], acc)
			}
			c[i*ldc+j] = acc
		}
	}
}

func TestGemmHasTheBitsOfTheDefinitionOnEveryPath(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	shapes := [][3]int{{1, 1, 1}, {6, 16, 4}, {7, 17, 5}, {5, 15, 3}, {1, 40, 300}, {40, 1, 300}, {13, 33, 257}, {121, 31, 70}, {130, 20, 600}, {3, 1030, 9}, {6, 16, 0}}
	for range 20 {
		shapes = append(shapes, [3]int{1 + rng.IntN(40), 1 + rng.IntN(60), 1 + rng.IntN(300)})
	}
	for _, s := range shapes {
		m, n, k := s[0], s[1], s[2]
		for flags := range 8 {
			transA, transB, acc := flags&1 != 0, flags&2 != 0, flags&4 != 0
			ar, ac, br, bc := m, k, k, n
			if transA {
				ar, ac = ac, ar
			}
			if transB {
				br, bc = bc, br
			}
			lda, ldb, ldc := max(1, ac)+rng.IntN(3), max(1, bc)+rng.IntN(3), n+rng.IntN(3)
			a, b, c := matrix(rng, ar, ac, lda), matrix(rng, br, bc, ldb), matrix(rng, m, n, ldc)
			switch rng.IntN(4) {
			case 0: // anything, everywhere
				spoil(rng, a, 20, awkward)
				spoil(rng, b, 20, awkward)
				spoil(rng, c, 10, awkward)
			case 1: // finite numbers only, so that sums stay finite
				spoil(rng, a, 2, awkward[:12])
				spoil(rng, b, 2, awkward[:12])
			}
			want := append([]float32(nil), c...)
			reference(transA, transB, m, n, k, a, lda, b, ldb, want, ldc, acc)
			for _, path := range kernel.Paths() {
				for _, workers := range []int{1, 3} {
					got := append([]float32(nil), c...)
					restore, err := kernel.SetPath(path)
					if err != nil {
						t.Fatal(err)
					}
					if workers == 1 {
						Gemm(transA, transB, m, n, k, a, lda, b, ldb, got, ldc, acc)
					} else if k > 0 {
						parallel(workers, m, n, k, view("A", transA, m, k, a, lda), view("B", transB, k, n, b, ldb), got, ldc, acc, Epilogue{})
					} else {
						copy(got, want)
					}
					restore()
					for i := range got {
						if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
							t.Fatalf("%s, %d goroutines, m=%d n=%d k=%d transA=%v transB=%v accumulate=%v: element %d is %v, want %v",
								path, workers, m, n, k, transA, transB, acc, i, got[i], want[i])
						}
					}
				}
			}
		}
	}
}

// The second product is half a unit of the first, almost: rounding the sum to
// float64 makes it a tie, and rounding that again goes wrong. The scale moves
// the sums to where float32 is subnormal.
func TestSumsThatMustNotBeRoundedTwice(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 9))
	for _, scale := range []float32{1, 0x1p-120, 0x1p-128, 0x1p-130} {
		for _, s := range [][2]int{{6, 16}, {7, 33}, {1, 70}, {70, 1}} {
			if s[0] == 1 && scale < 0x1p-126 {
				continue // one subnormal, which may happen to be even
			}
			m, n, e := s[0], s[1], float32(1+rng.IntN(60))*0x1p-23
			a, b := make([]float32, m*2), make([]float32, 2*n)
			for i := range m {
				// Odd in the last place, so that a tie goes up, which is wrong.
				a[2*i], a[2*i+1] = 1+float32(rng.IntN(1<<23)|1)*0x1p-23, (1+e)*0x1p-60
			}
			for j := range n {
				b[j], b[n+j] = scale, (1-e)*max(0x1p36*scale, 0x1p-90)
			}
			want := make([]float32, m*n)
			reference(false, false, m, n, 2, a, 2, b, n, want, n, false)
			differ := 0
			for i := range want {
				p := float64(float32(float64(a[i/n*2]) * float64(b[i%n])))
				if float32(p+float64(a[i/n*2+1])*float64(b[n+i%n])) != want[i] {
					differ++
				}
			}
			if differ == 0 {
				t.Errorf("scale %v, %v: no sum is rounded wrongly by two roundings", scale, s)
			}
			for _, path := range kernel.Paths() {
				restore, err := kernel.SetPath(path)
				if err != nil {
					t.Fatal(err)
				}
				got := make([]float32, m*n)
				Gemm(false, false, m, n, 2, a, 2, b, n, got, n, false)
				restore()
				for i := range got {
					if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
						t.Fatalf("%s, scale %v, %v: element %d is %x, want %x", path, scale, s, i, got[i], want[i])
					}
				}
			}
		}
	}
}

func TestGemmRejectsShortSlices(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("a short B was accepted")
		}
	}()
	Gemm(false, false, 2, 3, 4, make([]float32, 8), 4, make([]float32, 11), 3, make([]float32, 6), 3, false)
}

func TestGemmDoesNotAllocateOnceWarm(t *testing.T) {
	defer SetThreads(1)
	a, b, c := make([]float32, 1024*64), make([]float32, 64*64), make([]float32, 1024*64)
	for _, threads := range []int{1, 2} {
		SetThreads(threads)
		for _, s := range [][3]int{{64, 64, 64}, {1, 64, 64}, {64, 1, 64}, {63, 61, 60}, {1024, 64, 64}} {
			if n := testing.AllocsPerRun(20, func() { Gemm(false, true, s[0], s[1], s[2], a, 64, b, 64, c, 64, true) }); n > 0 {
				t.Errorf("%d threads, %v: %v allocations per call, want 0", threads, s, n)
			}
		}
	}
}

// Pieces of rows and of columns, a shared B with every kind of last strip and last
// piece, several blocks of k, single rows and columns; alone, added to C, and
// with an epilogue.
func TestThreadsDoNotChangeTheResult(t *testing.T) {
	defer SetThreads(1)
	rng := rand.New(rand.NewPCG(5, 6))
	shapes := [][3]int{
		{300, 70, 240}, {143, 90, 400}, {550, 17, 500}, {560, 16, 480}, {518, 64, 130}, {760, 11, 513}, {70, 900, 70}, {1, 2000, 600}, {2000, 1, 600},
	}
	for _, s := range shapes {
		m, n, k := s[0], s[1], s[2]
		if alone(m, n, k) {
			t.Fatalf("%v is too small to be shared out", s)
		}
		a, b, before := matrix(rng, m, k, k), matrix(rng, n, k, k), matrix(rng, m, n, n)
		spoil(rng, a, 3*k, awkward)
		bias := matrix(rng, 1, n, n)
		for _, path := range kernel.Paths() {
			restore, err := kernel.SetPath(path)
			if err != nil {
				t.Fatal(err)
			}
			for kind, f := range map[string]func(c []float32){
				"alone": func(c []float32) { Gemm(false, true, m, n, k, a, k, b, k, c, n, false) },
				"added": func(c []float32) { Gemm(false, true, m, n, k, a, k, b, k, c, n, true) },
				"with an epilogue": func(c []float32) {
					GemmWith(false, true, m, n, k, a, k, b, k, c, n, Epilogue{Bias: bias, ReLU: true})
				},
				"in bf16": func(c []float32) { GemmBF16(false, true, m, n, k, a, k, b, k, c, n) },
			} {
				var want []float32
				for _, threads := range []int{1, 2, 3, 64} {
					SetThreads(threads)
					c := append([]float32(nil), before...)
					f(c)
					if want == nil {
						want = c
					}
					for i := range c {
						if math.Float32bits(c[i]) != math.Float32bits(want[i]) {
							t.Fatalf("%s, %v %s, %d threads: element %d is %v, want %v", path, s, kind, threads, i, c[i], want[i])
						}
					}
				}
			}
			restore()
		}
	}
}

func FuzzGemm(f *testing.F) {
	f.Add(uint8(7), uint8(17), uint8(9), uint8(0), uint64(1))
	f.Add(uint8(1), uint8(70), uint8(30), uint8(5), uint64(2))
	f.Fuzz(func(t *testing.T, m8, n8, k8, flags uint8, seed uint64) {
		rng := rand.New(rand.NewPCG(seed, 0))
		m, n, k := 1+int(m8)%40, 1+int(n8)%80, 1+int(k8)
		transA, transB, acc := flags&1 != 0, flags&2 != 0, flags&4 != 0
		lda, ldb := k, n
		if transA {
			lda = m
		}
		if transB {
			ldb = k
		}
		a, b, c := matrix(rng, m, k, k), matrix(rng, k, n, n), matrix(rng, m, n, n)
		spoil(rng, a, 5, awkward)
		spoil(rng, b, 5, awkward)
		want := append([]float32(nil), c...)
		reference(transA, transB, m, n, k, a, lda, b, ldb, want, n, acc)
		for _, path := range kernel.Paths() {
			restore, err := kernel.SetPath(path)
			if err != nil {
				t.Fatal(err)
			}
			got := append([]float32(nil), c...)
			Gemm(transA, transB, m, n, k, a, lda, b, ldb, got, n, acc)
			restore()
			for i := range got {
				if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
					t.Fatalf("%s: element %d is %v, want %v", path, i, got[i], want[i])
				}
			}
		}
	})
}

func BenchmarkGemm(b *testing.B) {
	for _, s := range []struct {
		name           string
		transA, transB bool
		m, n, k        int
	}{
		{"forward", false, true, 4096, 400, 624}, {"forward", false, true, 4096, 400, 160}, {"forward", false, true, 4096, 400, 400},
		{"forward", false, true, 1024, 400, 400}, {"dX", false, false, 4096, 400, 400}, {"dW", true, false, 400, 400, 4096},
		{"dW", true, false, 400, 624, 4096}, {"dX", false, false, 4096, 160, 400},
		{"head", false, true, 4096, 1, 400}, {"head dX", false, false, 4096, 400, 1}, {"head dW", true, false, 1, 400, 4096},
	} {
		for _, path := range kernel.Paths()[max(0, len(kernel.Paths())-2):] {
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
				x, y, z := make([]float32, s.m*s.k), make([]float32, s.k*s.n), make([]float32, s.m*s.n)
				start := cpuSeconds()
				for b.Loop() {
					Gemm(s.transA, s.transB, s.m, s.n, s.k, x, lda, y, ldb, z, s.n, false)
				}
				b.ReportMetric(2*float64(s.m)*float64(s.n)*float64(s.k)*float64(b.N)/(cpuSeconds()-start)/1e9, "GFLOP/cpu-s")
			})
		}
	}
}
