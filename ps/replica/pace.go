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
// of the disk from the steps that go on beside it; and each is synced, because
// a large amount of unsynced data makes the next sync of the log wait for it.
const (
	pacePiece   = 4 << 20
	paceRest    = 9
	paceRestMax = time.Second
)

// pacedWriter writes a snapshot at leisure, until stop is closed.
type pacedWriter struct {
	w     io.Writer
	sync  func()
	stop  <-chan struct{}
	begun time.Time // of the piece
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
	p.n = 0
	p.sync()
	rest := time.NewTimer(min(paceRest*time.Since(p.begun), paceRestMax))
	defer rest.Stop()
	select {
	case <-rest.C:
	case <-p.stop:
	}
	return n, nil
}

// syncer returns what brings a snapshot's file to disk while it is written. Its
// errors are found by the sync at the end.
func (s *snapshots) syncer(sink raft.SnapshotSink) (sync func(), done func()) {
	f, err := os.OpenFile(filepath.Join(s.dir, sink.ID()+".tmp", "state.bin"), os.O_RDWR, 0)
	if err != nil {
		return func() {}, func() {}
	}
	return func() { _ = f.Sync() }, func() { f.Close() }
}
