//go:build !amd64

package kernel

func sumRowsVector(sum, x *float32, n, m, columns int) {
	panic(noVector)
}

func pairsGradVector(dx, x, s *float32, alpha float32, n int) {
	panic(noVector)
}

func pairsGradAddVector(dx, x, s *float32, alpha float32, n int) {
	panic(noVector)
}

func gatherVector(out *float32, width int, rows *float32, stride int, index *int32, n int) {
	panic(noVector)
}

func scatterVector(rows *float32, stride int, x *float32, width int, index *int32, n int) {
	panic(noVector)
}

func addReLUVector(dst, x *float32, n int) {
	panic(noVector)
}

func activationGradVector(dx, dy, y *float32, scale float32, n int) {
	panic(noVector)
}

func sumSquaresRowsVector(sum, x *float32, n, m, columns int, mean *float32) {
	panic(noVector)
}

func normalizeVector(y, x *float32, n, m, columns int, mean, inverse, gamma, beta *float32, relu bool) {
	panic(noVector)
}

func gradSumsVector(dgamma, dbeta, dy, x *float32, n, m, columns int, mean, inverse *float32) {
	panic(noVector)
}

func inputGradVector(dx, dy, x *float32, n, m, columns int, mean, inverse, slope, shift, scale *float32) {
	panic(noVector)
}

func wordsVector(dst *uint64, stream, first uint64, n int) {
	panic(noVector)
}

func dropVector(y, x *float32, words *uint64, skip, n int, threshold uint32, keep float32) {
	panic(noVector)
}

func maxVector(index *int32, n int) uint32 {
	panic(noVector)
}

func runVector(offsets *int32, n int) int {
	panic(noVector)
}

func onesVector(weights *float32, n int) int {
	panic(noVector)
}
