package kernel

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
)

// buffers are the slices of one call, each between guard words.
type buffers struct {
	whole [5][]float32
	in    [5][]float32
}

const guard = float32(-98765.5)

// newBuffers takes slices of n elements at offset elements into their arrays
// (so of every alignment) and fills them from next.
func newBuffers(n, offset int, next func() float32) *buffers {
	b := new(buffers)
	for i := range b.whole {
		at := 16 + (offset+i)%16
		b.whole[i] = make([]float32, at+n+16)
		for j := range b.whole[i] {
			b.whole[i][j] = guard
		}
		b.in[i] = b.whole[i][at : at+n : at+n]
		for j := range b.in[i] {
			b.in[i][j] = next()
		}
	}
	return b
}

func (b *buffers) clone() *buffers {
	c := new(buffers)
	for i, w := range b.whole {
		c.whole[i] = append([]float32(nil), w...)
		at := len(w) - 16 - len(b.in[i])
		c.in[i] = c.whole[i][at : at+len(b.in[i]) : at+len(b.in[i])]
	}
	return c
}

var testMoments = Moments{Beta1: 0.9, Rest1: 0.1, Beta2: 0.999, Rest2: 0.001, Correct1: 5, Correct2: 400,
	Epsilon: 1e-6, Decay: 0.01, Coupled: 0.02}

// ops lists every kernel with vector code beside its definition, written as the
// plainest loop. A result, if there is one, is returned.
var ops = []struct {
	name string
	run  func(b *buffers) float32
	want func(b *buffers) float32
}{
	{"Dot", func(b *buffers) float32 { return Dot(b.in[0], b.in[1]) }, func(b *buffers) float32 {
		return lanesOf(len(b.in[0]), func(i int) float32 { return b.in[0][i] * b.in[1][i] })
	}},
	{"SumSquares", func(b *buffers) float32 { return SumSquares(b.in[0]) }, func(b *buffers) float32 {
		return lanesOf(len(b.in[0]), func(i int) float32 { return b.in[0][i] * b.in[0][i] })
	}},
	{"Sum", func(b *buffers) float32 { return Sum(b.in[0]) }, func(b *buffers) float32 {
		return lanesOf(len(b.in[0]), func(i int) float32 { return b.in[0][i] })
	}},
	{"Axpy", func(b *buffers) float32 { Axpy(0.37, b.in[0], b.in[1]); return 0 }, func(b *buffers) float32 {
		return each(b, func(i int) { p := 0.37 * b.in[0][i]; set(b, 1, i, b.in[1][i]+float32(p)) })
	}},
	{"Scale", func(b *buffers) float32 { Scale(-1.7, b.in[0]); return 0 }, func(b *buffers) float32 {
		return each(b, func(i int) { set(b, 0, i, b.in[0][i]*-1.7) })
	}},
	{"Add", func(b *buffers) float32 { Add(b.in[0], b.in[1]); return 0 }, func(b *buffers) float32 {
		return each(b, func(i int) { set(b, 0, i, b.in[0][i]+b.in[1][i]) })
	}},
	{"Mul", func(b *buffers) float32 { Mul(b.in[0], b.in[1], b.in[2]); return 0 }, func(b *buffers) float32 {
		return each(b, func(i int) { set(b, 0, i, b.in[1][i]*b.in[2][i]) })
	}},
	{"MulInPlace", func(b *buffers) float32 { Mul(b.in[0], b.in[0], b.in[0]); return 0 }, func(b *buffers) float32 {
		return each(b, func(i int) { set(b, 0, i, b.in[0][i]*b.in[0][i]) })
	}},
	{"ReLU", func(b *buffers) float32 { ReLU(b.in[0], b.in[1]); return 0 }, func(b *buffers) float32 {
		return each(b, func(i int) {
			v := b.in[1][i]
			if v <= 0 {
				v = 0
			}
			set(b, 0, i, v)
		})
	}},
	{"ReLUGrad", func(b *buffers) float32 { ReLUGrad(b.in[0], b.in[1], b.in[2]); return 0 }, func(b *buffers) float32 {
		return each(b, func(i int) {
			v := b.in[1][i]
			if !(b.in[2][i] > 0) {
				v = 0
			}
			set(b, 0, i, v)
		})
	}},
	{"AddBias", func(b *buffers) float32 { AddBias(b.in[0], 1, len(b.in[0]), b.in[1]); return 0 }, func(b *buffers) float32 {
		return each(b, func(i int) { set(b, 0, i, b.in[0][i]+b.in[1][i]) })
	}},
	{"SigmoidSlice", func(b *buffers) float32 { SigmoidSlice(b.in[0], b.in[1]); return 0 }, func(b *buffers) float32 {
		return each(b, func(i int) { set(b, 0, i, Sigmoid(b.in[1][i])) })
	}},
	{"Direction", func(b *buffers) float32 {
		testMoments.Direction(b.in[0], b.in[1], b.in[2], b.in[3], b.in[4])
		return 0
	}, func(b *buffers) float32 {
		c := &testMoments
		return each(b, func(i int) {
			w, g := b.in[1][i], b.in[4][i]
			g += float32(c.Coupled * w)
			m := float32(c.Beta1*b.in[2][i]) + float32(c.Rest1*g)
			v := float32(c.Beta2*b.in[3][i]) + float32(c.Rest2*float32(g*g))
			root := float32(math.Sqrt(float64(float32(v * c.Correct2))))
			set(b, 2, i, m)
			set(b, 3, i, v)
			set(b, 0, i, float32(m*c.Correct1)/float32(root+c.Epsilon)+float32(c.Decay*w))
		})
	}},
}

func each(b *buffers, f func(i int)) float32 {
	for i := range b.in[0] {
		f(i)
	}
	return 0
}

func set(b *buffers, slice, i int, v float32) {
	if v != v {
		v = math.Float32frombits(0x7fc00000)
	}
	b.in[slice][i] = v
}

// lanesOf is the definition of the reductions.
func lanesOf(n int, term func(i int) float32) float32 {
	var s [16]float32
	for i := range n {
		s[i%16] += term(i)
	}
	for _, half := range []int{8, 4, 2, 1} {
		for j := range half {
			s[j] += s[j+half]
		}
	}
	if s[0] != s[0] {
		return math.Float32frombits(0x7fc00000)
	}
	return s[0]
}

// checkPaths runs every kernel on every path and compares with the definition,
// guard words included.
func checkPaths(t *testing.T, in *buffers, context string) {
	t.Helper()
	for _, op := range ops {
		want := in.clone()
		wantResult := op.want(want)
		for _, path := range Paths() {
			got := in.clone()
			restore, err := SetPath(path)
			if err != nil {
				t.Fatal(err)
			}
			result := op.run(got)
			restore()
			if math.Float32bits(result) != math.Float32bits(wantResult) {
				t.Fatalf("%s on %s, %s: %v (%#x), want %v", op.name, path, context, result, math.Float32bits(result), wantResult)
			}
			for i := range got.whole {
				for j := range got.whole[i] {
					if g, w := got.whole[i][j], want.whole[i][j]; math.Float32bits(g) != math.Float32bits(w) {
						t.Fatalf("%s on %s, %s: slice %d, array element %d is %v (%#x), want %v (%#x)",
							op.name, path, context, i, j, g, math.Float32bits(g), w, math.Float32bits(w))
					}
				}
			}
		}
	}
}

// awkward returns numbers of which some are special or have any bits at all.
func awkward(r *rand.Rand) func() float32 {
	return func() float32 {
		switch r.IntN(12) {
		case 0:
			return specials[r.IntN(len(specials))]
		case 1:
			return math.Float32frombits(r.Uint32())
		case 2:
			return math.Float32frombits(r.Uint32() & 0x807fffff) // subnormal
		}
		return float32(r.NormFloat64())
	}
}

func TestEveryPathGivesTheBitsOfTheDefinition(t *testing.T) {
	const seed = 7
	r := rand.New(rand.NewPCG(seed, 0))
	for n := range 131 {
		checkPaths(t, newBuffers(n, n/3, awkward(r)), fmt.Sprintf("n=%d, seed %d", n, seed))
		checkPaths(t, newBuffers(n, n/5, func() float32 { return float32(r.NormFloat64()) }), fmt.Sprintf("n=%d, seed %d", n, seed))
	}
	for range 60 {
		n, offset := r.IntN(1031), r.IntN(16)
		next := awkward(r)
		if r.IntN(3) > 0 {
			next = func() float32 { return float32(r.NormFloat64()) }
		}
		checkPaths(t, newBuffers(n, offset, next), fmt.Sprintf("n=%d, offset %d, seed %d", n, offset, seed))
	}
}

func FuzzPaths(f *testing.F) {
	f.Add([]byte{}, uint8(0))
	f.Add([]byte("\x00\x00\x80\x7f\x01\x00\xc0\xff\x00\x00\x80\x3f\x01\x00\x00\x80"), uint8(3))
	f.Fuzz(func(t *testing.T, data []byte, offset uint8) {
		if len(data) > 1<<14 {
			return
		}
		i := 0
		in := newBuffers(len(data)/8, int(offset), func() float32 {
			i += 4
			if i+4 > len(data) {
				i = i % 4
			}
			return math.Float32frombits(binary.LittleEndian.Uint32(data[i:]))
		})
		checkPaths(t, in, fmt.Sprintf("%d bytes, offset %d", len(data), offset))
	})
}

func TestAddBiasAddsToEveryRow(t *testing.T) {
	for _, path := range Paths() {
		restore, _ := SetPath(path)
		for _, m := range []int{1, 2, 7, 8, 17} {
			dst, bias := make([]float32, 3*m), make([]float32, m)
			for j := range bias {
				bias[j] = float32(j) + 0.5
			}
			for i := range dst {
				dst[i] = float32(i)
			}
			AddBias(dst, 3, m, bias)
			for i, v := range dst {
				if want := float32(i) + float32(i%m) + 0.5; v != want {
					t.Fatalf("%s: m=%d: element %d is %v, want %v", path, m, i, v, want)
				}
			}
		}
		AddBias(nil, 0, 3, make([]float32, 3))
		restore()
	}
}

func TestKernelsRejectUnequalLengths(t *testing.T) {
	x, y := make([]float32, 9), make([]float32, 8)
	for name, f := range map[string]func(){
		"Dot": func() { Dot(x, y) }, "Axpy": func() { Axpy(1, x, y) }, "Add": func() { Add(x, y) },
		"Mul": func() { Mul(x, x, y) }, "ReLU": func() { ReLU(x, y) }, "ReLUGrad": func() { ReLUGrad(x, x, y) },
		"SigmoidSlice": func() { SigmoidSlice(x, y) }, "AddBias": func() { AddBias(x, 2, 4, y) },
		"Direction": func() { testMoments.Direction(x, x, x, x, y) },
	} {
		func() {
			defer func() {
				if r := fmt.Sprint(recover()); !strings.Contains(r, "BUG") {
					t.Errorf("%s took unequal lengths: %s", name, r)
				}
			}()
			f()
		}()
	}
}

func TestKernelsDoNotAllocate(t *testing.T) {
	b := newBuffers(100, 1, func() float32 { return 1 })
	for _, path := range Paths() {
		restore, _ := SetPath(path)
		for _, op := range ops {
			if n := testing.AllocsPerRun(10, func() { op.run(b) }); n > 0 {
				t.Errorf("%s on %s: %v allocations per call, want 0", op.name, path, n)
			}
		}
		restore()
	}
}

func BenchmarkKernels(b *testing.B) {
	for _, n := range []int{1, 10, 16, 64, 4096} {
		in := newBuffers(n, 0, func() float32 { return 0.5 })
		for _, op := range ops {
			for _, path := range Paths()[max(0, len(Paths())-2):] {
				b.Run(fmt.Sprintf("%s/%d/%s", op.name, n, path), func(b *testing.B) {
					restore, _ := SetPath(path)
					defer restore()
					for b.Loop() {
						op.run(in)
					}
					b.ReportMetric(4*float64(n)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GB/s")
				})
			}
		}
	}
}
