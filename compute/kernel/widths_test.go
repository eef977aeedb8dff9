package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// checkRowKernels runs every kernel that takes matrices, of n rows and m
// columns, on all paths and compares bits and guard words. The definitions are
// compared in the tests of each; here sizes and numbers are arbitrary.
func checkRowKernels(t *testing.T, r *rand.Rand, n, m int) {
	t.Helper()
	is := func(name string, in [][]float32, f func(x [][]float32)) {
		t.Helper()
		samePaths(t, fmt.Sprintf("%s of %d x %d", name, n, m), in, f)
	}
	x, y, a, b := fill(r, n*m), fill(r, n*m), fill(r, m), fill(r, m)
	c, d := fill(r, m), fill(r, m)
	alpha, threshold := awkward(r)(), uint32(r.IntN(1<<DropBits))
	index, words := make([]int32, n), make([]uint64, n*m/4+2)
	for i := range index {
		index[i] = int32(r.IntN(n))
	}
	rows := [][]float32{x, y}
	columns := [][]float32{x, y, a, b, c, d, make([]float32, n)}
	norm := func(x [][]float32) *Norm { return &Norm{Mean: x[2], Inverse: x[3], Gamma: x[4], Beta: x[5]} }

	is("SumRows", [][]float32{a, x}, func(x [][]float32) { SumRows(x[0], x[1]) })
	is("SumSquaresRows", [][]float32{a, x, b}, func(x [][]float32) { SumSquaresRows(x[0], x[1], x[2]) })
	is("AddBias", [][]float32{x, a}, func(x [][]float32) { AddBias(x[0], n, m, x[1]) })
	is("AddReLU", rows, func(x [][]float32) { AddReLU(x[0], x[1]) })
	is("ActivationGrad", [][]float32{x, y, fill(r, n*m)}, func(x [][]float32) { ActivationGrad(x[0], x[1], x[2], alpha) })
	is("PairsGrad", [][]float32{x, y, fill(r, n*m)}, func(x [][]float32) { PairsGrad(x[0], x[1], x[2], alpha, n%2 == 0) })
	is("GatherRows", [][]float32{x, y}, func(x [][]float32) { GatherRows(x[0], m, x[1], m, index) })
	is("ScatterRows", [][]float32{x, y}, func(x [][]float32) { ScatterRows(x[0], m, x[1], m, index) })
	is("Drop", rows, func(x [][]float32) { Drop(x[0], x[1], 5, uint64(n), threshold, alpha) })
	is("ExpSlice", rows, func(x [][]float32) { ExpSlice(x[0], x[1]) })
	is("TanhSlice", rows, func(x [][]float32) { TanhSlice(x[0], x[1]) })
	is("SigmoidSlice", rows, func(x [][]float32) { SigmoidSlice(x[0], x[1]) })
	is("SoftmaxRows", rows[:1], func(x [][]float32) { SoftmaxRows(x[0], m) })
	is("SoftmaxRowsGrad", rows, func(x [][]float32) { SoftmaxRowsGrad(x[0], x[1], m) })
	is("LayerNormRows", columns, func(x [][]float32) { LayerNormRows(x[0], x[1], x[6], x[0], x[2], x[3], 1e-5) })
	is("LayerNormRowsGrad", columns, func(x [][]float32) { LayerNormRowsGrad(x[0], x[2], x[3], x[0], x[1], x[6], x[4]) })
	is("Normalize", columns, func(x [][]float32) { norm(x).Normalize(x[1], x[0], n%2 == 0) })
	is("GradSums", columns, func(x [][]float32) { norm(x).GradSums(x[4], x[5], x[0], x[1]) })
	is("InputGrad", columns, func(x [][]float32) { norm(x).InputGrad(x[0], x[0], x[1], x[4], x[5], x[3]) })

	for _, path := range Paths() {
		restore, _ := SetPath(path)
		words[len(words)-1] = 77
		Words(words[:len(words)-1], uint64(m), uint64(n))
		if words[len(words)-1] != 77 {
			t.Fatalf("Words on %s wrote past the end", path)
		}
		restore()
	}
}

func TestRowKernelsGiveTheSameBitsForAnyWidth(t *testing.T) {
	r := rand.New(rand.NewPCG(31, 0))
	for m := 1; m < 131; m++ {
		checkRowKernels(t, r, 1+r.IntN(3), m)
	}
	for range 40 {
		checkRowKernels(t, r, 1+r.IntN(3), 1+r.IntN(1030))
	}
	for range 40 {
		m := 1 + r.IntN(24)
		checkRowKernels(t, r, 1+r.IntN(1030/m), m)
	}
}

func FuzzRowKernels(f *testing.F) {
	f.Add(uint16(3), uint16(39), uint64(1))
	f.Add(uint16(130), uint16(7), uint64(2))
	f.Fuzz(func(t *testing.T, n, m uint16, seed uint64) {
		columns := 1 + int(m)%1030
		checkRowKernels(t, rand.New(rand.NewPCG(seed, 3)), 1+int(n)%(1+1030/columns), columns)
	})
}

// unit is half a unit in the last place of 1: the relative error of one rounding.
const unit = 0x1p-24

// Every reduction is compared with float64. Each of its terms is rounded once
// and goes through at most length/16+4 additions, those of a column through one
// for each row. The bound is that many roundings of the sum of magnitudes.
func TestReductionsAreWithinTheirBound(t *testing.T) {
	r := rand.New(rand.NewPCG(32, 0))
	for _, path := range Paths() {
		restore, err := SetPath(path)
		if err != nil {
			t.Fatal(err)
		}
		for range 300 {
			n := r.IntN(1031)
			x, y := make([]float32, n), make([]float32, n)
			var dot, squares, sum, dotSize, sumSize float64
			for i := range x {
				x[i], y[i] = float32(r.NormFloat64()), float32(r.NormFloat64()*math.Exp(3*r.NormFloat64()))
				p := float64(x[i]) * float64(y[i])
				dot, dotSize = dot+p, dotSize+math.Abs(p)
				squares += float64(x[i]) * float64(x[i])
				sum, sumSize = sum+float64(y[i]), sumSize+math.Abs(float64(y[i]))
			}
			roundings := float64((n+15)/16+4+1) * unit
			column := []float32{0}
			SumRows(column, y)
			for _, c := range []struct {
				name              string
				got               float32
				want, size, bound float64
			}{
				{"Dot", Dot(x, y), dot, dotSize, roundings}, {"SumSquares", SumSquares(x), squares, squares, roundings},
				{"Sum", Sum(y), sum, sumSize, roundings}, {"SumRows", column[0], sum, sumSize, float64(n) * unit},
			} {
				if e := math.Abs(float64(c.got) - c.want); e > c.bound*c.size {
					t.Errorf("%s on %s of %d: off by %g, at most %g", c.name, path, n, e, c.bound*c.size)
				}
			}
		}
		restore()
	}
}

// The elementary operations are exact but for one rounding each: their results
// are compared with float64 by the roundings on the way.
func TestElementsAreWithinTheirBound(t *testing.T) {
	r := rand.New(rand.NewPCG(33, 0))
	c := testMoments
	for _, path := range Paths() {
		restore, err := SetPath(path)
		if err != nil {
			t.Fatal(err)
		}
		in := newBuffers(1030, 3, func() float32 { return float32(r.NormFloat64()) })
		for i, v := range in.in[3] {
			in.in[3][i] = v * v // second moments
		}
		was := in.clone()
		u, w, m, v, g := in.in[0], in.in[1], in.in[2], in.in[3], in.in[4]
		c.Direction(u, w, m, v, g)
		for i := range u {
			w, m0, v0, g := float64(w[i]), float64(was.in[2][i]), float64(was.in[3][i]), float64(g[i])
			g += float64(c.Coupled) * w
			size := math.Abs(g) + math.Abs(float64(c.Coupled)*w)
			first := float64(c.Beta1)*m0 + float64(c.Rest1)*g
			firstSize := math.Abs(float64(c.Beta1)*m0) + float64(c.Rest1)*size
			second := float64(c.Beta2)*v0 + float64(c.Rest2)*g*g
			root := math.Sqrt(second*float64(c.Correct2)) + float64(c.Epsilon)
			step, decay := first*float64(c.Correct1)/root, float64(c.Decay)*w
			stepSize := firstSize * float64(c.Correct1) / root
			near := func(name string, got float32, want, size, roundings float64) {
				t.Helper()
				if e := math.Abs(float64(got) - want); e > roundings*unit*size {
					t.Errorf("%s on %s: element %d off by %g, at most %g", name, path, i, e, roundings*unit*size)
				}
			}
			near("first moment", m[i], first, firstSize, 5)
			near("second moment", v[i], second, second+float64(c.Rest2)*(size*size-g*g), 8)
			near("direction", u[i], step+decay, stepSize+math.Abs(decay), 20)
		}
		restore()
	}
}
