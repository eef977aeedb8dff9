//go:build !amd64

package kernel

// SIMD is false on this platform, so none of these is reached.

func dotLanes(s *[lanes]float32, x, y *float32, n int) { panic("kernel: BUG: no vector code") }
func sumLanes(s *[lanes]float32, x *float32, n int)    { panic("kernel: BUG: no vector code") }
func axpyVector(alpha float32, x, y *float32, n int)   { panic("kernel: BUG: no vector code") }
func scaleVector(alpha float32, x *float32, n int)     { panic("kernel: BUG: no vector code") }
func addVector(dst, x *float32, n int)                 { panic("kernel: BUG: no vector code") }
func mulVector(dst, x, y *float32, n int)              { panic("kernel: BUG: no vector code") }
func reluVector(dst, x *float32, n int)                { panic("kernel: BUG: no vector code") }
func reluGradVector(dx, dy, y *float32, n int)         { panic("kernel: BUG: no vector code") }
func momentsVector(u, w, m, v, grad *float32, n int, c *Moments) {
	panic("kernel: BUG: no vector code")
}
