//go:build !amd64

package kernel

func sigmoidVector(dst, x *float32, n int) { panic("kernel: BUG: no vector code") }
