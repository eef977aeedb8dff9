package replica

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
)

// tailMagic starts the tail file.
const tailMagic = "FTHMTAIL"

// tailSize is that of the tail file: magic, last index u64, crc32c u32.
const tailSize = 20

// tailFile remembers the last index that is in the log for certain. The log
// drops its end without a word when the end is damaged, as after a torn write;
// an index that had been synced is gone then, and a voter that forgets what it
// acknowledged breaks the group's promise.
//
// The file is written after every append without a sync of its own: it may lag
// behind the log, never run ahead of it. Only lowering it is synced, before
// the log is cut.
type tailFile struct {
	f    *os.File
	path string
}

// readTail returns the index in the file, or 0 when there is none.
func readTail(path string) (uint64, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", path, err)
	}
	if len(b) == 0 {
		return 0, nil // created, not yet written
	}
	if len(b) != tailSize || string(b[:8]) != tailMagic ||
		crc32.Checksum(b[:16], castagnoli) != binary.LittleEndian.Uint32(b[16:]) {
		return 0, damaged(path, "%w", errChecksum)
	}
	return binary.LittleEndian.Uint64(b[8:]), nil
}

func openTail(path string) (*tailFile, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open tail of log: %w", err)
	}
	return &tailFile{f: f, path: path}, nil
}

func (t *tailFile) set(last uint64, sync bool) error {
	var b [tailSize]byte
	copy(b[:], tailMagic)
	binary.LittleEndian.PutUint64(b[8:], last)
	binary.LittleEndian.PutUint32(b[16:], crc32.Checksum(b[:16], castagnoli))
	if _, err := t.f.WriteAt(b[:], 0); err != nil {
		return fmt.Errorf("write %s: %w", t.path, err)
	}
	if sync {
		if err := t.f.Sync(); err != nil {
			return fmt.Errorf("sync %s: %w", t.path, err)
		}
	}
	return nil
}

func (t *tailFile) close() error { return t.f.Close() }
