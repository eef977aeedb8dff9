package wire

import (
	"fmt"
	"math"
)

// Reduce is a command that tells a shard what all shards have together in one
// round of one step, like the norm of all gradients.
type Reduce struct {
	Run   uint64
	Step  uint64
	Round uint32
	// Totals are finite and not negative.
	Totals []float64
}

const (
	reduceHeaderSize = 24
	// MaxTotals bounds the numbers of one round.
	MaxTotals = 1 << 13
)

// AppendReduce appends the command.
func AppendReduce(dst []byte, r Reduce) []byte {
	start := len(dst)
	dst = append(dst, make([]byte, envelopeSize)...)
	dst = le.AppendUint64(dst, r.Run)
	dst = le.AppendUint64(dst, r.Step)
	dst = le.AppendUint32(dst, r.Round)
	dst = le.AppendUint32(dst, uint32(len(r.Totals)))
	for _, v := range r.Totals {
		dst = le.AppendUint64(dst, math.Float64bits(v))
	}
	seal(dst[start:], KindReduce)
	return dst
}

// ParseReduce parses the command.
func ParseReduce(cmd []byte) (Reduce, error) {
	body, err := openAs(cmd, KindReduce)
	if err != nil {
		return Reduce{}, err
	}
	if len(body) < reduceHeaderSize {
		return Reduce{}, fmt.Errorf("%w: reduce body of %d bytes, shorter than its header", ErrMalformed, len(body))
	}
	r := Reduce{Run: le.Uint64(body), Step: le.Uint64(body[8:]), Round: le.Uint32(body[16:])}
	n := le.Uint32(body[20:])
	if body = body[reduceHeaderSize:]; n > MaxTotals || int(n)*8 != len(body) {
		return Reduce{}, fmt.Errorf("%w: %d totals in %d bytes", ErrMalformed, n, len(body))
	}
	for ; len(body) > 0; body = body[8:] {
		v := math.Float64frombits(le.Uint64(body))
		if !(v >= 0 && v <= math.MaxFloat64) {
			return Reduce{}, fmt.Errorf("%w: total %d is %v", ErrMalformed, len(r.Totals), v)
		}
		r.Totals = append(r.Totals, v)
	}
	return r, nil
}
