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
// little-endian, pairs ascending, the first one's predecessor being zero. With
// groups the magic is another one, and instead of the pairs there is for every
// group, ascending,
//
//	uvarint: group - previous group, uvarint: samples, samples x uvarint: pair - previous pair
//
// Every accumulator has one encoding, and every accepted encoding is that one.
// A block is either with or without groups.
const (
	magic      = "fev1"
	magicGroup = "fevg"
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
	dst = slices.Grow(dst, headerSize+2*a.Samples()+sumSize)
	if len(a.grouped) == 0 {
		dst = append(dst, magic...)
	} else {
		dst = append(dst, magicGroup...)
	}
	dst = binary.LittleEndian.AppendUint64(dst, uint64(a.Samples()))
	dst = binary.LittleEndian.AppendUint64(dst, a.invalid)
	dst = binary.LittleEndian.AppendUint64(dst, math.Float64bits(a.lossSum))
	var previous uint32
	for _, pair := range a.pairs {
		dst = binary.AppendUvarint(dst, uint64(pair-previous))
		previous = pair
	}
	dst = appendGroups(dst, a.grouped)
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
}

// appendGroups appends sorted members.
func appendGroups(dst []byte, all []member) []byte {
	var previous uint64
	for len(all) > 0 {
		n := 1
		for n < len(all) && all[n].group == all[0].group {
			n++
		}
		dst = binary.AppendUvarint(dst, all[0].group-previous)
		dst = binary.AppendUvarint(dst, uint64(n))
		previous = all[0].group
		var pair uint32
		for _, m := range all[:n] {
			dst = binary.AppendUvarint(dst, uint64(m.pair-pair))
			pair = m.pair
		}
		all = all[n:]
	}
	return dst
}

// Parse decodes what Append wrote. It refuses anything else with an error that
// wraps ErrCorrupt, and allocates at most 16 bytes per byte of input.
func Parse(b []byte) (*Accumulator, error) {
	if len(b) < headerSize+sumSize || string(b[:4]) != magic && string(b[:4]) != magicGroup {
		return nil, fmt.Errorf("%w: no header in %d bytes", ErrCorrupt, len(b))
	}
	groups := string(b[:4]) == magicGroup
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
	if groups {
		a.grouped, err = parseGroups(body, int(samples))
	} else {
		a.pairs, err = parsePairs(body, int(samples))
	}
	if err != nil {
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
	var err error
	for i := range pairs {
		if previous, b, err = next(b, previous, pairMax); err != nil {
			return nil, fmt.Errorf("pair %d of %d: %w", i, n, err)
		}
		pairs[i] = uint32(previous)
	}
	if len(b) != 0 {
		return nil, fmt.Errorf("%w: %d bytes after the last pair", ErrCorrupt, len(b))
	}
	return pairs, nil
}

// parseGroups decodes the n members of groups, at least one, which must use up b.
func parseGroups(b []byte, n int) ([]member, error) {
	all := make([]member, 0, n)
	var group, size uint64
	var err error
	for first := true; len(all) < n || first; first = false {
		before := group
		if group, b, err = next(b, group, math.MaxUint64); err != nil {
			return nil, fmt.Errorf("group: %w", err)
		}
		if size, b, err = next(b, 0, uint64(n-len(all))); err != nil {
			return nil, fmt.Errorf("size of a group: %w", err)
		}
		if size == 0 || !first && group == before {
			return nil, fmt.Errorf("%w: group %#x is empty or comes twice", ErrCorrupt, group)
		}
		var pair uint64
		for range size {
			if pair, b, err = next(b, pair, pairMax); err != nil {
				return nil, fmt.Errorf("pair of group %#x: %w", group, err)
			}
			all = append(all, member{group, uint32(pair)})
		}
	}
	if len(b) != 0 {
		return nil, fmt.Errorf("%w: %d bytes after the last group", ErrCorrupt, len(b))
	}
	return all, nil
}

// next decodes a number that is told as the difference to the one before, and
// is at most most.
func next(b []byte, before, most uint64) (uint64, []byte, error) {
	delta, size := binary.Uvarint(b)
	switch {
	case size <= 0:
		return 0, nil, fmt.Errorf("%w: a number is cut off", ErrCorrupt)
	case size > 1 && b[size-1] == 0:
		return 0, nil, fmt.Errorf("%w: a number is padded", ErrCorrupt)
	case delta > most-before:
		return 0, nil, fmt.Errorf("%w: a number is out of range", ErrCorrupt)
	}
	return before + delta, b[size:], nil
}
