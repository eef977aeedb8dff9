package client

import (
	"bytes"
	"context"
	"math"
	"slices"
	"testing"

	"github.com/fathom-train/fathom/ps/wire"
	"github.com/fathom-train/fathom/shard"
)

// The tests of this file stand for faults that other parameter servers have, one
// each, so that ours never gets them. The others that are known, and where their
// tests are, stand in docs/faults.md.

// rowStep pushes one step with the gradients of the keys; a push that fails ends
// the test.
func rowStep(t *testing.T, c *Client, step uint64, shards int, keys []shard.Key, gradient func(shard.Key) float32) {
	t.Helper()
	g := &Gradients{Rows: []RowGradients{{Width: width, Keys: keys, Counts: slices.Repeat([]uint32{1}, len(keys))}}}
	for _, k := range keys {
		g.Rows[0].Values = append(g.Rows[0].Values, gradient(k), 2*gradient(k))
	}
	for range shards {
		g.Dense = append(g.Dense, make([]float32, 3))
	}
	if err := c.Push(context.Background(), wire.PushID{Run: run, Phase: 1, Step: step, Factor: 1}, g); err != nil {
		t.Fatal(err)
	}
}

// PERSIA cuts a flat gradient by the rows it finds: a missing row shifts all
// that follow.
func TestAbsentRowsDoNotShiftTheGradientsOfOthers(t *testing.T) {
	s, routes := states(t, 2)
	c := NewLocal(run, routes, s)
	gradient := func(k shard.Key) float32 { return float32(k>>60) + float32(k&7) }
	rowStep(t, c, 1, 2, []shard.Key{keys[0], keys[3]}, gradient) // the others do not exist yet
	rowStep(t, c, 2, 2, keys, gradient)
	rows := Rows{Width: width, Keys: keys, Values: make([]float32, len(keys)*width)}
	if err := c.Pull(context.Background(), 2, []Rows{rows}, nil); err != nil {
		t.Fatal(err)
	}
	for i, k := range keys {
		times := float32(1)
		if i == 0 || i == 3 {
			times = 2
		}
		if got, want := rows.Values[i*width:][:width], []float32{10 - times*gradient(k), 10 - 2*times*gradient(k)}; !slices.Equal(got, want) {
			t.Errorf("row %x is %v, want %v", k, got, want)
		}
	}
}

// ps-lite remembers every message it has seen, for ever.
func TestWhatIsKeptToKnowCopiesDoesNotGrow(t *testing.T) {
	s, routes := states(t, 1)
	c := NewLocal(run, routes, s)
	size := func() int {
		var b bytes.Buffer
		v := s[0].View()
		defer v.Release()
		if _, err := v.WriteTo(&b); err != nil {
			t.Fatal(err)
		}
		return b.Len()
	}
	one := func(shard.Key) float32 { return 1 }
	var after10 int
	for step := uint64(1); step <= 500; step++ {
		rowStep(t, c, step, 1, keys, one)
		rowStep(t, c, step, 1, keys, one) // a copy
		if step == 10 {
			after10 = size()
		}
	}
	if got := size(); got > after10+64 {
		t.Errorf("the state has %d bytes after 500 steps, %d after 10: copies are remembered for ever", got, after10)
	}
}

// Monolith and ElasticDL choose the server by the key modulo their number: ids
// with a stride all land on one.
func TestIdsWithAStrideSpreadOverTheShards(t *testing.T) {
	const ids, shards = 8000, 8
	m := shard.Even(shards)
	for _, stride := range []int64{1, 8, 64, 1 << 20} {
		var all []shard.Key
		for i := range int64(ids) {
			all = append(all, shard.NewHasher("item").Int(i*stride))
		}
		slices.Sort(all)
		bounds := m.Cut(all)
		for i := range shards {
			if n := bounds[i+1] - bounds[i]; math.Abs(float64(n)-ids/shards) > 0.2*ids/shards {
				t.Errorf("stride %d: shard %d has %d of %d ids", stride, i, n, ids)
			}
		}
	}
}
