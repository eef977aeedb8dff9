package replica

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"time"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
)

// errChecksum says that an entry or value on disk is not what was written.
var errChecksum = errors.New("checksum does not match")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// entryHeader is the size of what stands in front of an entry's data:
//
//	crc32c u32 | type u8 | format u8 | 0 u16 | index u64 | term u64 |
//	appended at (unix ns) u64 | extensions u32 | data u32
//
// The checksum covers everything behind itself.
const entryHeader = 40

const entryFormat = 1

// entryCodec is the log's codec: raft-wal itself does not notice a flipped bit.
type entryCodec struct{}

var _ wal.Codec = entryCodec{}

// ID names the format in the header of each segment.
func (entryCodec) ID() uint64 { return wal.FirstExternalCodecID + 0xfa }

// Encode writes an entry.
func (entryCodec) Encode(l *raft.Log, w io.Writer) error {
	var h [entryHeader]byte
	h[4], h[5] = byte(l.Type), entryFormat
	binary.LittleEndian.PutUint64(h[8:], l.Index)
	binary.LittleEndian.PutUint64(h[16:], l.Term)
	if !l.AppendedAt.IsZero() {
		binary.LittleEndian.PutUint64(h[24:], uint64(l.AppendedAt.UnixNano()))
	}
	binary.LittleEndian.PutUint32(h[32:], uint32(len(l.Extensions)))
	binary.LittleEndian.PutUint32(h[36:], uint32(len(l.Data)))
	sum := crc32.Update(0, castagnoli, h[4:])
	sum = crc32.Update(sum, castagnoli, l.Extensions)
	sum = crc32.Update(sum, castagnoli, l.Data)
	binary.LittleEndian.PutUint32(h[:], sum)
	if g, ok := w.(interface{ Grow(int) }); ok {
		g.Grow(entryHeader + len(l.Extensions) + len(l.Data))
	}
	for _, b := range [][]byte{h[:], l.Extensions, l.Data} {
		if _, err := w.Write(b); err != nil {
			return err
		}
	}
	return nil
}

// Decode reads an entry; nothing of b is kept.
func (entryCodec) Decode(b []byte, l *raft.Log) error {
	if len(b) < entryHeader {
		return fmt.Errorf("entry of %d bytes: %w", len(b), errChecksum)
	}
	if crc32.Checksum(b[4:], castagnoli) != binary.LittleEndian.Uint32(b) {
		return errChecksum
	}
	if b[5] != entryFormat {
		return fmt.Errorf("entry has format %d, this program knows %d", b[5], entryFormat)
	}
	extensions := binary.LittleEndian.Uint32(b[32:])
	data := binary.LittleEndian.Uint32(b[36:])
	if uint64(entryHeader)+uint64(extensions)+uint64(data) != uint64(len(b)) {
		return fmt.Errorf("entry of %d bytes has a wrong length: %w", len(b), errChecksum)
	}
	// Fresh memory: the state machine and the cache keep what they get, and
	// commands alias their sections when they start at a multiple of eight.
	body := make([]byte, data, data)
	copy(body, b[entryHeader+extensions:])
	*l = raft.Log{
		Index: binary.LittleEndian.Uint64(b[8:]),
		Term:  binary.LittleEndian.Uint64(b[16:]),
		Type:  raft.LogType(b[4]),
		Data:  body,
	}
	if extensions > 0 {
		l.Extensions = append([]byte(nil), b[entryHeader:entryHeader+extensions]...)
	}
	if ns := binary.LittleEndian.Uint64(b[24:]); ns != 0 {
		l.AppendedAt = time.Unix(0, int64(ns))
	}
	return nil
}
