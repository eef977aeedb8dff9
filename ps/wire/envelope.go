package wire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

var (
	// ErrCorrupt says that the bytes are not what their sender wrote: no
	// envelope, a wrong length or a wrong checksum.
	ErrCorrupt = errors.New("corrupt message")
	// ErrMalformed says that the envelope is sound and its content is not a
	// message of this format.
	ErrMalformed = errors.New("malformed message")
	// ErrKind says that the envelope is sound and holds another kind of
	// message than the one asked for.
	ErrKind = errors.New("message of another kind")
)

// Command is the kind of a message.
type Command uint16

// The kinds. Only the exported ones are commands of the raft log.
const (
	KindConfigure   Command = 1
	KindPush        Command = 2
	kindPullRequest Command = 3
	kindPullReply   Command = 4
	kindSealedReply Command = 5
	kindPushHeader  Command = 6
	KindReduce      Command = 7
)

// String returns the kind's name.
func (c Command) String() string {
	switch c {
	case KindConfigure:
		return "configure"
	case KindPush:
		return "push"
	case KindReduce:
		return "reduce"
	case kindPullRequest:
		return "pull request"
	case kindPullReply, kindSealedReply:
		return "pull reply"
	case kindPushHeader:
		return "push header"
	}
	return fmt.Sprintf("kind %d", uint16(c))
}

const (
	magic        = 0x4d485446 // "FTHM"
	format       = 1
	envelopeSize = 16
)

var (
	le         = binary.LittleEndian
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

// Kind returns the kind of a command after checking its envelope: the error
// wraps ErrCorrupt when the bytes are damaged and ErrMalformed when they are
// no command of the log.
func Kind(cmd []byte) (Command, error) {
	kind, _, err := open(cmd)
	if err != nil {
		return 0, err
	}
	if kind != KindConfigure && kind != KindPush && kind != KindReduce {
		return 0, fmt.Errorf("%w: %v is not a command", ErrMalformed, kind)
	}
	return kind, nil
}

// open checks the envelope and returns the body, which aliases b.
func open(b []byte) (Command, []byte, error) {
	if len(b) < envelopeSize {
		return 0, nil, fmt.Errorf("%w: %d bytes, shorter than an envelope", ErrCorrupt, len(b))
	}
	if m := le.Uint32(b); m != magic {
		return 0, nil, fmt.Errorf("%w: starts with %#08x, not an envelope", ErrCorrupt, m)
	}
	if n := le.Uint32(b[8:]); uint64(n) != uint64(len(b)) {
		return 0, nil, fmt.Errorf("%w: %d bytes, its envelope says %d", ErrCorrupt, len(b), n)
	}
	if got, want := crc32.Checksum(b[8:], castagnoli), le.Uint32(b[4:]); got != want {
		return 0, nil, fmt.Errorf("%w: checksum %#08x, its envelope says %#08x", ErrCorrupt, got, want)
	}
	if f := le.Uint16(b[14:]); f != format {
		return 0, nil, fmt.Errorf("%w: format %d, this version reads %d", ErrMalformed, f, format)
	}
	return Command(le.Uint16(b[12:])), b[envelopeSize:], nil
}

// openAs is open for one expected kind.
func openAs(b []byte, want Command) ([]byte, error) {
	kind, body, err := open(b)
	if err != nil {
		return nil, err
	}
	if kind != want {
		return nil, fmt.Errorf("%w: %v, want %v", ErrKind, kind, want)
	}
	return body, nil
}

// seal fills the envelope at the start of a complete message.
func seal(msg []byte, kind Command) {
	le.PutUint32(msg, magic)
	le.PutUint32(msg[8:], uint32(len(msg)))
	le.PutUint16(msg[12:], uint16(kind))
	le.PutUint16(msg[14:], format)
	le.PutUint32(msg[4:], crc32.Checksum(msg[8:], castagnoli))
}

// MaxSchema bounds the schema of a configure command in bytes.
const MaxSchema = 256 << 10

// AppendConfigure appends the command that configures a state machine with an
// encoded schema (see fsm.MarshalSchema). It panics above MaxSchema.
func AppendConfigure(dst []byte, schemaBytes []byte) []byte {
	if len(schemaBytes) > MaxSchema {
		panic(fmt.Sprintf("ps/wire: BUG: schema of %d bytes, at most %d are allowed", len(schemaBytes), MaxSchema))
	}
	start := len(dst)
	dst = append(dst, make([]byte, envelopeSize)...)
	dst = append(dst, schemaBytes...)
	seal(dst[start:], KindConfigure)
	return dst
}

// ParseConfigure returns the encoded schema of a configure command; it aliases
// cmd.
func ParseConfigure(cmd []byte) ([]byte, error) {
	body, err := openAs(cmd, KindConfigure)
	if err != nil {
		return nil, err
	}
	if len(body) > MaxSchema {
		return nil, fmt.Errorf("%w: schema of %d bytes, at most %d are allowed", ErrMalformed, len(body), MaxSchema)
	}
	return body, nil
}
