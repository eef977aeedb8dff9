package replica

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// lagging leaves one replica so far behind that it must load a snapshot, which
// waits for release; the others are at the version.
func lagging(t *testing.T, c *cluster, version uint64, rows int) (behind int, release chan struct{}) {
	t.Helper()
	c.push([][]byte{configureCommand()})
	c.train(1, 3, rows)
	behind = (c.leader(-1) + 1) % 3
	c.cut(behind)
	c.train(4, version, rows)
	for i, g := range c.groups {
		if i != behind {
			eventually(t, "the log is past the one that is cut off", func() bool {
				first, err := g.store.FirstIndex()
				return err == nil && first > 15
			})
		}
	}
	release = make(chan struct{})
	c.groups[behind].adapter.beforeLoad = func() { <-release }
	c.heal(behind)
	eventually(t, "a snapshot is being loaded", func() bool { return c.groups[behind].loads() })
	return behind, release
}

func (g *Group) loads() bool {
	g.adapter.mu.Lock()
	defer g.adapter.mu.Unlock()
	return g.adapter.load != nil
}

// smallSnapshots starts a cluster that takes many, with logs that forget at once
// what is cut off: files keep it until a whole segment is.
func (c *cluster) smallSnapshots() { c.snapshots(4 << 10) }

// snapshots is smallSnapshots with one after every so many bytes of commands.
func (c *cluster) snapshots(bytes int64) {
	c.tune = func(_ int, cfg *Config) {
		cfg.OutstandingEntries, cfg.TrailingEntries, cfg.SnapshotBytes, cfg.CachedEntries = 8, 9, bytes, 1
	}
	c.openLog = func(int, string) Disk { return memDisk{raft.NewInmemStore()} }
	c.memory()
}

// hashicorp/raft waits for a snapshot to be restored: with one follower in it
// and the leader dead, nobody would be elected until then.
func TestReplicaVotesWhileItLoadsASnapshot(t *testing.T) {
	t.Parallel()
	const rows = 20
	c := newCluster(t, 3)
	c.smallSnapshots()
	behind, release := lagging(t, c, 30, rows)
	old := c.leader(-1)
	c.cut(old)
	c.leader(old) // with the vote of the one that loads
	if !c.groups[behind].loads() {
		t.Error("the snapshot was loaded before it should")
	}
	close(release)
	c.heal(old)
	c.train(31, 35, rows)
	c.settled(35, rows)
}

func TestCommandsCommittedDuringALoadAreApplied(t *testing.T) {
	t.Parallel()
	const rows = 20
	c := newCluster(t, 3)
	c.smallSnapshots()
	behind, release := lagging(t, c, 30, rows)
	g := c.groups[behind]
	version := uint64(30)
	eventually(t, "commands wait", func() bool {
		version++
		c.train(version, version, rows) // a newer snapshot may have taken the ones before
		g.adapter.mu.Lock()
		defer g.adapter.mu.Unlock()
		return g.adapter.load != nil && len(g.adapter.load.backlog) > 0
	})
	close(release)
	c.train(version+1, version+3, rows)
	c.settled(version+3, rows)
}

func TestDamagedSnapshotTakesTheReplicaOutOfServiceWhenItIsLoaded(t *testing.T) {
	t.Parallel()
	const rows = 20
	c := newCluster(t, 3)
	c.smallSnapshots()
	behind, release := lagging(t, c, 30, rows)
	states, err := filepath.Glob(filepath.Join(c.dirs[behind], snapshotsFolder, "*", "state.bin"))
	if err != nil || len(states) == 0 {
		t.Fatalf("no snapshot: %v", err)
	}
	for _, path := range states {
		if err := os.Truncate(path, 100); err != nil {
			t.Fatal(err)
		}
	}
	close(release)
	g := c.groups[behind]
	eventually(t, "it leaves service", func() bool { return errors.Is(g.Err(), ErrDamaged) })
	c.train(31, 32, rows)
}

// A leader that cannot bring a follower up to date, because its snapshots are
// damaged, would go on without it for ever: it leaves service, and another that can
// leads (hashicorp/raft #522).
func TestLeaderThatCannotReadItsSnapshotsLeavesService(t *testing.T) {
	t.Parallel()
	const rows = 20
	c := newCluster(t, 3)
	c.heartbeat = time.Second // a busy machine must not change leaders
	c.snapshots(1 << 40)      // none by itself: all that there are can be damaged
	c.push([][]byte{configureCommand()})
	c.train(1, 3, rows)
	old := c.leader(-1)
	behind := (old + 1) % 3
	c.cut(behind)
	c.train(4, 30, rows)
	if err := c.groups[old].raft.Snapshot().Error(); err != nil {
		t.Fatal(err)
	}
	if first, err := c.groups[old].store.FirstIndex(); err != nil || first <= 15 {
		t.Fatalf("the log begins at %d, %v: it is not past the one that is cut off", first, err)
	}
	states, err := filepath.Glob(filepath.Join(c.dirs[old], snapshotsFolder, "*", "state.bin"))
	if err != nil || len(states) == 0 {
		t.Fatalf("no snapshot: %v", err)
	}
	for _, path := range states {
		if err := os.Truncate(path, 100); err != nil {
			t.Fatal(err)
		}
	}
	g := c.groups[old]
	if now := c.leader(-1); now != old {
		t.Fatalf("n%d leads, n%d did", now, old)
	}
	c.heal(behind)
	eventually(t, "the leader leaves service", func() bool { return errors.Is(g.Err(), ErrDamaged) })
	c.leader(old)
	c.train(31, 33, rows)
	c.groups[old] = nil
	if err := g.Close(); err != nil {
		t.Error(err)
	}
	c.settled(33, rows)
}

func TestCloseDuringALoad(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	c.smallSnapshots()
	behind, release := lagging(t, c, 30, 20)
	closed := make(chan error, 1)
	go func() { closed <- c.groups[behind].Close() }()
	eventually(t, "it is being closed", func() bool { return c.groups[behind].adapter.stopped.Load() })
	close(release)
	if err := <-closed; err != nil {
		t.Error(err)
	}
}
