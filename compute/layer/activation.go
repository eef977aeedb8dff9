package layer

import "github.com/fathom-train/fathom/compute/kernel"

// ReLU is y = max(x, 0). It needs no cache of its own: Backward is given the
// output again.
type ReLU struct{}

// Forward computes y from x, which may be the same.
func (ReLU) Forward(y, x []float32) { kernel.ReLU(y, x) }

// Backward computes dx = dy where y > 0 and zero elsewhere; dx and dy may be
// the same. A later dropout in place does no harm: where it made y zero, it
// made dy zero as well.
func (ReLU) Backward(dx, dy, y []float32) { kernel.ReLUGrad(dx, dy, y) }

// Dropout sets every element to zero with probability Rate in training, to a
// multiple of 2^-16, and multiplies the others by 1/(1-Rate), so that
// evaluation leaves x as it is.
type Dropout struct {
	// Rate is in [0, 1).
	Rate float32

	stream uint64
}

// Forward computes y from x, which may be the same. Element i is dropped by
// quarter i%4 of word i/4 of the stream, so its fate depends on the stream and
// its position alone, and no mask need be kept.
func (d *Dropout) Forward(y, x []float32, stream uint64) {
	d.stream = stream
	d.apply(y, x, 0)
}

// Backward computes dx = dy * mask; dx and dy may be the same.
func (d *Dropout) Backward(dx, dy []float32) { d.apply(dx, dy, 0) }

// apply drops some of a piece of the input that begins with element first.
func (d *Dropout) apply(y, x []float32, first int) {
	const whole = 1 << kernel.DropBits
	threshold := uint32(float64(d.Rate)*whole + 0.5)
	kernel.Drop(y, x, d.stream, uint64(first), min(threshold, whole-1), d.keep())
}

// keep is what the elements that stay are multiplied by.
func (d *Dropout) keep() float32 { return 1 / (1 - d.Rate) }
