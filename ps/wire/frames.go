package wire

import "fmt"

const (
	framesHeaderSize = 8
	frameHeaderSize  = 8
	headerBodySize   = 16
	bodyHeaderSize   = envelopeSize + headerBodySize
)

// AppendFrames appends a list of commands, each with its length.
func AppendFrames(dst []byte, chunks [][]byte) []byte {
	dst = le.AppendUint32(dst, uint32(len(chunks)))
	dst = le.AppendUint32(dst, 0)
	for _, c := range chunks {
		dst = le.AppendUint32(dst, uint32(len(c)))
		dst = le.AppendUint32(dst, 0)
		dst = append(dst, c...)
		dst = append(dst, zeros[:pad8(len(c))-len(c)]...)
	}
	return dst
}

// ParseFrames returns the commands of AppendFrames; they alias b. It does not
// look into them: use Kind to check each.
func ParseFrames(b []byte) ([][]byte, error) {
	if len(b) < framesHeaderSize {
		return nil, fmt.Errorf("%w: frames of %d bytes, shorter than their header", ErrCorrupt, len(b))
	}
	count, rest := le.Uint32(b), b[framesHeaderSize:]
	if count == 0 || count > MaxChunks || int(count) > len(rest)/(frameHeaderSize+envelopeSize) {
		return nil, fmt.Errorf("%w: %d frames in %d bytes", ErrCorrupt, count, len(b))
	}
	frames := make([][]byte, count)
	for i := range frames {
		if len(rest) < frameHeaderSize {
			return nil, fmt.Errorf("%w: frame %d of %d is cut off", ErrCorrupt, i, count)
		}
		n := int64(le.Uint32(rest))
		rest = rest[frameHeaderSize:]
		if n < envelopeSize || n > max(MaxChunk, MaxSchema+envelopeSize) || pad8(int(n)) > len(rest) {
			return nil, fmt.Errorf("%w: frame %d of %d has %d bytes, %d are left", ErrCorrupt, i, count, n, len(rest))
		}
		frames[i], rest = rest[:n:n], rest[pad8(int(n)):]
	}
	if len(rest) != 0 {
		return nil, fmt.Errorf("%w: %d bytes behind the last frame", ErrCorrupt, len(rest))
	}
	return frames, nil
}

// PushHeader says where the commands of a push request go.
type PushHeader struct {
	Run   uint64
	Shard uint32
}

// putPushHeader writes the first bodyHeaderSize bytes of a push request.
func putPushHeader(b []byte, h PushHeader) {
	le.PutUint64(b[envelopeSize:], h.Run)
	le.PutUint32(b[envelopeSize+8:], h.Shard)
	// The checksum of the header alone: the commands carry their own.
	seal(b[:bodyHeaderSize], kindPushHeader)
}

// AppendPushBody appends the body of a push request: header and commands.
func AppendPushBody(dst []byte, h PushHeader, chunks [][]byte) []byte {
	start := len(dst)
	dst = append(dst, make([]byte, bodyHeaderSize)...)
	putPushHeader(dst[start:], h)
	return AppendFrames(dst, chunks)
}

// ParsePushBody returns the header and the commands of a push request; the
// commands alias b and are not looked into.
func ParsePushBody(b []byte) (PushHeader, [][]byte, error) {
	if len(b) < bodyHeaderSize {
		return PushHeader{}, nil, fmt.Errorf("%w: push request of %d bytes, shorter than its header", ErrCorrupt, len(b))
	}
	body, err := openAs(b[:bodyHeaderSize], kindPushHeader)
	if err != nil {
		return PushHeader{}, nil, fmt.Errorf("push header: %w", err)
	}
	h := PushHeader{Run: le.Uint64(body), Shard: le.Uint32(body[8:])}
	frames, err := ParseFrames(b[bodyHeaderSize:])
	return h, frames, err
}
