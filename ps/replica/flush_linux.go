package replica

import (
	"os"

	"golang.org/x/sys/unix"
)

// flush writes n bytes of the file from an offset on to the disk, without what a
// sync does besides: it enters no change of the file system into its journal and
// does not empty the disk's cache, on which the next sync of the log would wait.
// What was written is therefore not safe yet.
func flush(f *os.File, at, n int64) error {
	return unix.SyncFileRange(int(f.Fd()), at, n,
		unix.SYNC_FILE_RANGE_WAIT_BEFORE|unix.SYNC_FILE_RANGE_WRITE|unix.SYNC_FILE_RANGE_WAIT_AFTER)
}
