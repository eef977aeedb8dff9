package optim

// updateRow is moments.Update for 1 to shortLayer weights, with the same bits as
// the calls of package kernel. It is called only where kernel.SIMD holds.
//
//go:noescape
func updateRow(w, m, v, grad *float32, n int, factors *stepFactors)
