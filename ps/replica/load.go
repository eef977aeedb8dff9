package replica

import (
	"errors"
	"fmt"
	"io"
	"sync/atomic"

	"github.com/hashicorp/raft"
)

// backlogMax bounds the bytes of commands that wait for a snapshot to be
// loaded; beyond it raft waits, too.
const backlogMax = 128 << 20

var (
	errNotLoaded = errors.New("the snapshot could not be loaded")
	// errQueued answers a command that will be applied, but not before an answer
	// is due.
	errQueued = errors.New("a snapshot is being loaded")
)

// queued is the answer to a command that waits or will never be applied.
type queued struct{}

// loading is a snapshot on its way into the state machine.
type loading struct {
	done chan struct{}
	// backlog are the commands committed since, next is a newer snapshot that came
	// meanwhile and is loaded in its turn; the adapter's mutex guards them.
	backlog []*raft.Log
	bytes   int64
	next    *snapshotFile
}

// supersede makes a newer snapshot the one that counts: it holds what waits.
func (l *loading) supersede(f *snapshotFile) {
	if l.next != nil {
		l.next.release()
	}
	l.next, l.backlog, l.bytes = f, nil, 0
}

// awaitLoad lets go of mu until the load under way has ended.
func (a *adapter) awaitLoad() {
	done := a.load.done
	a.mu.Unlock()
	<-done
	a.mu.Lock()
}

// finish loads a snapshot, and newer ones that come meanwhile, and applies what
// was committed since.
func (a *adapter) finish(load *loading, f *snapshotFile) {
	defer close(load.done)
	var (
		err  error
		path string
	)
	for f != nil {
		path = f.path
		if a.beforeLoad != nil {
			a.beforeLoad()
		}
		err = a.state.Restore(readUntil{f, &a.stopped})
		f.release()
		a.mu.Lock()
		if f, load.next = load.next, nil; f != nil {
			a.mu.Unlock()
		}
	}
	defer a.mu.Unlock()
	a.load = nil
	if err != nil {
		a.broken = true
		if !a.stopped.Load() {
			a.onBroken(damaged(path, "load: %w", err))
		}
		return
	}
	a.bytes.Store(0)
	for _, l := range load.backlog {
		a.apply(l)
	}
	a.onApplied()
}

// stop ends a load under way; wait returns when it has ended.
func (a *adapter) stop() { a.stopped.Store(true) }
func (a *adapter) wait() { a.loaders.Wait() }

// readUntil reads until it is told to stop.
type readUntil struct {
	io.Reader
	stopped *atomic.Bool
}

func (r readUntil) Read(p []byte) (int, error) {
	if r.stopped.Load() {
		return 0, fmt.Errorf("read snapshot: %w", ErrClosed)
	}
	return r.Reader.Read(p)
}

// snapshotFile is an open snapshot that outlives raft's use of it when kept.
type snapshotFile struct {
	io.ReadCloser
	path string
	kept atomic.Bool
}

func (f *snapshotFile) keep() { f.kept.Store(true) }

// Close closes it unless it is kept.
func (f *snapshotFile) Close() error {
	if f.kept.Load() {
		return nil
	}
	return f.ReadCloser.Close()
}

// release closes one that was kept. Nothing was written, so nothing is lost by
// an error.
func (f *snapshotFile) release() { _ = f.ReadCloser.Close() }

// snapshotFileOf finds our file inside what raft wraps around it.
func snapshotFileOf(r io.ReadCloser) *snapshotFile {
	for {
		switch x := r.(type) {
		case *snapshotFile:
			return x
		case raft.ReadCloserWrapper:
			r = x.WrappedReadCloser()
		default:
			return nil
		}
	}
}
