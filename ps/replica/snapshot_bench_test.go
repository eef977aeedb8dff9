package replica

import (
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/fathom-train/fathom/compute/optim"
	"github.com/fathom-train/fathom/compute/random"
	"github.com/fathom-train/fathom/ps/fsm"
	"github.com/fathom-train/fathom/ps/table"
	"github.com/fathom-train/fathom/ps/wire"
	"github.com/fathom-train/fathom/shard"
)

// benchRows is how many rows the shard of BenchmarkSnapshot has, unless
// FATHOM_BENCH_ROWS says otherwise.
const benchRows = 3 << 20

const (
	benchWidth = 17   // the linear weight and an embedding of 16
	benchPush  = 4096 // rows of one lane of a step
)

// shardBench is a shard of one replica on disk, trained by this process.
type shardBench struct {
	b    *testing.B
	g    *Group
	rows uint64
	step uint64
}

func newShardBench(b *testing.B) *shardBench {
	rows := uint64(benchRows)
	if s := os.Getenv("FATHOM_BENCH_ROWS"); s != "" {
		n, err := strconv.ParseUint(s, 10, 32)
		if err != nil {
			b.Fatal(err)
		}
		rows = n
	}
	c := newCluster(b, 1)
	c.tune = func(_ int, cfg *Config) { cfg.Heartbeat, cfg.SegmentBytes, cfg.SnapshotBytes = 0, 0, 1<<50 }
	c.tcp()
	schema, err := fsm.MarshalSchema(fsm.Schema{Job: "bench", Run: testRun, Seed: 1, Lanes: testLanes, PreImages: 1,
		Tables: []table.Schema{{Name: "rows", Columns: []table.Column{{Name: "embedding", Width: benchWidth,
			Init: random.Init{Kind: "normal", Scale: 0.01}, Optimizer: optim.Config{Name: optim.LAMB}.WithDefaults()}}}}})
	if err != nil {
		b.Fatal(err)
	}
	c.push([][]byte{wire.AppendConfigure(nil, schema)})
	s := &shardBench{b: b, g: c.groups[0], rows: rows}
	for at := uint64(0); at < rows; at += testLanes * 4 * benchPush {
		s.train(func(lane, i uint64) uint64 { return at + lane*4*benchPush + i }, 4*benchPush)
	}
	return s
}

// train applies one step whose lanes push the rows that key numbers.
func (s *shardBench) train(number func(lane, i uint64) uint64, n int) {
	s.step++
	keys, counts, grads := make([]shard.Key, n), make([]uint32, n), make([]float32, n*benchWidth)
	for i := range grads {
		grads[i] = float32(i%13) / 64
	}
	for lane := range uint64(testLanes) {
		for i := range keys {
			keys[i], counts[i] = shard.Key(random.Word(1, number(lane, uint64(i))%s.rows)), 1
		}
		slices.Sort(keys)
		unique := slices.Compact(slices.Clone(keys))
		push := wire.NewPush(wire.PushID{Run: testRun, Step: s.step, Lane: uint16(lane), Factor: 1})
		push.Rows(0, benchWidth, unique, counts[:len(unique)], grads[:len(unique)*benchWidth])
		var chunks [][]byte
		for _, c := range push.Chunks() {
			chunks = append(chunks, slices.Clone(c))
		}
		results, err := s.g.Propose(s.b.Context(), chunks)
		if err != nil {
			s.b.Fatal(err)
		}
		for _, r := range results {
			if r.Err != nil {
				s.b.Fatal(r.Err)
			}
		}
	}
}

// random is a step on rows from all over the shard.
func (s *shardBench) random() {
	s.train(func(lane, i uint64) uint64 { return random.Word(s.step, lane<<32|i) }, benchPush)
}

// rate trains until done and returns steps per second.
func (s *shardBench) rate(done func(since time.Duration) bool) float64 {
	start, steps := time.Now(), 0
	for !done(time.Since(start)) {
		s.random()
		steps++
	}
	return float64(steps) / time.Since(start).Seconds()
}

// BenchmarkSnapshot trains a shard of three million rows, random ones at every
// step, with and without a snapshot on its way to disk, and reports how much
// slower it is with one, the longest step of each kind, and how long a
// snapshot and its loading take.
func BenchmarkSnapshot(b *testing.B) {
	s := newShardBench(b)
	var losses, took, loads, longest []float64
	for b.Loop() {
		before := s.rate(func(d time.Duration) bool { return d > 3*time.Second })
		written := make(chan error, 1)
		start := time.Now()
		go func() { written <- s.g.raft.Snapshot().Error() }()
		var worst, end time.Duration
		last := start
		during := s.rate(func(time.Duration) bool {
			worst, last = max(worst, time.Since(last)), time.Now()
			select {
			case err := <-written:
				if err != nil {
					b.Fatal(err)
				}
				end = time.Since(start)
				return true
			default:
				return false
			}
		})
		after := s.rate(func(d time.Duration) bool { return d > 3*time.Second })
		losses = append(losses, 100*(1-during/((before+after)/2)))
		took = append(took, end.Seconds())
		longest = append(longest, 1e3*worst.Seconds())
		loads = append(loads, s.load())
	}
	b.ReportMetric(median(losses), "%-slower")
	b.ReportMetric(median(took), "s/snapshot")
	b.ReportMetric(median(longest), "longest-step-ms")
	b.ReportMetric(median(loads), "s/load")
	b.ReportMetric(float64(s.g.snaps.size.Load())/1e6, "MB")
}

// load returns how long it takes to load the newest snapshot beside the state.
func (s *shardBench) load() float64 {
	all, err := s.g.snaps.List()
	if err != nil || len(all) == 0 {
		s.b.Fatalf("no snapshot: %v", err)
	}
	start := time.Now()
	_, r, err := s.g.snaps.Open(all[0].ID)
	if err != nil {
		s.b.Fatal(err)
	}
	defer r.Close()
	state := fsm.New()
	defer state.Close()
	if err := state.Restore(r); err != nil {
		s.b.Fatal(err)
	}
	return time.Since(start).Seconds()
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	return v[len(v)/2]
}
