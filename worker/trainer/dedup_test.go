package trainer

import (
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/fathom-train/fathom/shard"
)

// checkDedup compares one batch with the plainest way to say the same.
func checkDedup(t interface{ Fatalf(string, ...any) }, d *dedup, keys []shard.Key) {
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
}

func TestDedupKeepsEveryOccurrence(t *testing.T) {
	var d dedup // reused, as in training
	rapid.Check(t, func(t *rapid.T) {
		raw := rapid.SliceOf(rapid.OneOf(rapid.Uint64Range(0, 20), rapid.Uint64())).Draw(t, "keys")
		keys := make([]shard.Key, len(raw))
		for i, k := range raw {
			keys[i] = shard.Key(k)
		}
		checkDedup(t, &d, keys)
	})
}

// FuzzDedup has batches one after the other that make the table of keys grow and
// shrink: of keys drawn from few or many, which agree in some of their upper bits.
func FuzzDedup(f *testing.F) {
	f.Add(uint64(1), uint16(5000), uint16(4000), uint8(0))
	f.Add(uint64(2), uint16(3), uint16(2), uint8(60))
	f.Add(uint64(3), uint16(20000), uint16(65535), uint8(20))
	f.Add(uint64(4), uint16(0), uint16(0), uint8(63))
	f.Fuzz(func(t *testing.T, seed uint64, n, distinct uint16, equal uint8) {
		var d dedup
		r := rand.New(rand.NewPCG(seed, 0))
		for range 4 {
			prefix := shard.Key(r.Uint64()) &^ (1<<(64-equal%64) - 1)
			keys := make([]shard.Key, r.IntN(1+int(n)))
			for i := range keys {
				k := shard.Key(r.Uint64N(1 + uint64(distinct)))
				if seed%2 == 0 {
					k *= 0x9e3779b97f4a7c15
				}
				keys[i] = prefix | k>>(equal%64)
			}
			checkDedup(t, &d, keys)
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
