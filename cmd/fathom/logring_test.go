package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestLogRingKeepsTheNewestWholeLines(t *testing.T) {
	t.Parallel()
	for size := 10; size < 40; size++ {
		r := newLogRing(size)
		var all strings.Builder
		for i := range 20 {
			line := fmt.Sprintf("line %d\n", i)
			all.WriteString(line)
			if n, err := r.Write([]byte(line)); n != len(line) || err != nil {
				t.Fatalf("write: %d %v", n, err)
			}
			data, end, _ := r.read(0)
			if end != int64(all.Len()) || !strings.HasSuffix(all.String(), string(data)) {
				t.Fatalf("size %d, line %d: read %q up to %d", size, i, data, end)
			}
			if len(data) > 0 && !bytes.HasPrefix(data, []byte("line ")) {
				t.Fatalf("size %d: %q begins within a line", size, data)
			}
			if all.Len() <= size && string(data) != all.String() {
				t.Fatalf("size %d: %q although everything fits", size, data)
			}
		}
	}
}

func TestLogRingTakesAWriteLargerThanItself(t *testing.T) {
	t.Parallel()
	r := newLogRing(8)
	r.Write([]byte("x\n"))
	r.Write([]byte("0123456789\nabc\n"))
	if data, _, _ := r.read(0); string(data) != "abc\n" {
		t.Errorf("read %q, want the last whole line", data)
	}
	if data, _, _ := r.read(12); string(data) != "\nabc\n" {
		t.Errorf("read %q, want what is behind byte 12", data)
	}
}

// notify tells when something was written.
type notify struct {
	lockedBuffer
	wrote chan struct{}
}

func (n *notify) Write(p []byte) (int, error) {
	defer func() { n.wrote <- struct{}{} }()
	return n.lockedBuffer.Write(p)
}

func TestLogRingIsFollowedUntilTheReaderLeaves(t *testing.T) {
	t.Parallel()
	r := newLogRing(100)
	r.Write([]byte("one\n"))
	ctx, cancel := context.WithCancel(t.Context())
	w := &notify{wrote: make(chan struct{}, 10)}
	ended := make(chan error)
	go func() { ended <- r.copyTo(ctx, w, true, func() {}) }()
	<-w.wrote
	r.Write([]byte("two\n"))
	<-w.wrote
	cancel()
	if err := <-ended; err != nil || w.String() != "one\ntwo\n" {
		t.Errorf("copied %q, %v", w.String(), err)
	}
}

type failing struct{}

var errBroken = errors.New("broken")

func (failing) Write([]byte) (int, error) { return 0, errBroken }

func TestLogRingStopsAtABrokenReader(t *testing.T) {
	t.Parallel()
	r := newLogRing(100)
	r.Write([]byte("one\n"))
	if err := r.copyTo(t.Context(), failing{}, true, func() {}); !errors.Is(err, errBroken) {
		t.Errorf("error %v", err)
	}
}
