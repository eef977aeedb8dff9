package eval

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"slices"
)

// ErrCorrupt is wrapped by every error of Parse.
var ErrCorrupt = errors.New("corrupt evaluation block")

// A block of bytes is
//
//	+-------+---------+---------+---------+-----------------------+---------+
//	| magic | samples | invalid | lossSum | samples x uvarint:    | CRC-32C |
//	| 4     | 8       | 8       | 8       | pair - previous pair  | 4       |
//	+-------+---------+---------+---------+-----------------------+---------+
//
// little-endian, pairs ascending, the first one's predecessor being zero. Every
// accumulator has one encoding, and every accepted encoding is that one.
const (
	magic      = "fev1"
	headerSize = 4 + 8 + 8 + 8
	sumSize    = 4
	pairMax    = one<<1 | 1
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Append appends the encoded accumulator to dst. It sorts the pairs in place
// and changes nothing else.
func (a *Accumulator) Append(dst []byte) []byte {
	a.sort()
	start := len(dst)
	dst = slices.Grow(dst, headerSize+2*len(a.pairs)+sumSize)
	dst = append(dst, magic...)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(len(a.pairs)))
	dst = binary.LittleEndian.AppendUint64(dst, a.invalid)
	dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(a.lossSum))
	var previous uint32
	for _, pair := range a.pairs {
		dst = binary.AppendUvarint(dst, uint64(pair-previous))
		previous = pair
	}
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
}

// Parse decodes what Append wrote. It refuses anything else with an error that
// wraps ErrCorrupt, and allocates at most four bytes per byte of input.
func Parse(b []byte) (*Accumulator, error) {
	if len(b) < headerSize+sumSize || string(b[:4]) != magic {
		return nil, fmt.Errorf("%w: no header in %d bytes", ErrCorrupt, len(b))
	}
	body, sum := b[:len(b)-sumSize], binary.LittleEndian.Uint32(b[len(b)-sumSize:])
	if crc32.Checksum(body, castagnoli) != sum {
		return nil, fmt.Errorf("%w: checksum differs", ErrCorrupt)
	}
	samples := binary.LittleEndian.Uint64(body[4:])
	a := &Accumulator{
		sorted:  true,
		invalid: binary.LittleEndian.Uint64(body[12:]),
		lossSum: math.Float64frombits(binary.LittleEndian.Uint64(body[20:])),
	}
	body = body[headerSize:]
	if samples > uint64(len(body)) || a.invalid > samples {
		return nil, fmt.Errorf("%w: %d samples, %d of them invalid, in %d bytes", ErrCorrupt, samples, a.invalid, len(body))
	}
	if !(a.lossSum >= 0 && a.lossSum <= lossMax*float64(samples)) {
		return nil, fmt.Errorf("%w: loss sum %v of %d samples", ErrCorrupt, a.lossSum, samples)
	}
	var err error
	if a.pairs, err = parsePairs(body, int(samples)); err != nil {
		return nil, err
	}
	return a, nil
}

// lossMax bounds the loss of one sample: -log(clamp) is 16.12.
const lossMax = 17

// parsePairs decodes n pairs, which must use up b.
func parsePairs(b []byte, n int) ([]uint32, error) {
	pairs := make([]uint32, n)
	var previous uint64
	for i := range pairs {
		delta, size := binary.Uvarint(b)
		switch {
		case size <= 0:
			return nil, fmt.Errorf("%w: pair %d of %d is cut off", ErrCorrupt, i, n)
		case size > 1 && b[size-1] == 0:
			return nil, fmt.Errorf("%w: pair %d is padded", ErrCorrupt, i)
		case delta > pairMax-previous:
			return nil, fmt.Errorf("%w: pair %d is out of range", ErrCorrupt, i)
		}
		previous += delta
		pairs[i] = uint32(previous)
		b = b[size:]
	}
	if len(b) != 0 {
		return nil, fmt.Errorf("%w: %d bytes after the last pair", ErrCorrupt, len(b))
	}
	return pairs, nil
}
