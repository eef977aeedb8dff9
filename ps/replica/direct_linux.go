package replica

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"unsafe"

	"github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/types"
)

const (
	// directBlock is what direct writes are multiples of, in memory and on disk:
	// no less than any disk's own block.
	directBlock = 4 << 10
	// stageSize is the most that is written at once.
	stageSize = 1 << 20
)

// segmentFiles are the log's segments as files that are written past the page
// cache. What is synced after every append gains nothing from the cache, and
// copying into pages that are new to it was the most expensive part of the log.
type segmentFiles struct{ *fs.FS }

// systemFiles returns the files of the operating system.
func systemFiles() types.VFS { return segmentFiles{fs.New()} }

// Create creates a segment.
func (v segmentFiles) Create(dir, name string, size uint64) (types.WritableFile, error) {
	f, err := v.FS.Create(dir, name, size)
	if err != nil {
		return nil, err
	}
	return openDirect(f, filepath.Join(dir, name))
}

// OpenWriter opens the segment that a log ends with.
func (v segmentFiles) OpenWriter(dir, name string) (types.WritableFile, error) {
	f, err := v.FS.OpenWriter(dir, name)
	if err != nil {
		return nil, err
	}
	return openDirect(f, filepath.Join(dir, name))
}

// directFile is a file that is appended to. A write fills the rest of its last
// block with zeros, and the next one writes that block again. It may be read
// while it is written, beyond which its methods must not run at the same time.
type directFile struct {
	types.WritableFile // for all but writes
	direct             *os.File
	// end is where the last write ended, -1 if that is not known; last holds the
	// block around it, up to it.
	end  int64
	last [directBlock]byte
}

// openDirect returns the file itself where the file system has no direct writes.
func openDirect(f types.WritableFile, path string) (types.WritableFile, error) {
	direct, err := os.OpenFile(path, os.O_WRONLY|syscall.O_DIRECT, 0)
	if errors.Is(err, syscall.EINVAL) {
		return f, nil
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open %s for direct writes: %w", path, err), f.Close())
	}
	return &directFile{WritableFile: f, direct: direct, end: -1}, nil
}

// stages holds *[]byte of stageSize, aligned to directBlock.
var stages = sync.Pool{New: func() any {
	b := make([]byte, stageSize+directBlock)
	skip := -uintptr(unsafe.Pointer(unsafe.SliceData(b))) % directBlock
	b = b[skip : skip+stageSize]
	return &b
}}

// WriteAt implements io.WriterAt.
func (f *directFile) WriteAt(b []byte, off int64) (n int, err error) {
	stage := stages.Get().(*[]byte)
	defer stages.Put(stage)
	at := off &^ (directBlock - 1)
	have := int(off - at)
	if err := f.before((*stage)[:have], off); err != nil {
		return 0, err
	}
	f.end = -1
	for n < len(b) {
		k := copy((*stage)[have:], b[n:])
		have += k
		size := (have + directBlock - 1) &^ (directBlock - 1)
		clear((*stage)[have:size])
		_, err := f.direct.WriteAt((*stage)[:size], at)
		if errors.Is(err, syscall.EINVAL) { // the disk has larger blocks
			return f.WritableFile.WriteAt(b, off)
		}
		if err != nil {
			return n, err
		}
		n += k
		if n == len(b) {
			copy(f.last[:], (*stage)[have&^(directBlock-1):have])
			f.end = off + int64(n)
		}
		at, have = at+int64(have), 0
	}
	return n, nil
}

// before reads what stands in front of off in its block.
func (f *directFile) before(dst []byte, off int64) error {
	if off == f.end {
		copy(dst, f.last[:])
		return nil
	}
	n, err := f.ReadAt(dst, off-int64(len(dst)))
	clear(dst[n:])
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// Close closes the file.
func (f *directFile) Close() error { return errors.Join(f.direct.Close(), f.WritableFile.Close()) }
