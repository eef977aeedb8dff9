package replica

import (
	"errors"
	"fmt"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"github.com/hashicorp/raft-wal/fs"
	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/types"
)

// fullFiles are files on a disk that has, at times, no room for meta data.
type fullFiles struct {
	types.VFS
	full atomic.Bool
}

func (f *fullFiles) Meta() types.MetaStore { return &fullMeta{new(metadb.BoltMetaDB), f} }

type fullMeta struct {
	types.MetaStore
	files *fullFiles
}

func (m *fullMeta) CommitState(s types.PersistentState) error {
	if m.files.full.Load() {
		return errors.New("no space left on device")
	}
	return m.MetaStore.CommitState(s)
}

// A log that has no open segment any more, as a crash or a full disk between two
// segments leaves it, takes entries again and has lost none.
func TestLogWithoutAnOpenSegmentTakesEntries(t *testing.T) {
	dir, files := t.TempDir(), &fullFiles{VFS: fs.New()}
	open := func() *store {
		t.Helper()
		disk, err := openWAL(filepath.Join(dir, "wal"), 4096, files, hclog.NewNullLogger())
		if err != nil {
			t.Fatal(err)
		}
		s, err := newStore(disk, dir, filepath.Join(dir, "tail"), func(err error) { t.Error(err) })
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	entry := func(i uint64) *raft.Log {
		return &raft.Log{Index: i, Term: 1, Data: fmt.Appendf(make([]byte, 0, 1024), "%01000d", i)}
	}
	s := open()
	next := uint64(1)
	files.full.Store(true)
	for ; next < 100; next++ {
		err := s.StoreLog(entry(next))
		if err != nil && !errors.Is(err, ErrDamaged) {
			break // the disk is full, nothing worse
		}
		if err != nil {
			t.Fatalf("entry %d: %v", next, err)
		}
	}
	if next == 100 {
		t.Fatal("the disk was never full")
	}
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		files.full.Store(false)
		s = open()
		if err := s.StoreLog(entry(next)); err != nil {
			t.Fatal(err)
		}
		next++
	}
	first, last, err := s.verify()
	if err != nil || first != 1 || last != next-1 {
		t.Errorf("the log has entries %d to %d, want 1 to %d: %v", first, last, next-1, err)
	}
	var l raft.Log
	for i := first; i <= last; i++ {
		if err := s.GetLog(i, &l); err != nil || string(l.Data) != string(entry(i).Data) {
			t.Errorf("entry %d: %v", i, err)
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}
