package trainer

import (
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/fathom-train/fathom/shard"
)

func TestDedupKeepsEveryOccurrence(t *testing.T) {
	var d dedup // reused, as in training
	rapid.Check(t, func(t *rapid.T) {
		raw := rapid.SliceOf(rapid.OneOf(rapid.Uint64Range(0, 20), rapid.Uint64())).Draw(t, "keys")
		keys := make([]shard.Key, len(raw))
		for i, k := range raw {
			keys[i] = shard.Key(k)
		}
		d.Build(keys)
		want := slices.Compact(slices.Sorted(slices.Values(keys)))
		if !slices.Equal(d.Keys, want) {
			t.Fatalf("keys %v, want %v", d.Keys, want)
		}
		counts := make([]uint32, len(want))
		for o, k := range keys {
			if d.Keys[d.Index[o]] != k {
				t.Fatalf("occurrence %d has key %d, want %d", o, d.Keys[d.Index[o]], k)
			}
			counts[d.Index[o]]++
		}
		if !slices.Equal(d.Counts, counts) {
			t.Fatalf("counts %v, want %v", d.Counts, counts)
		}
	})
}

func TestDedupDoesNotAllocateOnceWarm(t *testing.T) {
	keys := make([]shard.Key, 5000)
	for i := range keys {
		keys[i] = shard.Key(i%700) * 0x9e3779b97f4a7c15
	}
	var d dedup
	d.Build(keys)
	if n := testing.AllocsPerRun(10, func() { d.Build(keys) }); n != 0 {
		t.Errorf("%v allocations per batch, want 0", n)
	}
}
