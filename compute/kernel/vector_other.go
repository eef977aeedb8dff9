//go:build !amd64

package kernel

// SIMD is false on this platform, so none of these is reached.

const noVector = "compute/kernel: BUG: no vector code"

func dotVector(x, y *float32, n int) float32                  { panic(noVector) }
func sumVector(x *float32, n int) float32                     { panic(noVector) }
func axpyVector(alpha float32, x, y *float32, n int)          { panic(noVector) }
func scaleVector(alpha float32, x *float32, n int)            { panic(noVector) }
func addVector(dst, x *float32, n int)                        { panic(noVector) }
func mulVector(dst, x, y *float32, n int)                     { panic(noVector) }
func reluVector(dst, x *float32, n int)                       { panic(noVector) }
func reluGradVector(dx, dy, y *float32, n int)                { panic(noVector) }
func momentsVector(u, w, m, v, g *float32, n int, c *Moments) { panic(noVector) }
func sigmoidVector(dst, x *float32, n int)                    { panic(noVector) }
func expVector(dst, x *float32, n int)                        { panic(noVector) }
func expVector512(dst, x *float32, n int)                     { panic(noVector) }
func tanhVector(dst, x *float32, n int)                       { panic(noVector) }
