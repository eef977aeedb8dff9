package replica

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// openFiles is how many descriptors this process has open.
func openFiles(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skipf("this system does not tell the open files: %v", err)
	}
	return len(all)
}

// Replicas that come and go leave no goroutine, connection or file behind, in
// themselves or in the ones that stay. Not parallel: it counts those of the
// process.
func TestRestartsLeaveNothingBehind(t *testing.T) {
	c := newCluster(t, 3).tcp()
	c.push([][]byte{configureCommand()})
	step := uint64(0)
	round := func() {
		victim := int(step) % 3
		c.close(victim)
		step++
		c.train(step, step, 5)
		c.open(victim)
		c.settled(step, 5)
	}
	for range 6 { // every replica has led, followed and come back
		round()
	}
	// Connections are opened as they are needed: a few more may stand at the end
	// of a round than at that of another.
	const slack = 20
	goroutines, files := runtime.NumGoroutine(), openFiles(t)
	for range 30 {
		round()
	}
	eventually(t, "no more goroutines and files than before", func() bool {
		return runtime.NumGoroutine() <= goroutines+slack && openFiles(t) <= files+slack
	})
}

// What a replica keeps on disk does not grow with what went through its log.
func TestDiskUseIsBounded(t *testing.T) {
	t.Parallel()
	const rows, segment, snapshotBytes, entries = 60, 32 << 10, 64 << 10, 16
	c := written(t, rows, func(cfg *Config) {
		cfg.SnapshotBytes, cfg.SegmentBytes, cfg.OutstandingEntries, cfg.TrailingEntries = snapshotBytes, segment, entries/2, entries
	})
	used := func() (n int64) {
		for _, pattern := range []string{walFolder + "/*", tailName, snapshotsFolder + "/*/*"} {
			found, err := filepath.Glob(filepath.Join(c.dirs[0], pattern))
			if err != nil {
				t.Fatal(err)
			}
			for _, path := range found {
				if info, err := os.Stat(path); err == nil { // else deleted meanwhile
					n += info.Size()
				}
			}
		}
		return n
	}
	var push, most int64
	for _, chunk := range laneChunks(1, 0, rows) {
		push += int64(len(chunk))
	}
	for step := uint64(11); step <= 400; step++ {
		c.train(step, step, rows)
		most = max(most, used())
	}
	// As docs/operations.md has it: the log since the last snapshot, the entries
	// behind it, the snapshots. While one is written the log grows on, segments are
	// deleted as a whole, and the log's meta data have a file of their own.
	snapshot := c.groups[0].snaps.size.Load()
	bound := 2*snapshotBytes + entries*push + 3*snapshot + 3*segment + 128<<10
	if through := 400 * testLanes * push; most > bound || through < 3*bound {
		t.Errorf("%d bytes on disk at most, want no more than %d; %d went through the log", most, bound, through)
	}
}
