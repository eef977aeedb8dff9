package kernel

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// samePaths runs f on every path with equal copies of the guarded inputs, and
// fails the test unless every array, guards included, ends with the same bits.
// It returns the arrays as the portable path left them.
func samePaths(t *testing.T, context string, in [][]float32, f func(x [][]float32)) [][]float32 {
	t.Helper()
	var want, first [][]float32
	for _, path := range Paths() {
		restore, err := SetPath(path)
		if err != nil {
			t.Fatal(err)
		}
		whole, parts := make([][]float32, len(in)), make([][]float32, len(in))
		for i, x := range in {
			at := 16 + (i*5+len(x))%16
			whole[i] = make([]float32, at+len(x)+24)
			for j := range whole[i] {
				whole[i][j] = guard
			}
			parts[i] = whole[i][at : at+len(x) : at+len(x)]
			copy(parts[i], x)
		}
		f(parts)
		restore()
		if want == nil {
			want, first = whole, parts
			continue
		}
		for i := range whole {
			for j, g := range whole[i] {
				if w := want[i][j]; math.Float32bits(g) != math.Float32bits(w) {
					t.Fatalf("%s on %s: slice %d, array element %d is %v (%#x), want %v (%#x)",
						context, path, i, j, g, math.Float32bits(g), w, math.Float32bits(w))
				}
			}
		}
	}
	return first
}

// random matrices: half of the time with special numbers.
func fill(r *rand.Rand, n int) []float32 {
	next := awkward(r)
	if r.IntN(2) == 0 {
		next = func() float32 { return float32(r.NormFloat64()) }
	}
	x := make([]float32, n)
	for i := range x {
		x[i] = next()
	}
	return x
}

func equalTo(t *testing.T, context string, i int, got, want float32) {
	t.Helper()
	if want != want {
		want = nan
	}
	if math.Float32bits(got) != math.Float32bits(want) {
		t.Fatalf("%s: element %d is %v, want %v", context, i, got, want)
	}
}

func TestSumRowsAddsInOrder(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 0))
	for range 200 {
		n, m := r.IntN(12), 1+r.IntN(70)
		context := fmt.Sprintf("%d x %d", n, m)
		sum, x := fill(r, m), fill(r, n*m)
		got := samePaths(t, context, [][]float32{sum, x}, func(x [][]float32) { SumRows(x[0], x[1]) })
		for j, s := range sum {
			for i := range n {
				s += x[i*m+j]
			}
			if n > 0 {
				equalTo(t, context, j, got[0][j], s)
			}
		}
	}
	SumRows(nil, nil)
}

func TestPairsGradIsItsFormula(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 0))
	for range 200 {
		n := r.IntN(70)
		dx, x, s := fill(r, n), fill(r, n), fill(r, n)
		for _, add := range []bool{false, true} {
			got := samePaths(t, fmt.Sprint(n, add), [][]float32{dx, x, s}, func(x [][]float32) { PairsGrad(x[0], x[1], x[2], 0.3, add) })
			for i := range x {
				w := float32(0.3 * float32(s[i]-x[i]))
				if add {
					w += dx[i]
				}
				equalTo(t, "pairs", i, got[0][i], w)
			}
		}
	}
}

func TestGatherAndScatterRowsMatchTheLoop(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 0))
	for range 300 {
		n, width, count := r.IntN(40), 1+r.IntN(35), 1+r.IntN(9)
		stride := width + r.IntN(3)
		index := make([]int32, n)
		for i := range index {
			index[i] = int32(r.IntN(count))
		}
		context := fmt.Sprintf("%d rows of %d, stride %d", n, width, stride)
		rows, x := fill(r, count*stride), fill(r, n*width)
		got := samePaths(t, context, [][]float32{rows, x}, func(x [][]float32) { GatherRows(x[1], width, x[0], stride, index) })
		for i := range x {
			if g, w := got[1][i], rows[int(index[i/width])*stride+i%width]; math.Float32bits(g) != math.Float32bits(w) {
				t.Fatalf("gather of %s: element %d is %v, want %v", context, i, g, w)
			}
		}
		got = samePaths(t, context, [][]float32{rows, x}, func(x [][]float32) { ScatterRows(x[0], stride, x[1], width, index) })
		want := append([]float32(nil), rows...)
		for i, v := range x {
			at := int(index[i/width])*stride + i%width
			want[at] = Canonical(want[at] + v)
		}
		for i, w := range want {
			if math.Float32bits(got[0][i]) != math.Float32bits(w) {
				t.Fatalf("scatter of %s: element %d is %v, want %v", context, i, got[0][i], w)
			}
		}
	}
}

func TestRowKernelsRefuseRowsOutsideTheTable(t *testing.T) {
	for _, path := range Paths() {
		restore, _ := SetPath(path)
		for _, row := range []int32{-1, 3} {
			for name, f := range map[string]func(){
				"gather":  func() { GatherRows(make([]float32, 8), 8, make([]float32, 24), 8, []int32{row}) },
				"scatter": func() { ScatterRows(make([]float32, 24), 8, make([]float32, 8), 8, []int32{row}) },
			} {
				func() {
					defer func() {
						if recover() == nil {
							t.Errorf("%s on %s took row %d of 3", name, path, row)
						}
					}()
					f()
				}()
			}
		}
		restore()
	}
}

func TestSinglesCountsTheLeadingOnes(t *testing.T) {
	r := rand.New(rand.NewPCG(6, 0))
	for range 500 {
		n := r.IntN(40)
		offsets, weights := []int32{int32(r.IntN(5))}, make([]float32, 0, n)
		for range offsets[0] {
			weights = append(weights, 3)
		}
		odd := r.IntN(60)
		for i := range n {
			count := 1
			if i == odd {
				count = r.IntN(2) * 2
			}
			for range count {
				weights = append(weights, 1)
			}
			offsets = append(offsets, offsets[i]+int32(count))
		}
		if len(weights) > 0 && r.IntN(3) == 0 {
			weights[r.IntN(len(weights))] = 2
		}
		for _, w := range [][]float32{nil, weights} {
			want := 0
			for want < n && offsets[want+1] == offsets[want]+1 && (w == nil || w[offsets[want]] == 1) {
				want++
			}
			for _, path := range Paths() {
				restore, _ := SetPath(path)
				if got := Singles(offsets, w); got != want {
					t.Fatalf("%s: %d of %v with weights %v, want %d", path, got, offsets, w, want)
				}
				restore()
			}
		}
	}
}
