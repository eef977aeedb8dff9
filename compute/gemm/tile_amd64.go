package gemm

// tileVector is tilePortable for a full tile in AVX2 and FMA instructions.
//
//go:noescape
func tileVector(k int, a, b, c *float32, ldc int, load bool)

// rowVector is rowPortable for rowN columns in AVX2 and FMA instructions.
//
//go:noescape
func rowVector(k int, x, b *float32, stride int, c *float32, load bool)
