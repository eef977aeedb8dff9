//go:build !linux

package replica

import (
	"github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/types"
)

// systemFiles returns the files of the operating system.
func systemFiles() types.VFS { return fs.New() }
