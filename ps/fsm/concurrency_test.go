package fsm

import (
	"bytes"
	"slices"
	"sync"
	"testing"

	"github.com/fathom-train/fathom/compute/optim"
	"github.com/fathom-train/fathom/ps/wire"
	"github.com/fathom-train/fathom/shard"
)

// TestReadersRunBesideApply reads versions and writes snapshots while steps are
// applied: what is read of a version is always the same.
func TestReadersRunBesideApply(t *testing.T) {
	t.Parallel()
	const lanes, steps, images = 2, 40, 3
	schema := example(lanes, images)
	p := newPlain(t, schema, steps)
	st := configured(t, schema)
	defer st.Close()
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() { readAll(t, st, p, steps) })
	}
	readers.Go(func() { snapshotAll(t, st, p, steps) })
	for step := uint64(1); step <= steps; step++ {
		for _, cmd := range p.cmds[step] {
			st.Apply(step, cmd)
		}
	}
	readers.Wait()
}

// readAll waits for each version in turn and reads the newest and the one
// before it.
func readAll(t *testing.T, st *State, p *plain, steps uint64) {
	dst := make([]float32, len(p.reads[0]))
	for {
		changed := st.Changed()
		v, _ := st.Version()
		if v > 0 && st.Lookup(v-1, p.req, dst) == nil && !slices.Equal(dst, p.reads[v-1]) {
			t.Errorf("version %d, one before the newest, reads differently", v-1)
		}
		if st.Lookup(v, p.req, dst) == nil && !slices.Equal(dst, p.reads[v]) {
			t.Errorf("version %d reads differently", v)
		}
		st.Stats()
		if v == steps {
			return
		}
		<-changed
	}
}

// snapshotAll restores snapshots taken on the way.
func snapshotAll(t *testing.T, st *State, p *plain, steps uint64) {
	for v := uint64(0); v < steps; {
		var b bytes.Buffer
		view := st.View()
		if _, err := view.WriteTo(&b); err != nil {
			t.Error(err)
		}
		view.Release()
		again := New()
		if err := again.Restore(&b); err != nil {
			t.Error(err)
			return
		}
		v, _ = again.Version()
		if again.Hash() != p.hashes[v] {
			t.Errorf("a snapshot of version %d has another hash", v)
		}
		again.Close()
	}
}

// TestApplyAllocatesNothingPerRow compares steps of few and of many rows.
func TestApplyAllocatesNothingPerRow(t *testing.T) {
	schema := example(1, 1)
	for i := range schema.Tables[0].Columns {
		schema.Tables[0].Columns[i].Optimizer = optim.Config{Name: optim.EMA}
	}
	allocs := func(rows int) float64 {
		st := configured(t, schema)
		defer st.Close()
		keys := make([]shard.Key, rows)
		for i := range keys {
			keys[i] = shard.Key(i)
		}
		b := wire.NewPush(wire.PushID{Factor: 1})
		step := uint64(0)
		counts, grads := make([]uint32, rows), make([]float32, 5*rows)
		apply := func() {
			step++
			b.Reset(wire.PushID{Factor: 1, Run: run, Step: step})
			b.Rows(0, 5, keys, counts, grads)
			for _, c := range b.Chunks() {
				if r := st.Apply(step, c); r.Err != nil {
					t.Fatal(r.Err)
				}
			}
		}
		for range 3 { // until the buffers are there
			apply()
		}
		return testing.AllocsPerRun(10, apply)
	}
	few, many := allocs(10), allocs(5000)
	if more := many - few; more > 100 {
		t.Errorf("a step of 10 rows allocates %v times, one of 5000 rows %v times", few, many)
	}
}
