// Package layer holds the building blocks of the models: every layer is a
// forward and a backward pass side by side, with the shapes in the comments.
//
// A layer owns only what its backward pass needs again (its cache) and scratch
// space; parameters, inputs, outputs and gradients belong to the caller. A
// cache that refers to the caller's input is valid until the next Forward, so
// the caller must keep that input unchanged until Backward is done. Buffers
// grow to the largest batch seen and are reused: a step in steady state
// allocates nothing.
//
// Every result has the same bits on every instruction set and for every number
// of threads: products go through compute/gemm, long sums run over samples in
// ascending order or have the fixed shape of compute/kernel, and no float
// product is added without being rounded first. What a sample gets in
// evaluation does not depend on the other samples of its batch.
//
// A layer is used by one goroutine at a time. A length that does not fit a
// shape is a bug of the caller and panics.
package layer

import "fmt"

// grow returns a slice of length n that reuses buf's memory where it can.
// Contents are undefined.
func grow(buf []float32, n int) []float32 {
	if cap(buf) < n {
		return make([]float32, n)
	}
	return buf[:n]
}

// check panics unless a slice has the length its shape asks for.
func check(what string, got, want int) {
	if got != want {
		panic(fmt.Sprintf("compute/layer: BUG: %s has %d elements, want %d", what, got, want))
	}
}
