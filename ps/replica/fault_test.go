package replica

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

// isolateWithStaleTail cuts the leader off with entries nobody else has, lets
// the others go on and compact their logs, and heals the partition.
func isolateWithStaleTail(t *testing.T, c *cluster, rows int) (old int) {
	t.Helper()
	c.push([][]byte{configureCommand()})
	c.train(1, 10, rows)
	old = c.leader(-1)
	c.cut(old)
	// Unanswered: the group's bound on outstanding entries, all of them.
	ctx, cancel := context.WithCancel(t.Context())
	stale := make(chan error, 1)
	g := c.groups[old]
	go func() {
		var cmds [][]byte
		for range g.cfg.OutstandingEntries {
			cmds = append(cmds, laneChunks(11, 0, rows)...)
		}
		_, err := g.Propose(ctx, cmds)
		stale <- err
	}()
	eventually(t, "the isolated leader steps down", func() bool { return g.raft.State() != raft.Leader })
	if err := <-stale; err == nil {
		t.Fatal("the isolated leader acknowledged a push")
	}
	cancel()
	c.leader(old)
	c.train(11, 40, rows)
	for i, g := range c.groups {
		if i != old {
			eventually(t, "the rest has taken a snapshot", func() bool { return g.snaps.size.Load() > 0 })
		}
	}
	c.heal(old)
	return old
}

func TestHealedLeaderWithStaleTailCatchesUp(t *testing.T) {
	t.Parallel()
	const rows = 40
	c := newCluster(t, 3)
	c.tune = func(_ int, cfg *Config) { cfg.OutstandingEntries, cfg.SnapshotBytes = 32, 16<<10 }
	c.memory()
	old := isolateWithStaleTail(t, c, rows)
	c.train(41, 45, rows)
	c.settled(45, rows)
	if n := c.groups[old].adapter.restores.Load(); n > 1 {
		t.Errorf("%d snapshots restored, at most one was needed", n)
	}
}

func TestLivelockOfRestoresIsNoticedAndCured(t *testing.T) {
	t.Parallel()
	const rows = 40
	c := newCluster(t, 3)
	// Fewer trailing entries than outstanding ones: the configuration that the
	// defaults avoid.
	c.tune = func(_ int, cfg *Config) {
		cfg.OutstandingEntries, cfg.TrailingEntries, cfg.SnapshotBytes, cfg.RestoresMax = 60, 1, 8<<10, 3
	}
	c.memory()
	old := isolateWithStaleTail(t, c, rows)
	g := c.groups[old]
	caughtUp := func() bool { v, _ := g.state.Version(); return v >= 40 && g.adapter.restores.Load() == 0 }
	eventually(t, "caught up or noticed", func() bool { return caughtUp() || g.Err() != nil })
	if err := g.Err(); err != nil {
		if !errors.Is(err, ErrRestart) {
			t.Fatalf("error %v, want %v", err, ErrRestart)
		}
		t.Logf("noticed: %v", err)
		c.reopen(old)
	}
	c.train(41, 45, rows)
	c.settled(45, rows)
}

func TestRepeatedRestoresTakeTheNodeOutOfService(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1).memory()
	c.push([][]byte{configureCommand()})
	g := c.groups[0]
	var frozen bytes.Buffer
	view := g.state.View()
	if _, err := view.WriteTo(&frozen); err != nil {
		t.Fatal(err)
	}
	view.Release()
	for range g.cfg.RestoresMax {
		if err := g.adapter.Restore(readCloser{bytes.NewReader(frozen.Bytes())}); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "out of service", func() bool { return errors.Is(g.Err(), ErrRestart) })
	c.reopen(0)
	c.train(1, 3, 5)
	c.settled(3, 5)
}

type readCloser struct{ *bytes.Reader }

func (readCloser) Close() error { return nil }

func TestLeaderWithHungDiskIsReplaced(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	disks := make([]*faultyDisk, 3)
	c.openLog = func(i int, _ string) Disk {
		disks[i] = &faultyDisk{Disk: memDisk{raft.NewInmemStore()}, hang: make(chan struct{})}
		return disks[i]
	}
	fatal := make(chan error, 3)
	const old = 0
	c.heartbeat = 2 * time.Second
	c.tune = func(i int, cfg *Config) {
		cfg.DiskTimeout = 10 * time.Minute // the others' disks are well, however busy the machine is
		if i == old {
			cfg.DiskTimeout = 2 * time.Second
		}
		cfg.OutstandingEntries = 4
		cfg.OnFatal = func(err error) {
			c.cut(i) // the process exits
			fatal <- err
		}
	}
	c.memory()
	c.push([][]byte{configureCommand()})
	c.train(1, 3, 5)
	c.elect(old)
	disks[old].hung.Store(true)
	start := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if _, err := c.groups[old].Propose(ctx, laneChunks(4, 0, 5)); !errors.Is(err, ErrUnknown) {
		t.Errorf("proposal to a hung disk: %v, want %v", err, ErrUnknown)
	}
	// While the disk hangs room is not given back: proposals wait, then fail.
	var last error
	for range 2 * c.groups[old].cfg.OutstandingEntries {
		if _, last = c.groups[old].Propose(ctx, laneChunks(4, 1, 5)); errors.Is(last, ErrOverloaded) {
			break
		}
	}
	if err := <-fatal; !errors.Is(err, ErrDiskStalled) {
		t.Errorf("fatal error %v", err)
	}
	g := c.groups[old]
	c.groups[old] = nil // it hangs; the cluster goes on without it
	c.leader(old)
	t.Logf("another leader %v after the disk hung (limit 2 s)", time.Since(start))
	c.train(4, 6, 5)
	c.settled(6, 5)
	close(disks[old].hang)
	if err := g.Close(); err != nil {
		t.Error(err)
	}
}

func TestUnreadableLogTakesOnlyThisReplicaOutOfService(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	disks := make([]*faultyDisk, 3)
	c.openLog = func(i int, dir string) Disk {
		disks[i] = &faultyDisk{Disk: memDisk{raft.NewInmemStore()}}
		return disks[i]
	}
	c.tune = func(_ int, cfg *Config) { cfg.CachedEntries = 1 }
	c.heartbeat = calm // or another would lead when the absent one is back
	c.memory()
	const leader, absent, other = 0, 1, 2
	c.elect(leader)
	c.push([][]byte{configureCommand()})
	c.cut(absent)
	c.train(1, 8, 5)
	broken := errors.New("input/output error")
	disks[leader].read.Store(&broken)
	c.heal(absent) // the leader must read its log for it
	g := c.groups[leader]
	eventually(t, "the leader leaves service", func() bool { return g.Err() != nil })
	if err := g.Err(); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "input/output error") {
		t.Errorf("error %v", err)
	}
	if _, err := g.Propose(t.Context(), laneChunks(9, 0, 5)); !errors.Is(err, ErrDamaged) {
		t.Errorf("proposal: %v", err)
	}
	c.groups[leader] = nil
	if err := g.Close(); err != nil {
		t.Error(err)
	}
	c.elect(other)
	c.train(9, 10, 5)
	c.settled(10, 5)
}

// Raft runs before it is told to be running: a disk that fails in that moment
// must not end the process.
func TestDiskThatFailsWhileRaftStartsTakesTheReplicaOutOfService(t *testing.T) {
	t.Parallel()
	var asked sync.WaitGroup
	defer asked.Wait()
	for range 30 {
		c := newCluster(t, 3)
		c.openLog = func(int, string) Disk { return &startDisk{Disk: memDisk{raft.NewInmemStore()}} }
		for i := range c.members {
			c.inmem = append(c.inmem, c.wire(i))
		}
		c.heal(0)
		// It is there when raft starts, and raft must save its term.
		asked.Go(func() {
			addr := []byte(c.members[1].Address)
			q := raft.AppendEntriesRequest{
				RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(c.members[1].ID()), Addr: addr},
				Term:      99,
			}
			// The replica may be gone before it answers.
			_ = c.inmem[1].AppendEntries(raft.ServerID(c.members[0].ID()), raft.ServerAddress(c.members[0].Address), &q, new(raft.AppendEntriesResponse))
		})
		if err := c.tryOpen(0); err != nil {
			t.Fatal(err)
		}
		eventually(t, "it leaves service", func() bool { return c.groups[0].Err() != nil })
		if err := c.groups[0].Err(); !errors.Is(err, errStartDisk) {
			t.Errorf("error %v", err)
		}
		c.close(0)
	}
}

// startDisk saves what is saved before raft runs, and nothing else.
type startDisk struct {
	Disk
	saved int
}

var errStartDisk = errors.New("no space left on device")

func (d *startDisk) Set(key, val []byte) error {
	if d.saved++; d.saved > 2 {
		return errStartDisk
	}
	return d.Disk.Set(key, val)
}

// written returns a directory with the log (and snapshots) of one replica.
func written(t *testing.T, rows int, tune func(*Config)) *cluster {
	c := newCluster(t, 1)
	c.tune = func(_ int, cfg *Config) {
		cfg.SegmentBytes = 32 << 10
		if tune != nil {
			tune(cfg)
		}
	}
	c.tcp()
	c.push([][]byte{configureCommand()})
	c.train(1, 10, rows)
	return c
}

func TestFlippedBitsInTheLogAreFound(t *testing.T) {
	t.Parallel()
	const rows = 20
	c := written(t, rows, nil)
	c.close(0)
	origin := c.dirs[0]
	files, _ := filepath.Glob(filepath.Join(origin, "wal", "*.wal"))
	files = append(files, filepath.Join(origin, tailName))
	rng := rand.New(rand.NewPCG(1, 2))
	found, harmless := 0, 0
	for _, f := range files {
		good, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		used := len(bytes.TrimRight(good, "\x00"))
		if used == 0 {
			continue
		}
		name, err := filepath.Rel(origin, f)
		if err != nil {
			t.Fatal(err)
		}
		for range min(40, 8*used) {
			c.dirs[0] = filepath.Join(t.TempDir(), "copy")
			if err := os.CopyFS(c.dirs[0], os.DirFS(origin)); err != nil {
				t.Fatal(err)
			}
			at, bit := rng.IntN(used), byte(1)<<rng.IntN(8)
			bad := bytes.Clone(good)
			bad[at] ^= bit
			if err := os.WriteFile(filepath.Join(c.dirs[0], name), bad, 0o600); err != nil {
				t.Fatal(err)
			}
			err := c.tryOpen(0)
			switch {
			case err == nil:
				harmless++
				c.settled(10, rows) // nothing may differ
				c.close(0)
			case errors.Is(err, ErrDamaged):
				found++
				if !strings.Contains(err.Error(), c.dirs[0]) {
					t.Errorf("the error does not name the file: %v", err)
				}
			default:
				t.Errorf("bit %d of byte %d of %s: %v", bit, at, name, err)
			}
		}
	}
	t.Logf("%d found, %d harmless", found, harmless)
	if found == 0 {
		t.Error("no damage was found")
	}
}

func TestTornEndOfTheLogIsFound(t *testing.T) {
	t.Parallel()
	c := written(t, 20, nil)
	c.close(0)
	files, _ := filepath.Glob(filepath.Join(c.dirs[0], "wal", "*.wal"))
	// The last segment in use loses its end, as if it had never been synced.
	for i := len(files) - 1; i >= 0; i-- {
		b, err := os.ReadFile(files[i])
		if err != nil {
			t.Fatal(err)
		}
		used := len(bytes.TrimRight(b, "\x00"))
		if used < 1000 {
			continue
		}
		clear(b[used-400:])
		if err := os.WriteFile(files[i], b, 0o600); err != nil {
			t.Fatal(err)
		}
		break
	}
	if err := c.tryOpen(0); !errors.Is(err, ErrDamaged) {
		t.Errorf("a log without its acknowledged end opened: %v", err)
	}
}

func TestDamagedSnapshotIsFoundBeforeRaftStarts(t *testing.T) {
	t.Parallel()
	c := written(t, 20, func(cfg *Config) { cfg.SnapshotBytes, cfg.TrailingEntries, cfg.OutstandingEntries = 4<<10, 1, 16 })
	eventually(t, "a snapshot and a compacted log", func() bool {
		first, err := c.groups[0].store.FirstIndex()
		return err == nil && first > 5
	})
	c.close(0)
	newest := func() string {
		found, err := (&snapshots{dir: filepath.Join(c.dirs[0], snapshotsFolder)}).inspect()
		if err != nil || len(found) == 0 {
			t.Fatalf("no snapshot: %v", err)
		}
		return found[0].dir
	}()
	for _, name := range []string{"state.bin", "meta.json"} {
		path := filepath.Join(newest, name)
		good, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, bad := range [][]byte{
			append(bytes.Clone(good[:len(good)/2]), good[len(good)/2]^1),
			bytes.Replace(good, []byte(`"Index":`), []byte(`"Index":1`), 1),
			bytes.Replace(good, []byte(`"ID":"n0"`), []byte(`"ID":"n1"`), 1),
		} {
			if bytes.Equal(bad, good) {
				continue
			}
			if err := os.WriteFile(path, bad, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := c.tryOpen(0); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), path) {
				t.Errorf("%s damaged: error %v, want one that names %s", name, err, path)
			}
		}
		if err := os.WriteFile(path, good, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c.open(0)
	c.settled(10, 20)
}

func TestDamagedSnapshotIsSetAsideWhenTheLogHoldsAll(t *testing.T) {
	t.Parallel()
	c := written(t, 20, func(cfg *Config) { cfg.SnapshotBytes = 4 << 10 })
	eventually(t, "a snapshot", func() bool { return c.groups[0].snaps.size.Load() > 0 })
	c.close(0)
	states, _ := filepath.Glob(filepath.Join(c.dirs[0], snapshotsFolder, "*", "state.bin"))
	for _, path := range states {
		if err := os.Truncate(path, 10); err != nil {
			t.Fatal(err)
		}
	}
	c.open(0)
	c.settled(10, 20)
	aside, _ := filepath.Glob(filepath.Join(c.dirs[0], "damaged-*"))
	if len(aside) != len(states) {
		t.Errorf("%d snapshots set aside, want %d", len(aside), len(states))
	}
}

func TestStaleLogBeforeASnapshotIsDropped(t *testing.T) {
	t.Parallel()
	c := written(t, 5, func(cfg *Config) { cfg.SnapshotBytes = 1 << 10 })
	eventually(t, "a snapshot", func() bool { return c.groups[0].snaps.size.Load() > 0 })
	c.close(0)
	// As after a crash between installing a snapshot and clearing the log.
	w, err := openWAL(filepath.Join(c.dirs[0], walFolder), 32<<10, nil, raftLogger(c.config(0).withDefaults().Logger))
	if err != nil {
		t.Fatal(err)
	}
	s, err := newStore(w, c.dirs[0], filepath.Join(c.dirs[0], tailName), func(error) {})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.DeleteRange(3, maxIndex); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	c.open(0)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	eventually(t, "leads", func() bool { _, leads := c.groups[0].Leader(); return leads })
	if _, err := c.groups[0].Propose(ctx, [][]byte{configureCommand()}); err != nil {
		t.Errorf("proposal after the log was cleared: %v", err)
	}
}

func TestStableValuesAreChecked(t *testing.T) {
	t.Parallel()
	mem := raft.NewInmemStore()
	s, err := newStore(memDisk{mem}, t.TempDir(), filepath.Join(t.TempDir(), tailName), func(error) {})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if n, err := s.GetUint64([]byte("term")); err != nil || n != 0 {
		t.Errorf("absent value: %d, %v", n, err)
	}
	if err := s.SetUint64([]byte("term"), 7); err != nil {
		t.Fatal(err)
	}
	if n, err := s.GetUint64([]byte("term")); err != nil || n != 7 {
		t.Errorf("value: %d, %v", n, err)
	}
	raw, _ := mem.Get([]byte("term"))
	raw[5] ^= 4
	if _, err := s.GetUint64([]byte("term")); !errors.Is(err, ErrDamaged) {
		t.Errorf("damaged value: %v", err)
	}
}
