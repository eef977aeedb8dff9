package kernel

// lanes is the number of partial sums of every reduction. Lane j takes the
// elements whose index is j modulo lanes, and the lanes are added as a tree:
// halves of 8, 4, 2 and 1. Every path does exactly this.
const lanes = 16

// tree adds the lanes in the fixed order of every reduction.
func tree(s *[lanes]float32) float32 {
	for width := lanes / 2; width > 0; width /= 2 {
		for j := range width {
			s[j] += s[j+width]
		}
	}
	return s[0]
}
