package main

import (
	"bytes"
	"context"
	"io"
	"sync"
)

// logRingBytes is how much of the newest log a process keeps for /logs.
const logRingBytes = 1 << 20

// logRing keeps the newest bytes written to it. Readers follow at their own
// pace; one that falls behind loses the oldest lines, never blocks a writer.
type logRing struct {
	// mu guards all fields.
	mu      sync.Mutex
	buf     []byte        // ring; byte number i of the log is at buf[i%len(buf)]
	end     int64         // bytes ever written
	changed chan struct{} // closed and replaced at every write
}

func newLogRing(size int) *logRing {
	return &logRing{buf: make([]byte, size), changed: make(chan struct{})}
}

// Write appends p; it never fails.
func (r *logRing) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	keep := p[max(0, len(p)-len(r.buf)):]
	at := int((r.end + int64(len(p)-len(keep))) % int64(len(r.buf)))
	n := copy(r.buf[at:], keep)
	copy(r.buf, keep[n:])
	r.end += int64(len(p))
	close(r.changed)
	r.changed = make(chan struct{})
	return len(p), nil
}

// read returns the bytes from offset from on, the offset behind them, and a
// channel that closes when there are more. Where bytes before the oldest one
// kept are asked for, it begins with the first whole line.
func (r *logRing) read(from int64) (data []byte, next int64, more <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	start := max(from, r.end-int64(len(r.buf)))
	data = make([]byte, 0, r.end-start)
	for i := start; i < r.end; {
		at := int(i % int64(len(r.buf)))
		part := r.buf[at:min(len(r.buf), at+int(r.end-i))]
		data = append(data, part...)
		i += int64(len(part))
	}
	if start > from {
		data = data[bytes.IndexByte(data, '\n')+1:]
	}
	return data, r.end, r.changed
}

// copyTo writes the log to w, and with follow also what is written from then
// on, until ctx ends or w fails. flush is called when all there is was written.
func (r *logRing) copyTo(ctx context.Context, w io.Writer, follow bool, flush func()) error {
	var next int64
	for {
		data, end, more := r.read(next)
		next = end
		if _, err := w.Write(data); err != nil {
			return err
		}
		if !follow {
			return nil
		}
		flush()
		select {
		case <-more:
		case <-ctx.Done():
			return nil
		}
	}
}
