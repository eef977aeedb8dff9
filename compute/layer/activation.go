package layer

import (
	"math"

	"github.com/fathom-train/fathom/compute/kernel"
	"github.com/fathom-train/fathom/compute/random"
)

// ReLU is y = max(x, 0). It needs no cache of its own: Backward is given the
// output again.
type ReLU struct{}

// Forward computes y from x, which may be the same.
func (ReLU) Forward(y, x []float32) { kernel.ReLU(y, x) }

// Backward computes dx = dy where y > 0 and zero elsewhere; dx and dy may be
// the same. A later dropout in place does no harm: where it made y zero, it
// made dy zero as well.
func (ReLU) Backward(dx, dy, y []float32) { kernel.ReLUGrad(dx, dy, y) }

// Dropout sets every element to zero with probability Rate in training and
// multiplies the others by 1/(1-Rate), so that evaluation leaves x as it is.
type Dropout struct {
	// Rate is in [0, 1).
	Rate float32

	mask []float32 // 0 or 1/(1-Rate), for every element
}

// Forward computes y from x, which may be the same. Element i is dropped by
// half i%2 of word i/2 of the stream, so its fate depends on the stream and its
// position alone.
func (d *Dropout) Forward(y, x []float32, stream uint64) {
	d.mask = grow(d.mask, len(x))
	d.draw(stream)
	kernel.Mul(y, x, d.mask)
}

// Backward computes dx = dy * mask; dx and dy may be the same.
func (d *Dropout) Backward(dx, dy []float32) { kernel.Mul(dx, dy, d.mask) }

// draw fills the mask. The comparison is one of integers, and free of branches
// because its outcome cannot be predicted.
func (d *Dropout) draw(stream uint64) {
	threshold := uint64(float64(d.Rate) * (1 << 32)) // exact: a power of two
	keep := math.Float32bits(1 / (1 - d.Rate))
	pick := func(half uint64) float32 {
		dropped := (half - threshold) >> 63 // 1 when half < threshold
		return math.Float32frombits(keep & (uint32(dropped) - 1))
	}
	n := len(d.mask)
	for i := 0; i+1 < n; i += 2 {
		word := random.Word(stream, uint64(i/2))
		d.mask[i] = pick(word & math.MaxUint32)
		d.mask[i+1] = pick(word >> 32)
	}
	if n%2 == 1 {
		d.mask[n-1] = pick(random.Word(stream, uint64(n/2)) & math.MaxUint32)
	}
}
