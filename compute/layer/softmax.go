package layer

import "github.com/fathom-train/fathom/compute/kernel"

// softmaxRows replaces every row of x [.., width] by its softmax. The largest
// element is taken off first, so that nothing overflows.
func softmaxRows(x []float32, width int) {
	for at := 0; at < len(x); at += width {
		row := x[at : at+width]
		top := row[0]
		for _, v := range row[1:] {
			if v > top {
				top = v
			}
		}
		for j, v := range row {
			row[j] = kernel.Exp(v - top)
		}
		kernel.Scale(1/kernel.Sum(row), row)
	}
}

// softmaxRowsGrad turns the gradient g of the softmax y [.., width] into that
// of its input, in place: dx = y * (dy - y . dy).
func softmaxRowsGrad(g, y []float32, width int) {
	for at := 0; at < len(g); at += width {
		gs, ys := g[at:at+width], y[at:at+width]
		dot := kernel.Dot(gs, ys)
		for j, v := range ys {
			gs[j] = v * (gs[j] - dot)
		}
	}
}

// tanhSlice sets dst[i] to tanh(x[i]), within 4 units in the last place.
func tanhSlice(dst, x []float32) {
	for i, v := range x {
		dst[i] = tanh(v)
	}
}

// tanh is (1-e)/(1+e) with e = exp(-2|x|) for large arguments and its series,
// in float64, for small ones, where that would cancel.
func tanh(x float32) float32 {
	magnitude := x
	if x < 0 {
		magnitude = -x
	}
	if magnitude < 0.25 {
		d := float64(x)
		s := float64(d * d)
		p := float64(s*(62.0/2835)) - 17.0/315
		p = float64(p*s) + 2.0/15
		p = float64(p*s) - 1.0/3
		p = float64(p*s) + 1
		return float32(d * p)
	}
	e := kernel.Exp(-2 * magnitude)
	y := (1 - e) / (1 + e)
	if x < 0 {
		return -y
	}
	return y
}

// tanhGrad turns the gradient g of y = tanh(x) into that of x, in place.
func tanhGrad(g, y []float32) {
	for i, v := range y {
		g[i] *= 1 - float32(v*v)
	}
}
