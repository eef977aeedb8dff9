package layer

import "github.com/fathom-train/fathom/compute/kernel"

// softmaxRows replaces every row of x [.., width] by its softmax.
func softmaxRows(x []float32, width int) { kernel.SoftmaxRows(x, width) }

// softmaxRowsGrad turns the gradient g of the softmax y [.., width] into that
// of its input, in place.
func softmaxRowsGrad(g, y []float32, width int) { kernel.SoftmaxRowsGrad(g, y, width) }

// tanhSlice sets dst[i] to tanh(x[i]).
func tanhSlice(dst, x []float32) { kernel.TanhSlice(dst, x) }

// tanhGrad turns the gradient g of y = tanh(x) into that of x, in place.
func tanhGrad(g, y []float32) {
	for i, v := range y {
		g[i] *= 1 - float32(v*v)
	}
}
