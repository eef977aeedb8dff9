package replica

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/fathom-train/fathom/ps/wire"
)

// BenchmarkPropose replicates pushes of four chunks of 256 KiB through three
// replicas in this process, over TCP and on disk: "steps" are applied, "copies"
// are pushes the state machine drops, so that raft alone is measured.
func BenchmarkPropose(b *testing.B) {
	const rows = 4 * (wire.MaxChunk - 1024) / (12 + 4*testWidth)
	start := func(b *testing.B) *cluster {
		c := newCluster(b, 3)
		c.tune = func(_ int, cfg *Config) { cfg.Heartbeat, cfg.SegmentBytes = 0, 0 }
		c.tcp()
		c.push([][]byte{configureCommand()})
		return c
	}
	size := func(chunks [][]byte) (n int64) {
		for _, c := range chunks {
			n += int64(len(c))
		}
		return n
	}
	b.Run("steps", func(b *testing.B) {
		c, step := start(b), uint64(0)
		b.SetBytes(testLanes * size(laneChunks(1, 0, rows)))
		for b.Loop() {
			step++
			c.train(step, step, rows)
		}
	})
	b.Run("copies", func(b *testing.B) {
		c := start(b)
		chunks := laneChunks(1, 0, rows)
		b.SetBytes(2 * size(chunks))
		for b.Loop() {
			done := make(chan error, 1)
			go func() { done <- c.tryPush(chunks) }()
			c.push(chunks)
			if err := <-done; err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkFailover measures, with the default heartbeat of 500 ms, the time
// from the sudden death of the leader to the next acknowledged push.
func BenchmarkFailover(b *testing.B) {
	c := newCluster(b, 3)
	c.tune = func(_ int, cfg *Config) { cfg.Heartbeat, cfg.CommitTimeout = 0, 0 }
	c.tcp()
	c.push([][]byte{configureCommand()})
	var times []float64
	for b.Loop() {
		old := c.leader(-1)
		g := c.groups[old]
		start := time.Now()
		g.trans.stopNow(g)
		c.groups[old] = nil
		for acked := false; !acked; {
			ctx, cancel := context.WithTimeout(b.Context(), time.Second)
			_, err := c.groups[c.leader(old)].Propose(ctx, laneChunks(1, 0, 5))
			cancel()
			acked = err == nil
		}
		times = append(times, 1e3*time.Since(start).Seconds())
		b.StopTimer()
		g.Close()
		c.open(old)
		c.leader(-1)
		b.StartTimer()
	}
	b.ReportMetric(slices.Max(times), "worst-ms")
	b.ReportMetric(median(times), "median-ms")
}
