package kernel

// The vector code takes lengths that are multiples of lanes (the reductions) or
// vector (the rest) and is called only where hasPath(AVX2) holds.

//go:noescape
func dotLanes(s *[lanes]float32, x, y *float32, n int)

//go:noescape
func sumLanes(s *[lanes]float32, x *float32, n int)

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
