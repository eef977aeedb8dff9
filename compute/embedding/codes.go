package embedding

// Codes is how many numbers Samples.Codes has for every field.
const Codes = 8

// Codes overwrites dst [n, fields*Codes] with numbers that tell the values of the
// samples apart and need no table: for every field the sum over its occurrences of
// weight times the bytes of the key, each as a signed number over 128 (hash codes
// as those of Kang et al. 2021, of one hash: keys are hashes already).
func (s Samples) Codes(dst []float32) {
	clear(dst)
	for entry := range len(dst) / Codes {
		to := dst[entry*Codes : (entry+1)*Codes]
		for o := s.Offsets[entry]; o < s.Offsets[entry+1]; o++ {
			key, weight := uint64(s.Keys[o]), s.Weights[o]
			for i := range to {
				to[i] += float32(weight * (float32(int8(key>>(8*i))) / 128))
			}
		}
	}
}
