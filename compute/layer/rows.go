package layer

import (
	"math"

	"github.com/fathom-train/fathom/compute/random"
)

// CopyRows copies n rows of the given width from src, whose rows begin every
// srcStride elements, to dst, whose rows begin every dstStride.
func CopyRows(dst []float32, dstStride int, src []float32, srcStride, width, n int) {
	for i := range n {
		copy(dst[i*dstStride:i*dstStride+width], src[i*srcStride:i*srcStride+width])
	}
}

// Xavier returns the initial distribution of a tensor with the given fans:
// normal with variance 2/(in+out).
func Xavier(in, out int) random.Init {
	return random.Init{Kind: "normal", Scale: float32(math.Sqrt(2 / float64(in+out)))}
}

// LinearParams lists the weight and the bias of a Linear.
func LinearParams(name string, in, out int) []Param {
	return []Param{
		{Name: name + ".weight", Shape: []int{out, in}, Init: Xavier(in, out)},
		{Name: name + ".bias", Shape: []int{out}},
	}
}
