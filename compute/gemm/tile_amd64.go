package gemm

// tileVector is tilePortable in AVX2 and FMA instructions.
//
//go:noescape
func tileVector(k int, a, b, c *float32, ldc int, load bool)
