package supernet

// Soft writes to out the first n rows as they are under a soft threshold: every
// weight v becomes sign(v) * max(|v|-threshold, 0), so a row all of whose weights
// are at most the threshold is zero (PEP, Liu et al. 2021, equation 4, with one
// threshold for a whole table).
func Soft(out, in Rows, n int, threshold float32) {
	for u := range n {
		to := out.row(u)
		for k, v := range in.row(u) {
			switch left := abs(v) - threshold; {
			case !(left > 0):
				to[k] = 0
			case v < 0:
				to[k] = -left
			default:
				to[k] = left
			}
		}
	}
}

// SoftBackward turns the gradients of the rows that Soft wrote, in place, into those
// of its input, and returns that of the threshold. Weights that are zero get none.
func SoftBackward(d, in Rows, n int, threshold float32) (dThreshold float32) {
	for u := range n {
		g := d.row(u)
		for k, v := range in.row(u) {
			switch {
			case !(abs(v)-threshold > 0):
				g[k] = 0
			case v < 0:
				dThreshold += g[k]
			default:
				dThreshold -= g[k]
			}
		}
	}
	return dThreshold
}
