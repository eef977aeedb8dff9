//go:build !amd64

package kernel

func sumRowsVector(sum, x *float32, n, m, columns int)           { panic(noVector) }
func pairsGradVector(dx, x, s *float32, alpha float32, n int)    { panic(noVector) }
func pairsGradAddVector(dx, x, s *float32, alpha float32, n int) { panic(noVector) }
func gatherVector(out *float32, width int, rows *float32, stride int, index *int32, n int) {
	panic(noVector)
}
func scatterVector(rows *float32, stride int, x *float32, width int, index *int32, n int) {
	panic(noVector)
}
