package kernel

// The vector code is called only where hasPath(AVX2) holds, with n at least 1
// (the reductions), at least vector (scaleVector) or a positive multiple of
// vector (the rest).

//go:noescape
func dotVector(x, y *float32, n int) float32

//go:noescape
func sumVector(x *float32, n int) float32

//go:noescape
func axpyVector(alpha float32, x, y *float32, n int)

//go:noescape
func scaleVector(alpha float32, x *float32, n int)

//go:noescape
func addVector(dst, x *float32, n int)

//go:noescape
func mulVector(dst, x, y *float32, n int)

//go:noescape
func reluVector(dst, x *float32, n int)

//go:noescape
func reluGradVector(dx, dy, y *float32, n int)

//go:noescape
func momentsVector(u, w, m, v, grad *float32, n int, c *Moments)

//go:noescape
func sigmoidVector(dst, x *float32, n int)

//go:noescape
func expVector(dst, x *float32, n int)

// expVector512 takes a positive multiple of 16. It is called only where
// hasPath(AVX512) holds.
//
//go:noescape
func expVector512(dst, x *float32, n int)

//go:noescape
func tanhVector(dst, x *float32, n int)
