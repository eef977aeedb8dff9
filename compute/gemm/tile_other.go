//go:build !amd64

package gemm

// tileVector is not reached: kernel.SIMD is false on this platform.
func tileVector(k int, a, b, c *float32, ldc int, load bool) { panic("gemm: BUG: no vector code") }
