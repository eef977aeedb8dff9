package gemm

// tileVector is tilePortable for a full tile in AVX2 and FMA instructions.
//
//go:noescape
func tileVector(k int, a, b, c *float32, ldc int, load bool)

// rowVector is rowPortable for rowN columns in AVX2 and FMA instructions.
//
//go:noescape
func rowVector(k int, x, b *float32, stride int, c *float32, load bool)

// tilesDirectVector computes full tiles of C, one below the other, or adds to
// them, from operands that are not packed: element (i, p) of A at a[i*row+p*col],
// row p of B at b[p*ldb:].
//
//go:noescape
func tilesDirectVector(tiles, k int, a *float32, row, col int, b *float32, ldb int, c *float32, ldc int, load bool)
