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
