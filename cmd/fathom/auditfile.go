package main

import (
	"errors"
	"fmt"
	"os"
)

const (
	// auditFileBytes is how long the file of an audit trail gets before it is put
	// aside, and auditFilesKept how many of those are kept.
	auditFileBytes = 16 << 20
	auditFilesKept = 4
)

// auditFile is the audit trail on disk: FILE, and what was put aside as FILE.1,
// the newest, to FILE.4. What Write has returned for is on the disk. It is used
// by one goroutine at a time.
type auditFile struct {
	path     string
	bytesMax int64
	file     *os.File
	size     int64
}

func openAuditFile(path string) (*auditFile, error) {
	a := &auditFile{path: path, bytesMax: auditFileBytes}
	return a, a.open()
}

func (a *auditFile) open() error {
	f, err := os.OpenFile(a.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open audit file: %w", err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file", a.path)
	}
	if err != nil {
		return fmt.Errorf("open audit file: %w", errors.Join(err, f.Close()))
	}
	a.file, a.size = f, info.Size()
	return nil
}

// Write appends one line.
func (a *auditFile) Write(line []byte) (int, error) {
	if a.size > 0 && a.size+int64(len(line)) > a.bytesMax {
		if err := a.rotate(); err != nil {
			return 0, err
		}
	}
	n, err := a.file.Write(line)
	a.size += int64(n)
	return n, errors.Join(err, a.file.Sync())
}

// rotate puts the file aside. When it cannot be, the trail goes on in it.
func (a *auditFile) rotate() error {
	for i := auditFilesKept - 1; i >= 0; i-- {
		from := a.aside(i)
		if err := os.Rename(from, a.aside(i+1)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("put audit file %s aside: %w", from, err)
		}
	}
	old := a.file
	return errors.Join(a.open(), old.Close())
}

// aside is the name of the file that was put aside i times.
func (a *auditFile) aside(i int) string {
	if i == 0 {
		return a.path
	}
	return fmt.Sprintf("%s.%d", a.path, i)
}

func (a *auditFile) close() error { return a.file.Close() }
