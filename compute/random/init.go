package random

import (
	"fmt"
	"math"
)

// Init is the distribution of the first values of a row or tensor.
type Init struct {
	// Kind is "normal" (Scale is the standard deviation), "uniform" (from
	// -Scale to Scale), "constant" (Scale is the value) or "" (constant 0).
	Kind string `json:"kind"`
	// Scale is finite, and not negative except for a constant.
	Scale float32 `json:"scale"`
}

// The kinds of Init.
const (
	Normal   = "normal"
	Uniform  = "uniform"
	Constant = "constant"
)

// Validate reports what is wrong with the distribution.
func (i Init) Validate() error {
	switch i.Kind {
	case "", Normal, Uniform, Constant:
	default:
		return fmt.Errorf("kind: unknown distribution %q: use normal, uniform or constant", i.Kind)
	}
	if math.IsNaN(float64(i.Scale)) || math.IsInf(float64(i.Scale), 0) {
		return fmt.Errorf("scale: %v is not a finite number", i.Scale)
	}
	if i.Kind != Constant && i.Scale < 0 {
		return fmt.Errorf("scale: %v is negative", i.Scale)
	}
	if i.Kind == "" && i.Scale != 0 {
		return fmt.Errorf("kind: missing, but scale is %v: use normal, uniform or constant", i.Scale)
	}
	return nil
}

// Fill sets dst to the distribution's values for a stream. Element j depends
// on the stream and j only. It panics on an Init that does not validate.
func (i Init) Fill(dst []float32, stream uint64) { i.FillFrom(dst, stream, 0) }

// FillFrom sets dst to elements first, first+1, ... of what Fill would give a
// longer slice.
func (i Init) FillFrom(dst []float32, stream uint64, first int) {
	switch i.Kind {
	case "":
		clear(dst)
	case Constant:
		for j := range dst {
			dst[j] = i.Scale
		}
	case Uniform:
		for j := range dst {
			// 2u-1 is exact: a multiple of 2^-23 of at most 24 bits.
			dst[j] = (float32(2*Unit(Word(stream, uint64(first+j)))) - 1) * i.Scale
		}
	case Normal:
		for j := range dst {
			dst[j] = normal(stream, uint64(first+j)) * i.Scale
		}
	default:
		panic(fmt.Sprintf("compute/random: BUG: Fill with the unknown distribution %q", i.Kind))
	}
}

// irwinHallMean is the mean of the sum of twelve uniform 16-bit numbers.
const irwinHallMean = 12 * (1<<16 - 1) / 2

// normal returns element i of a stream of approximately standard normal
// numbers, after Irwin and Hall: the sum of twelve uniform 16-bit numbers has
// the variance 2^32-1. The result is exact (a multiple of 2^-16 between -6 and
// 6), and there is no transcendental function that machines could disagree on.
// The tails are a little light: a fifth is missing beyond three deviations.
func normal(stream, i uint64) float32 {
	var sum uint64
	for k := range uint64(3) {
		w := Word(stream, 3*i+k)
		sum += w&0xffff + w>>16&0xffff + w>>32&0xffff + w>>48
	}
	return float32(int64(sum)-irwinHallMean) * 0x1p-16
}
