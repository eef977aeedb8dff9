package kernel

// lowerVector subtracts the largest of n, at least vector, elements from all.
//
//go:noescape
func lowerVector(x *float32, n int)

// softmaxGradVector sets g to y*(g-dot) for n, at least vector, elements.
//
//go:noescape
func softmaxGradVector(grad, y *float32, dot float32, n int)

// The following take a positive multiple of vector.
//
//go:noescape
func subtractVector(dst, x *float32, alpha float32, n int)

//go:noescape
func layerNormVector(y, xhat *float32, inverse float32, gamma, beta *float32, n int)

//go:noescape
func gammaGradVector(dgamma, out, dy, xhat, gamma *float32, n int)

//go:noescape
func layerNormGradVector(out, xhat *float32, mean, slope, inverse float32, n int)
