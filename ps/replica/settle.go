package replica

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft-wal/types"
)

// A process that dies before a sync, and a sync that fails, leave writes that are
// read as if they were on disk and are gone when the machine stops; another sync
// may succeed without them, because the kernel forgets what it failed to write.
// A replica that acknowledged entries by what it had read would break its promise
// to the group. So what the last file of a log holds is written once more, and
// synced, when the log is opened. The files before it were synced when they ended.

// settled are the files of a log with that done.
type settled struct{ types.VFS }

// OpenWriter opens the segment that a log ends with.
func (v settled) OpenWriter(dir, name string) (types.WritableFile, error) {
	f, err := v.VFS.OpenWriter(dir, name)
	if err != nil {
		return nil, err
	}
	if err := settle(f); err != nil {
		return nil, errors.Join(fmt.Errorf("write %s once more: %w", filepath.Join(dir, name), err), f.Close())
	}
	return f, nil
}

// settleFile is settle for a file of the operating system that is open elsewhere.
func settleFile(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	if err := errors.Join(settle(f), f.Close()); err != nil {
		return fmt.Errorf("write %s once more: %w", path, err)
	}
	return nil
}

// settlePiece is how much is written again at once.
const settlePiece = 1 << 20

// settle writes what a file holds to where it is, and syncs it. Zeros are what a
// segment has where nothing was written yet.
func settle(f interface {
	io.ReaderAt
	io.WriterAt
	Sync() error
}) error {
	b := make([]byte, settlePiece)
	for at := int64(0); ; {
		n, err := f.ReadAt(b, at)
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		used := n
		for used > 0 && b[used-1] == 0 {
			used--
		}
		if used > 0 {
			if _, err := f.WriteAt(b[:used], at); err != nil {
				return err
			}
		}
		if at += int64(n); err != nil {
			return f.Sync()
		}
	}
}
