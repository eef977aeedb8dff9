package kernel

// sigmoidVector sets dst[i] to Sigmoid(x[i]); n is a positive multiple of 8.
//
//go:noescape
func sigmoidVector(dst, x *float32, n int)
