package replica

import (
	"errors"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/hashicorp/raft"
	"golang.org/x/sync/semaphore"
)

// A write that fails, whatever the reason, takes this replica out of service and
// no other; nothing counts as damaged, and once the disk is well the replica is
// opened again and has lost nothing.
func TestFailedWriteTakesOnlyThisReplicaOutOfService(t *testing.T) {
	t.Parallel()
	for _, reason := range []syscall.Errno{syscall.ENOSPC, syscall.EROFS, syscall.EIO, syscall.EDQUOT} {
		for _, role := range []string{"leader", "follower"} {
			t.Run(reason.Error()+" of the "+role, func(t *testing.T) {
				t.Parallel()
				c := newCluster(t, 3)
				disks := make([]*faultyDisk, 3)
				c.openLog = func(i int, dir string) Disk {
					w, err := openWAL(dir, 64<<10, nil, raftLogger(slog.New(slog.DiscardHandler)))
					if err != nil {
						t.Fatal(err)
					}
					disks[i] = &faultyDisk{Disk: w}
					return disks[i]
				}
				c.memory()
				c.push([][]byte{configureCommand()})
				c.train(1, 3, 5)
				victim := c.leader(-1)
				if role == "follower" {
					victim = (victim + 1) % 3
				}
				var failure error = reason
				disks[victim].write.Store(&failure)
				g := c.groups[victim]
				c.train(4, 6, 5) // the others go on
				eventually(t, "it leaves service", func() bool { return g.Err() != nil })
				if err := g.Err(); !errors.Is(err, reason) || errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), c.dirs[victim]) {
					t.Errorf("error %v, want %v with the name of the directory", err, reason)
				}
				c.train(7, 8, 5)
				c.reopen(victim)
				c.train(9, 10, 5)
				c.settled(10, 5)
			})
		}
	}
}

// fullAfter is a file on a disk that has room for some bytes.
type fullAfter struct {
	io.Writer
	room int
}

func (w *fullAfter) Write(b []byte) (int, error) {
	if len(b) > w.room {
		return 0, syscall.ENOSPC
	}
	w.room -= len(b)
	return w.Writer.Write(b)
}

// Without room for a snapshot the replica goes on, on the log and the snapshot it
// has; with room again it takes another.
func TestSnapshotThatCannotBeWrittenLeavesTheOlderOne(t *testing.T) {
	t.Parallel()
	const rows = 60
	writing := semaphore.NewWeighted(1)
	c := written(t, rows, func(cfg *Config) {
		cfg.SnapshotBytes, cfg.TrailingEntries, cfg.OutstandingEntries, cfg.Snapshots = 8<<10, 1, 16, writing
	})
	sound := func() (index uint64) {
		found, err := (&snapshots{dir: filepath.Join(c.dirs[0], snapshotsFolder)}).inspect()
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range found {
			if s.err == nil {
				return s.meta.Index
			}
		}
		return 0
	}
	eventually(t, "a snapshot", func() bool { return sound() > 0 })
	g := c.groups[0]
	// Nobody may be writing one while the disk fills up.
	if err := writing.Acquire(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	before, refused := sound(), make(chan struct{}, 100)
	g.adapter.pace = func(sink raft.SnapshotSink) (io.Writer, func()) {
		refused <- struct{}{}
		return &fullAfter{sink, 1000}, func() {}
	}
	writing.Release(1)
	c.train(11, 30, rows)
	<-refused
	c.train(31, 40, rows)
	if err := g.Err(); err != nil || sound() != before {
		t.Errorf("the newest snapshot is of entry %d, want that of %d; out of service: %v", sound(), before, err)
	}
	left, err := filepath.Glob(filepath.Join(c.dirs[0], snapshotsFolder, "*.tmp"))
	if err != nil || len(left) > 1 {
		t.Errorf("%v, %v: snapshots that were given up are left on the disk", left, err)
	}
	c.close(0)
	c.open(0)
	c.settled(40, rows)
	c.train(41, 60, rows)
	eventually(t, "another snapshot", func() bool { return sound() > before })
	c.settled(60, rows)
}
