//go:build !amd64

package optim

// updateRow is not reached: kernel.SIMD is false on this platform.
func updateRow(w, m, v, grad *float32, n int, factors *stepFactors) {
	panic("compute/optim: BUG: no vector code")
}
