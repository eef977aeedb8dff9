//go:build unix

package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// openFilesMin is with how few open files a process still works: etcd wants 150
// besides those of its clients, a server has a log and some connections per shard.
const openFilesMin = 256

// checkOpenFiles refuses to begin where files and connections would soon be
// refused. Go's runtime has raised the limit as far as it may.
func checkOpenFiles() error {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return fmt.Errorf("how many files may be open: %w", err)
	}
	if uint64(l.Max) < openFilesMin {
		return fmt.Errorf("a process may open %d files here, and fathom needs %d: raise the limit (ulimit -Hn, LimitNOFILE= in a systemd unit)", l.Max, openFilesMin)
	}
	return nil
}
