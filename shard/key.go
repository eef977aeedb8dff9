package shard

import "strconv"

// Key names one row of a table: the hash of a field's name and one of its
// values, so that one table can serve many fields.
type Key uint64

// Hasher is a hash state with a field's name mixed in. The zero value is a
// valid state but belongs to no field; use NewHasher.
type Hasher uint64

const (
	fnvOffset = 14695981039346656037
	fnvPrime  = 1099511628211
)

// The tail is the last byte that is hashed; it keeps the kinds of values of
// one field apart, so that an absent value and an empty string differ.
const (
	tailText    = 1
	tailMissing = 2
	tailValue   = 3
)

// NewHasher returns the state of a field. The name is finalized before any
// value is mixed in: field "ab" with value "c" is not field "a" with "bc".
func NewHasher(field string) Hasher {
	h := uint64(fnvOffset)
	for i := range len(field) {
		h = (h ^ uint64(field[i])) * fnvPrime
	}
	return Hasher(mix(h))
}

// String returns the key of a text value.
func (h Hasher) String(value string) Key {
	s := uint64(h)
	for i := range len(value) {
		s = (s ^ uint64(value[i])) * fnvPrime
	}
	return finish(s, tailText)
}

// Bytes returns the key of a text value; equal to String of the same bytes.
func (h Hasher) Bytes(value []byte) Key {
	s := uint64(h)
	for _, b := range value {
		s = (s ^ uint64(b)) * fnvPrime
	}
	return finish(s, tailText)
}

// Int returns the key of an integer: that of its decimal text, so that a
// column gives the same keys whether a file stores it as text or as numbers.
func (h Hasher) Int(v int64) Key {
	var buf [20]byte
	return h.Bytes(strconv.AppendInt(buf[:0], v, 10))
}

// Missing returns the key of the field's absent value. It differs from the
// key of every text by its tail (up to a 64-bit collision, as for any two
// values).
func (h Hasher) Missing() Key { return finish(uint64(h), tailMissing) }

// Value returns the one key of a numeric pass-through field, whose value is
// the weight of the row and not part of the key.
func (h Hasher) Value() Key { return finish(uint64(h), tailValue) }

// finish mixes in the tail and spreads the state over all 64 bits: shards are
// ranges of keys, so the top bits must be as good as the low ones, which those
// of plain FNV-1a are not for short values.
func finish(s uint64, tail byte) Key {
	return Key(mix((s ^ uint64(tail)) * fnvPrime))
}

// mix is the 64-bit finalizer of MurmurHash3, a bijection.
func mix(x uint64) uint64 {
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	x ^= x >> 33
	return x
}
