package replica

import (
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft"
)

// A snapshot is written in pieces. After each the writer waits for paceRest
// times as long as it took, so that it takes a small part of a processor and
// of the disk from the steps that go on beside it; and each is written through to
// the disk, because the next sync of the log waits for whatever is not.
const (
	pacePiece   = 4 << 20
	paceRest    = 3
	paceRestMax = time.Second
)

// pacedWriter writes a snapshot at leisure, until stop is closed.
type pacedWriter struct {
	w     io.Writer
	flush func(at, n int64)
	stop  <-chan struct{}
	begun time.Time // of the piece
	at    int64     // where the piece begins
	n     int       // bytes of the piece
}

// Write writes and, at the end of a piece, rests.
func (p *pacedWriter) Write(b []byte) (int, error) {
	select {
	case <-p.stop:
		return 0, ErrClosed
	default:
	}
	if p.n == 0 {
		p.begun = time.Now()
	}
	n, err := p.w.Write(b)
	p.n += n
	if err != nil || p.n < pacePiece {
		return n, err
	}
	p.flush(p.at, int64(p.n))
	p.at, p.n = p.at+int64(p.n), 0
	rest := time.NewTimer(min(paceRest*time.Since(p.begun), paceRestMax))
	defer rest.Stop()
	select {
	case <-rest.C:
	case <-p.stop:
	}
	return n, nil
}

// flusher returns what brings a snapshot's file to disk while it is written. Its
// errors are found by the sync at the end.
func (s *snapshots) flusher(sink raft.SnapshotSink) (through func(at, n int64), done func()) {
	f, err := os.OpenFile(filepath.Join(s.dir, sink.ID()+".tmp", "state.bin"), os.O_RDWR, 0)
	if err != nil {
		return func(int64, int64) {}, func() {}
	}
	return func(at, n int64) { _ = flush(f, at, n) }, func() { f.Close() }
}
