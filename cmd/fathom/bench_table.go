package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fathom-train/fathom/compute/optim"
	"github.com/fathom-train/fathom/compute/random"
	"github.com/fathom-train/fathom/ps/table"
	"github.com/fathom-train/fathom/shard"
)

const (
	// lookupKeys is how many keys are looked up at once, as by one pull.
	lookupKeys = 8192
	// lookupBatches is how many different batches of keys are used in turn, so
	// that rows are not found in a cache because they were just used.
	lookupBatches = 64
	// benchWidth is the width of the embeddings of table and fsm.
	benchWidth = 16
)

// benchKey is the key of a row of the benchmarks' tables.
func benchKey(i uint64) shard.Key { return shard.NewHasher("bench").Int(int64(i)) }

// keyBatches draws batches of different keys among those of the first rows
// rows, each ascending as in a pull.
func keyBatches(batches, keys, rows int) [][]shard.Key {
	all := make([][]shard.Key, batches)
	for b := range all {
		stream := random.Stream(1, random.Synth, uint64(b), uint64(keys), uint64(rows))
		batch := make([]shard.Key, keys)
		for i := range batch {
			batch[i] = benchKey(random.Below(stream, uint64(i), uint64(rows)))
		}
		slices.Sort(batch)
		all[b] = slices.Compact(batch)
	}
	return all
}

// benchTable measures a table of rows of 16 weights under LAMB: creating rows,
// looking up and updating random ones, and the memory of a row.
func benchTable(ctx context.Context, b *bencher) error {
	before := residentBytes()
	t, err := table.New(table.Schema{Name: "rows", Columns: []table.Column{{Name: "embedding", Width: benchWidth,
		Init: random.Init{Kind: "normal", Scale: 0.01}, Optimizer: optim.Config{Name: "lamb"}.WithDefaults()}}}, 1)
	if err != nil {
		return err
	}
	defer t.Close()
	if err := b.insertRows(ctx, t); err != nil {
		return err
	}
	if err := b.rowMemory(t, before); err != nil {
		return err
	}
	size := fmt.Sprintf("width=%d rows=%d", benchWidth, t.Rows())
	batches := keyBatches(lookupBatches, min(lookupKeys, t.Rows()), t.Rows())
	mean := meanLen(batches)
	for _, threads := range b.flags.threads {
		own := make([][]float32, threads)
		for i := range own {
			own[i] = make([]float32, lookupKeys*benchWidth)
		}
		next := 0
		c := benchCase{name: "lookup " + size, threads: threads, unit: "rows/s", work: mean * lookupBatches * float64(threads)}
		err := b.measure(ctx, c, nil, func(rounds int) error {
			parallel(threads, func(i int) {
				for r := range rounds * lookupBatches {
					keys := batches[(next+i*7+r)%lookupBatches]
					t.Gather(own[i][:len(keys)*benchWidth], keys)
				}
			})
			return nil
		})
		if err != nil {
			return err
		}
	}
	return b.updateRows(ctx, t, "LAMB update "+size, batches)
}

func meanLen[T any](batches [][]T) float64 {
	n := 0
	for _, b := range batches {
		n += len(b)
	}
	return float64(n) / float64(len(batches))
}

// insertRows creates the rows. There is one repeat: a row is created once.
func (b *bencher) insertRows(ctx context.Context, t *table.Table) error {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	g := smallGradient(lookupKeys*benchWidth, 1)
	keys := make([]shard.Key, 0, lookupKeys)
	start := readClock()
	for i := range b.flags.rows {
		keys = append(keys, benchKey(uint64(i)))
		if len(keys) < lookupKeys && i+1 < b.flags.rows {
			continue
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		t.UpdateRows(nil, keys, nil, g[:len(keys)*benchWidth], optim.At(1))
		keys = keys[:0]
	}
	c := benchCase{name: fmt.Sprintf("insert width=%d rows=%d", benchWidth, t.Rows()), threads: 1, unit: "rows/s"}
	return b.report(c, []repeat{start.since(float64(b.flags.rows))})
}

// rowMemory reports what a row costs beyond its weights and slots: key, index
// and room to grow.
func (b *bencher) rowMemory(t *table.Table, before float64) error {
	start := readClock()
	debug.FreeOSMemory()
	rows, payload := float64(t.Rows()), float64(4*t.RowFloats())
	name := fmt.Sprintf("memory beyond payload width=%d rows=%d", benchWidth, t.Rows())
	extra := map[string]float64{"payload_bytes": payload}
	take := func(how string, bytes float64) error {
		// The repeat of a size has no time of its own: units are bytes.
		return b.emit(measurement{Bench: b.kind, Case: name + " by " + how, Threads: 1, Unit: "B/row", N: 1,
			Min: bytes, Median: bytes, Max: bytes, WallSeconds: time.Since(start.wall).Seconds(), Extra: extra,
			Fathom: b.versions.describe(), CPU: b.versions.CPU})
	}
	if err := take("table", float64(t.Bytes())/rows-payload); err != nil {
		return err
	}
	if after := residentBytes(); after > 0 && before > 0 {
		return take("rss", (after-before)/rows-payload)
	}
	return nil
}

func (b *bencher) updateRows(ctx context.Context, t *table.Table, name string, batches [][]shard.Key) error {
	g, step, at := smallGradient(lookupKeys*benchWidth, 2), uint64(1), 0
	c := benchCase{name: name, threads: 1, unit: "rows/s", work: meanLen(batches) * float64(len(batches))}
	return b.measure(ctx, c, nil, func(rounds int) error {
		for range rounds * len(batches) {
			step++
			keys := batches[at%len(batches)]
			t.UpdateRows(nil, keys, nil, g[:len(keys)*benchWidth], optim.At(step))
			at++
		}
		return nil
	})
}

// smallGradient is a gradient that leaves weights small for ever.
func smallGradient(n int, stream uint64) []float32 {
	g := make([]float32, n)
	for i := range g {
		g[i] = 1e-3 * (random.Unit(random.Word(stream, uint64(i))) - 0.5)
	}
	return g
}

// residentBytes returns the resident size of this process, 0 where the system
// does not tell.
func residentBytes() float64 {
	debug.FreeOSMemory()
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	words := strings.Fields(string(text))
	if len(words) < 2 {
		return 0
	}
	pages, err := strconv.ParseFloat(words[1], 64)
	if err != nil {
		return 0
	}
	return pages * float64(os.Getpagesize())
}
