package kernel

// sumRowsVector is SumRows for the first columns of m, a multiple of vector.
//
//go:noescape
func sumRowsVector(sum, x *float32, n, m, columns int)

//go:noescape
func pairsGradVector(dx, x, s *float32, alpha float32, n int)

//go:noescape
func pairsGradAddVector(dx, x, s *float32, alpha float32, n int)

// gatherVector and scatterVector take a width of at least vector.
//
//go:noescape
func gatherVector(out *float32, width int, rows *float32, stride int, index *int32, n int)

//go:noescape
func scatterVector(rows *float32, stride int, x *float32, width int, index *int32, n int)

//go:noescape
func addReLUVector(dst, x *float32, n int)

//go:noescape
func activationGradVector(dx, dy, y *float32, scale float32, n int)

// The following take n rows of m elements, of which they do the first columns,
// a multiple of vector.
//
//go:noescape
func sumSquaresRowsVector(sum, x *float32, n, m, columns int, mean *float32)

//go:noescape
func normalizeVector(y, x *float32, n, m, columns int, mean, inverse, gamma, beta *float32, relu bool)

//go:noescape
func gradSumsVector(dgamma, dbeta, dy, x *float32, n, m, columns int, mean, inverse *float32)

//go:noescape
func inputGradVector(dx, dy, x *float32, n, m, columns int, mean, inverse, slope, shift, scale *float32)

// wordsVector takes a positive multiple of 4.
//
//go:noescape
func wordsVector(dst *uint64, stream, first uint64, n int)

// dropVector decides about element i by 16 bits at word skip+i of 16 bits.
//
//go:noescape
func dropVector(y, x *float32, words *uint64, skip, n int, threshold uint32, keep float32)

// maxVector returns the largest of n indices as unsigned numbers.
//
//go:noescape
func maxVector(index *int32, n int) uint32

// runVector returns how many of the n elements after the first one continue
// the sequence offsets[0]+1, +2, ..., or fewer by less than vector.
//
//go:noescape
func runVector(offsets *int32, n int) int

// onesVector returns how many of n weights from the first on are 1, or fewer
// by less than vector.
//
//go:noescape
func onesVector(weights *float32, n int) int
