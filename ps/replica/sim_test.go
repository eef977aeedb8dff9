package replica

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// TestSimulatedPartitions runs a group in simulated time with random one-way
// and two-way partitions while lanes push, and send every push until it is
// acknowledged. Equal hashes at the end mean: nothing acknowledged is lost,
// nothing is applied twice. The order of goroutines is free, so a seed that
// fails is a hint, not a replay.
func TestSimulatedPartitions(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { simulate(t, seed, 40*time.Second) })
		})
	}
}

func simulate(t *testing.T, seed uint64, length time.Duration) {
	const rows = 3
	c := newCluster(t, 3)
	c.openLog = func(int, string) Disk { return memDisk{raft.NewInmemStore()} }
	c.tune = func(_ int, cfg *Config) {
		cfg.Heartbeat, cfg.SnapshotBytes = 500*time.Millisecond, 8<<10
		cfg.OutstandingEntries = 16
	}
	c.memory()
	push := func(cmds [][]byte) {
		for attempt := 0; ; attempt++ {
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			results, err := c.groups[attempt%3].Propose(ctx, cmds)
			cancel()
			if err == nil {
				for _, r := range results {
					if r.Err != nil {
						t.Errorf("seed %d: refused: %v", seed, r.Err)
					}
				}
				return
			}
			<-time.After(10 * time.Millisecond)
		}
	}
	push([][]byte{configureCommand()})
	var faults int
	end := time.Now().Add(length)
	calm := make(chan struct{})
	go func() {
		defer close(calm)
		rng := rand.New(rand.NewPCG(seed, 0xfb))
		for time.Now().Before(end) {
			<-time.After(time.Duration(500+rng.IntN(4000)) * time.Millisecond)
			k, oneWay := rng.IntN(3), rng.IntN(2) == 0
			for j := range 3 {
				if j != k {
					c.link(k, j, false)
					if !oneWay {
						c.link(j, k, false)
					}
				}
			}
			faults++
			<-time.After(time.Duration(500+rng.IntN(4000)) * time.Millisecond)
			c.heal(k)
		}
	}()
	var step uint64
	for time.Now().Before(end) {
		step++
		var lanes sync.WaitGroup
		for lane := range uint16(testLanes) {
			lanes.Go(func() { push(laneChunks(step, lane, rows)) })
		}
		lanes.Wait()
		<-time.After(20 * time.Millisecond)
	}
	<-calm
	step++
	for lane := range uint16(testLanes) {
		push(laneChunks(step, lane, rows))
	}
	c.settled(step, rows)
	t.Logf("seed %d: %d partitions, %d steps", seed, faults, step)
	for i := range c.groups {
		c.close(i)
	}
	for _, x := range c.inmem {
		x.Close()
	}
	if faults < 3 || step < 10 {
		t.Errorf("seed %d: %d partitions and %d steps are too few to say anything", seed, faults, step)
	}
}
