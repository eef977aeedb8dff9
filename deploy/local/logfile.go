package local

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"sync"
)

const (
	tailBytesMax = 8 << 10
	tailLines    = 12
	lineBytesMax = 4 << 10
)

// logFile is the log of one process over all of its restarts: a file of bounded
// size, and the end of it in memory for messages.
type logFile struct {
	path     string
	bytesMax int64

	mu   sync.Mutex // guards all below
	file *os.File
	size int64
	tail []byte
	err  error // first failure to write
}

func openLog(path string, bytesMax int64) (*logFile, error) {
	l := &logFile{path: path, bytesMax: bytesMax}
	if err := l.open(); err != nil {
		return nil, err
	}
	return l, nil
}

func (l *logFile) open() error {
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		f.Close() // nothing was written
		return fmt.Errorf("open log: %w", err)
	}
	l.file, l.size = f, info.Size()
	return nil
}

// Write appends. It never fails: a child must not die of a full disk because of
// its log, and what is lost here is told by close.
func (l *logFile) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tail = append(l.tail, b...)
	if n := len(l.tail) - tailBytesMax; n > 0 {
		l.tail = append(l.tail[:0], l.tail[n:]...)
	}
	if l.file == nil {
		return len(b), nil
	}
	if l.size > 0 && l.size+int64(len(b)) > l.bytesMax {
		l.rotate()
	}
	n, err := l.file.Write(b)
	l.size += int64(n)
	l.note(err)
	return len(b), nil
}

// rotate puts the file aside, over the one put aside before.
func (l *logFile) rotate() {
	if err := os.Rename(l.path, l.path+".1"); err != nil {
		l.note(err)
		return
	}
	l.note(l.file.Close())
	l.file = nil
	l.note(l.open())
}

func (l *logFile) note(err error) {
	if l.err == nil {
		l.err = err
	}
}

// end returns the last lines, indented.
func (l *logFile) end() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := strings.Split(strings.TrimRight(strings.ToValidUTF8(string(l.tail), "?"), "\n"), "\n")
	lines = lines[max(0, len(lines)-tailLines):]
	return "\t" + strings.Join(lines, "\n\t")
}

func (l *logFile) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file != nil {
		l.note(l.file.Close())
		l.file = nil
	}
	if l.err != nil {
		return fmt.Errorf("log %s: %w", l.path, l.err)
	}
	return nil
}

// readyWatcher passes standard output on and calls ready at its first line that
// begins with the word ready.
type readyWatcher struct {
	next  *logFile
	ready func()
	line  []byte // unfinished, cut at lineBytesMax
}

func (w *readyWatcher) Write(b []byte) (int, error) {
	n, err := w.next.Write(b) // before anybody is told
	rest := b
	for w.ready != nil {
		part, after, complete := bytes.Cut(rest, []byte{'\n'})
		w.line = append(w.line, part[:min(len(part), lineBytesMax-len(w.line))]...)
		if !complete {
			break
		}
		if word, _, _ := bytes.Cut(w.line, []byte{' '}); string(word) == "ready" {
			w.ready()
			w.ready = nil
		}
		w.line, rest = w.line[:0], after
	}
	return n, err
}
