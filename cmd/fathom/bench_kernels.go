package main

import (
	"context"
	"fmt"

	"github.com/fathom-train/fathom/compute/kernel"
	"github.com/fathom-train/fathom/compute/random"
)

// Lengths of the kernels' slices: three of the first fit into a first-level
// cache, one of the second is more than most last-level caches.
const (
	kernelCached = 2048
	kernelMemory = 16 << 20
	kernelQuick  = 1 << 16
)

// vectors are the operands of one goroutine.
type vectors struct{ x, y, z, w, u []float32 }

func newVectors(n int, stream uint64) vectors {
	fill := func(s uint64) []float32 {
		v := make([]float32, n)
		for i := range v {
			v[i] = random.Unit(random.Word(stream+s, uint64(i))) - 0.5
		}
		return v
	}
	return vectors{fill(1), fill(2), fill(3), fill(4), fill(5)}
}

// streaming lists the kernels bound by memory, with the bytes of an element
// that are read or written, each once.
var streaming = []struct {
	name  string
	bytes float64
	run   func(v *vectors)
}{
	{"Dot", 8, func(v *vectors) { sinkOf(v, kernel.Dot(v.x, v.y)) }},
	{"Sum", 4, func(v *vectors) { sinkOf(v, kernel.Sum(v.x)) }},
	{"SumSquares", 4, func(v *vectors) { sinkOf(v, kernel.SumSquares(v.x)) }},
	{"Axpy", 12, func(v *vectors) { kernel.Axpy(1e-6, v.x, v.y) }},
	{"Scale", 8, func(v *vectors) { kernel.Scale(-1, v.x) }},
	{"Add", 12, func(v *vectors) { kernel.Add(v.y, v.x) }},
	{"Mul", 12, func(v *vectors) { kernel.Mul(v.z, v.x, v.y) }},
	{"AddBias", 8, func(v *vectors) {
		const m = 512
		kernel.AddBias(v.y, len(v.y)/m, m, v.x[:m])
	}},
	{"ReLUGrad", 12, func(v *vectors) { kernel.ReLUGrad(v.z, v.x, v.y) }},
	{"ReLU", 8, func(v *vectors) { kernel.ReLU(v.z, v.x) }}, // z is not negative now, as the second moment below must be
	{"Moments.Direction", 28, func(v *vectors) { lambFactors.Direction(v.u, v.w, v.x, v.z, v.y) }},
}

// lambFactors are those of LAMB's thousandth step.
var lambFactors = kernel.Moments{Beta1: 0.9, Rest1: 0.1, Beta2: 0.999, Rest2: 0.001, Correct1: 1, Correct2: 1.582, Epsilon: 1e-6}

// sinkOf keeps a result without a word shared by goroutines.
func sinkOf(v *vectors, r float32) { v.w[0] = r }

// elementary lists the functions bound by arithmetic.
var elementary = []struct {
	name string
	run  func(v *vectors)
}{
	{"Exp", each(kernel.Exp)},
	{"Log", each(func(x float32) float32 { return kernel.Log(x + 1) })},
	{"Log1p", each(kernel.Log1p)},
	{"Sigmoid", each(kernel.Sigmoid)},
	{"SigmoidSlice", func(v *vectors) { kernel.SigmoidSlice(v.z, v.x) }},
}

func each(f func(float32) float32) func(*vectors) {
	return func(v *vectors) {
		for i, x := range v.x {
			v.z[i] = f(x)
		}
	}
}

// benchKernels measures the element-wise kernels and the reductions, with
// operands in the first-level cache and in memory. With several threads every
// one has operands of its own.
func benchKernels(ctx context.Context, b *bencher) error {
	lengths := []int{kernelCached, kernelMemory}
	if b.flags.quick {
		lengths[1] = kernelQuick
	}
	for _, threads := range b.flags.threads {
		for _, n := range lengths {
			own := make([]vectors, threads)
			parallel(threads, func(i int) { own[i] = newVectors(n, uint64(i)*16) })
			for _, k := range streaming {
				c := benchCase{name: fmt.Sprintf("%s n=%d", k.name, n), threads: threads, unit: "GB/s",
					work: k.bytes * float64(n) * float64(threads) / 1e9}
				if err := b.measure(ctx, c, nil, runEach(own, k.run)); err != nil {
					return err
				}
			}
			if n != kernelCached {
				continue
			}
			for _, k := range elementary {
				c := benchCase{name: fmt.Sprintf("%s n=%d", k.name, n), threads: threads, unit: "ns/element",
					work: float64(n) * float64(threads), perItem: true}
				if err := b.measure(ctx, c, nil, runEach(own, k.run)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// runEach runs rounds of a kernel on every thread's own operands.
func runEach(own []vectors, run func(*vectors)) func(rounds int) error {
	return func(rounds int) error {
		parallel(len(own), func(i int) {
			for range rounds {
				run(&own[i])
			}
		})
		return nil
	}
}
