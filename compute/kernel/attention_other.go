//go:build !amd64

package kernel

func lowerVector(x *float32, n int) {
	panic(noVector)
}

func softmaxGradVector(grad, y *float32, dot float32, n int) {
	panic(noVector)
}

func subtractVector(dst, x *float32, alpha float32, n int) {
	panic(noVector)
}

func layerNormVector(y, xhat *float32, inverse float32, gamma, beta *float32, n int) {
	panic(noVector)
}

func gammaGradVector(dgamma, out, dy, xhat, gamma *float32, n int) {
	panic(noVector)
}

func layerNormGradVector(out, xhat *float32, mean, slope, inverse float32, n int) {
	panic(noVector)
}
