// Package exact adds numbers without rounding, so that a sum does not depend on
// the order of its terms, nor on how they are spread over machines.
//
//	var a, b exact.Sum // on two machines
//	a.Add(0.1)
//	b.Add(1e-30)
//	a.Merge(b)
//	total := a.Float64()
package exact

import (
	"math"
	"math/bits"
)

// Words is the length of a Sum in 64-bit words.
const Words = 8

// Sum is a sum of numbers that are not negative: an integer in units of 2^-320,
// lowest word first. It holds squares of float32 numbers to their last bit. The
// zero value is an empty sum.
type Sum [Words]uint64

const (
	// unit is the exponent of the unit.
	unit = -320
	// most is what a term is cut to: 2^12 terms of any size, and any number of
	// terms that training can have of usual size, do not overflow.
	most = 0x1p179
)

// Add adds x. What is below the unit is cut off; NaN and what is above 2^179
// count as 2^179, negative numbers as 0.
func (s *Sum) Add(x float64) {
	if !(x <= most) {
		x = most
	}
	if !(x > 0) {
		return
	}
	b := math.Float64bits(x)
	exponent, mantissa := int(b>>52), b&(1<<52-1)
	if exponent == 0 {
		return // below 2^-1022
	}
	// x is mantissa times 2^(exponent-1075), with the hidden bit set.
	mantissa |= 1 << 52
	at := exponent - 1075 - unit
	if at < 0 {
		if at <= -64 {
			return
		}
		mantissa >>= -at
		at = 0
	}
	word, shift := at/64, uint(at%64)
	lo, hi := mantissa<<shift, mantissa>>(64-shift)
	if shift == 0 {
		hi = 0
	}
	var carry uint64
	s[word], carry = bits.Add64(s[word], lo, 0)
	for word++; word < Words && (hi|carry) != 0; word++ {
		s[word], carry = bits.Add64(s[word], hi, carry)
		hi = 0
	}
}

// Merge adds another sum.
func (s *Sum) Merge(other Sum) {
	var carry uint64
	for i := range s {
		s[i], carry = bits.Add64(s[i], other[i], carry)
	}
}

// Float64 returns the sum cut off to 53 bits.
func (s *Sum) Float64() float64 {
	top := Words - 1
	for top > 0 && s[top] == 0 {
		top--
	}
	if s[top] == 0 {
		return 0
	}
	word, zeros := s[top], bits.LeadingZeros64(s[top])
	if zeros > 0 {
		word <<= zeros
		if top > 0 {
			word |= s[top-1] >> (64 - zeros)
		}
	}
	return math.Ldexp(float64(word>>11), unit+64*top-zeros+11)
}
