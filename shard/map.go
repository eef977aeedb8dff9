package shard

import (
	"fmt"
	"math"
	"math/bits"
	"sort"
)

// ID names a shard.
type ID uint32

// Range is a contiguous range of keys.
type Range struct {
	// Lo is the first key, Hi the last one (inclusive, so that the whole key
	// space can be written down).
	Lo, Hi Key
}

// Contains reports whether the key is in the range.
func (r Range) Contains(k Key) bool { return r.Lo <= k && k <= r.Hi }

// Shard is one range of keys, held by one raft group.
type Shard struct {
	ID    ID
	Range Range
}

// Map says which shard holds a key.
type Map struct {
	// Version grows with every change of the map.
	Version uint64
	// Shards are in ascending key order and cover every key exactly once.
	Shards []Shard
}

// MaxShards bounds the shards of one map.
const MaxShards = 1 << 16

// Even returns a map of n equal ranges (sizes differ by at most one key) with
// the ids 0..n-1. It panics when n is not in 1..MaxShards.
func Even(n int) Map {
	if n < 1 || n > MaxShards {
		panic(fmt.Sprintf("shard: BUG: even map of %d shards, want 1 to %d", n, MaxShards))
	}
	m := Map{Shards: make([]Shard, n)}
	for i := range m.Shards {
		lo, _ := bits.Div64(uint64(i), 0, uint64(n)) // floor(i * 2^64 / n)
		hi := uint64(math.MaxUint64)
		if i+1 < n {
			hi, _ = bits.Div64(uint64(i+1), 0, uint64(n))
			hi--
		}
		m.Shards[i] = Shard{ID: ID(i), Range: Range{Lo: Key(lo), Hi: Key(hi)}}
	}
	return m
}

// Validate reports the first place where the map does not cover every key
// exactly once in ascending order, or names a shard twice.
func (m Map) Validate() error {
	if len(m.Shards) == 0 {
		return fmt.Errorf("shard map version %d has no shards", m.Version)
	}
	if len(m.Shards) > MaxShards {
		return fmt.Errorf("shard map version %d has %d shards, at most %d are allowed", m.Version, len(m.Shards), MaxShards)
	}
	seen := make(map[ID]bool, len(m.Shards))
	next := Key(0)
	for i, s := range m.Shards {
		if seen[s.ID] {
			return fmt.Errorf("shard map version %d names shard %d twice", m.Version, s.ID)
		}
		seen[s.ID] = true
		if s.Range.Lo != next {
			return fmt.Errorf("shard %d starts at key %#x, want %#x", s.ID, uint64(s.Range.Lo), uint64(next))
		}
		if s.Range.Hi < s.Range.Lo {
			return fmt.Errorf("shard %d ends at key %#x before its start %#x", s.ID, uint64(s.Range.Hi), uint64(s.Range.Lo))
		}
		last := i == len(m.Shards)-1
		if last != (s.Range.Hi == math.MaxUint64) {
			return fmt.Errorf("shard %d ends at key %#x: only the last shard ends at the last key", s.ID, uint64(s.Range.Hi))
		}
		next = s.Range.Hi + 1
	}
	return nil
}

// Locate returns the shard of a key. The map must be valid.
func (m Map) Locate(k Key) ID {
	i := sort.Search(len(m.Shards), func(i int) bool { return m.Shards[i].Range.Hi >= k })
	return m.Shards[i].ID
}

// Cut returns the bounds of every shard's keys: shard i of the map owns
// keys[b[i]:b[i+1]], and b has one element more than the map has shards. The
// keys must be ascending and the map valid.
func (m Map) Cut(keys []Key) []int {
	b := make([]int, len(m.Shards)+1)
	for i, s := range m.Shards {
		rest := keys[b[i]:]
		b[i+1] = b[i] + sort.Search(len(rest), func(j int) bool { return rest[j] > s.Range.Hi })
	}
	return b
}
