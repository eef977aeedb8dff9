package replica

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/hashicorp/raft"
)

// errChecksum says that an entry or value on disk is not what was written.
var errChecksum = errors.New("checksum does not match")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// sealSize is the size of a seal.
const sealSize = 4

// seal returns the entry as it goes to disk: with a checksum of all its parts
// in front of its extensions, because raft-wal does not notice a flipped bit.
// (Its own hook for this, a codec, cannot be used: segments written with
// another codec than the built-in one cannot be opened again.)
func seal(l *raft.Log) *raft.Log {
	sealed := *l
	sealed.Extensions = binary.LittleEndian.AppendUint32(make([]byte, 0, sealSize+len(l.Extensions)), checksum(l))
	sealed.Extensions = append(sealed.Extensions, l.Extensions...)
	return &sealed
}

// unseal checks an entry from disk and makes it what it was before seal.
func unseal(l *raft.Log) error {
	if len(l.Extensions) < sealSize {
		return fmt.Errorf("no checksum: %w", errChecksum)
	}
	want := binary.LittleEndian.Uint32(l.Extensions)
	l.Extensions = l.Extensions[sealSize:]
	if len(l.Extensions) == 0 {
		l.Extensions = nil
	}
	if checksum(l) != want {
		return errChecksum
	}
	return nil
}

func checksum(l *raft.Log) uint32 {
	var h [32]byte
	binary.LittleEndian.PutUint64(h[0:], l.Index)
	binary.LittleEndian.PutUint64(h[8:], l.Term)
	binary.LittleEndian.PutUint32(h[16:], uint32(l.Type))
	binary.LittleEndian.PutUint32(h[20:], uint32(len(l.Extensions)))
	if !l.AppendedAt.IsZero() {
		binary.LittleEndian.PutUint64(h[24:], uint64(l.AppendedAt.UnixNano()))
	}
	sum := crc32.Checksum(h[:], castagnoli)
	sum = crc32.Update(sum, castagnoli, l.Extensions)
	return crc32.Update(sum, castagnoli, l.Data)
}
