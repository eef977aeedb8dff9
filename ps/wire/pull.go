package wire

import (
	"fmt"
	"hash/crc32"
	"math"
	"unsafe"

	"github.com/fathom-train/fathom/shard"
)

const (
	pullHeaderSize  = 24
	tableHeaderSize = 8
	replyHeaderSize = envelopeSize + 16
)

// TableKeys names rows of one table, in any order.
type TableKeys struct {
	Table uint16
	Keys  []shard.Key
}

// PullRequest asks one shard for rows and dense tensors at one version.
type PullRequest struct {
	Run     uint64
	Shard   uint32
	Version uint64
	Tables  []TableKeys
	Dense   []uint16

	scratch []uint64
}

// Append appends the encoded request. It panics when there are more than 65535
// tables or tensors.
func (r *PullRequest) Append(dst []byte) []byte {
	if len(r.Tables) > math.MaxUint16 || len(r.Dense) > math.MaxUint16 {
		panic(fmt.Sprintf("ps/wire: BUG: pull of %d tables and %d dense tensors", len(r.Tables), len(r.Dense)))
	}
	start := len(dst)
	dst = append(dst, make([]byte, envelopeSize)...)
	dst = le.AppendUint64(dst, r.Run)
	dst = le.AppendUint64(dst, r.Version)
	dst = le.AppendUint32(dst, r.Shard)
	dst = le.AppendUint16(dst, uint16(len(r.Tables)))
	dst = le.AppendUint16(dst, uint16(len(r.Dense)))
	for _, t := range r.Tables {
		dst = le.AppendUint16(dst, t.Table)
		dst = le.AppendUint16(dst, 0)
		dst = le.AppendUint32(dst, uint32(len(t.Keys)))
		dst = appendNumbers(dst, t.Keys)
	}
	dst = appendNumbers(dst, r.Dense)
	seal(dst[start:], kindPullRequest)
	return dst
}

// ParsePullRequest parses an encoded request into r, whose slices are reused.
// Keys alias b when it starts at a multiple of eight bytes, else a copy in r.
func ParsePullRequest(b []byte, r *PullRequest) error {
	b = align(b, &r.scratch)
	body, err := openAs(b, kindPullRequest)
	if err != nil {
		return err
	}
	if len(body) < pullHeaderSize {
		return fmt.Errorf("%w: pull request of %d bytes, shorter than its header", ErrMalformed, len(b))
	}
	r.Run, r.Version, r.Shard = le.Uint64(body), le.Uint64(body[8:]), le.Uint32(body[16:])
	tables, dense := int(le.Uint16(body[20:])), int(le.Uint16(body[22:]))
	r.Tables, r.Dense = r.Tables[:0], r.Dense[:0]
	rest := body[pullHeaderSize:]
	for i := range tables {
		if len(rest) < tableHeaderSize {
			return fmt.Errorf("%w: table %d of %d is cut off", ErrMalformed, i, tables)
		}
		id, n := le.Uint16(rest), le.Uint32(rest[4:])
		rest = rest[tableHeaderSize:]
		if uint64(n) > uint64(len(rest)/8) {
			return fmt.Errorf("%w: table %d of %d: %d keys in %d bytes", ErrMalformed, i, tables, n, len(rest))
		}
		r.Tables = append(r.Tables, TableKeys{Table: id, Keys: viewKeys(rest, int(n))})
		rest = rest[8*n:]
	}
	if len(rest) != pad8(2*dense) {
		return fmt.Errorf("%w: %d dense tensors in %d bytes", ErrMalformed, dense, len(rest))
	}
	for i := range dense {
		r.Dense = append(r.Dense, le.Uint16(rest[2*i:]))
	}
	return nil
}

// MaxPullFloats bounds the floats of one reply (256 MiB).
const MaxPullFloats = 1 << 26

// NewPullReply starts a reply with room for that many floats: for each table
// of the request the weights of its keys, then each dense tensor whole, in
// request order. dst is a buffer to reuse, its content is dropped. The caller
// fills values, which aliases buf, and may then call SealPullReply. It panics
// above MaxPullFloats.
func NewPullReply(dst []byte, version uint64, floats int) (buf []byte, values []float32) {
	if floats < 0 || floats > MaxPullFloats {
		panic(fmt.Sprintf("ps/wire: BUG: pull reply of %d floats, at most %d are allowed", floats, MaxPullFloats))
	}
	size := replyHeaderSize + 4*floats
	if cap(dst) < size || !aligned(dst) {
		words := make([]uint64, (size+7)/8)
		dst = unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(words))), size)
	}
	buf = dst[:size]
	le.PutUint64(buf[envelopeSize:], version)
	le.PutUint32(buf[envelopeSize+8:], uint32(floats))
	le.PutUint32(buf[envelopeSize+12:], 0)
	seal(buf[:replyHeaderSize], kindPullReply)
	return buf, viewFloats(buf[replyHeaderSize:], floats)
}

// SealPullReply adds the checksum of the values to a reply whose values are
// complete, so that ParsePullReply checks them.
func SealPullReply(buf []byte) {
	le.PutUint32(buf[envelopeSize+12:], crc32.Checksum(buf[replyHeaderSize:], castagnoli))
	seal(buf[:replyHeaderSize], kindSealedReply)
}

// ParsePullReply returns version and values of a reply. The values alias b
// when it starts at a multiple of eight bytes, else they are a copy.
func ParsePullReply(b []byte) (version uint64, values []float32, err error) {
	if len(b) < replyHeaderSize {
		return 0, nil, fmt.Errorf("%w: pull reply of %d bytes, shorter than its header", ErrCorrupt, len(b))
	}
	kind, body, err := open(b[:replyHeaderSize])
	if err != nil {
		return 0, nil, fmt.Errorf("pull reply: %w", err)
	}
	if kind != kindPullReply && kind != kindSealedReply {
		return 0, nil, fmt.Errorf("%w: %v, want pull reply", ErrKind, kind)
	}
	rest := b[replyHeaderSize:]
	n := le.Uint32(body[8:])
	if n > MaxPullFloats || 4*int(n) != len(rest) {
		return 0, nil, fmt.Errorf("%w: pull reply of %d floats in %d bytes", ErrCorrupt, n, len(rest))
	}
	if kind == kindSealedReply {
		if got, want := crc32.Checksum(rest, castagnoli), le.Uint32(body[12:]); got != want {
			return 0, nil, fmt.Errorf("%w: values of a pull reply: checksum %#08x, want %#08x", ErrCorrupt, got, want)
		}
	}
	var scratch []uint64
	return le.Uint64(body), viewFloats(align(rest, &scratch), int(n)), nil
}
