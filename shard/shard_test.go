package shard

import (
	"math"
	"sort"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// The keys are part of the model's format: these values must never change.
func TestKeysKeepTheirGoldenValues(t *testing.T) {
	t.Parallel()
	u, e := NewHasher("user"), NewHasher("")
	got := []Key{
		u.String(""), u.String("a"), u.String("42"), u.Bytes([]byte("héllo")),
		u.Int(-1), u.Int(math.MinInt64), u.Missing(), u.Value(),
		e.String(""), e.String("a"), e.Missing(), NewHasher("item").String("42"),
	}
	want := goldenKeys
	if d := cmp.Diff(want, got); d != "" {
		t.Fatalf("keys changed (-want +got):\n%s", d)
	}
}

func TestKeysOfOneFieldAndOfTwoFieldsDiffer(t *testing.T) {
	t.Parallel()
	keys := map[Key]string{}
	add := func(k Key, what string) {
		t.Helper()
		if other, ok := keys[k]; ok {
			t.Errorf("%s and %s have the same key %#x", what, other, uint64(k))
		}
		keys[k] = what
	}
	for _, field := range []string{"", "a", "ab", "abc", "b"} {
		h := NewHasher(field)
		add(h.Missing(), field+" missing")
		add(h.Value(), field+" value")
		for _, v := range []string{"", "a", "b", "bc", "c", "0", "1", "\x00", "\x01", "\x02", "\x03"} {
			add(h.String(v), field+" text "+v)
		}
	}
}

func TestIntHasTheKeyOfItsDecimalText(t *testing.T) {
	t.Parallel()
	h := NewHasher("age")
	for v, text := range map[int64]string{0: "0", -17: "-17", math.MaxInt64: "9223372036854775807"} {
		if h.Int(v) != h.String(text) {
			t.Errorf("key of %d differs from that of %q", v, text)
		}
	}
}

func TestHashingDoesNotAllocate(t *testing.T) {
	h := NewHasher("f")
	b := []byte("value")
	if n := testing.AllocsPerRun(100, func() { sink = h.Bytes(b) ^ h.String("value") ^ h.Int(-123456789) }); n != 0 {
		t.Errorf("hashing allocates %v times", n)
	}
}

var sink Key

func TestShortValuesSpreadEvenlyOverShards(t *testing.T) {
	t.Parallel()
	const n, shards = 20000, 8
	m := Even(shards)
	h := NewHasher("f")
	var count [shards]int
	for v := range int64(n) {
		count[m.Locate(h.Int(v))]++
	}
	for id, c := range count {
		if math.Abs(float64(c)-n/shards) > 5*math.Sqrt(n/shards) {
			t.Errorf("shard %d holds %d of %d keys", id, c, n)
		}
	}
}

func TestEvenMapsAreValidAndEven(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 2, 3, 5, 7, 64, 1000, MaxShards} {
		m := Even(n)
		if err := m.Validate(); err != nil {
			t.Errorf("%d shards: %v", n, err)
		}
		size := uint64(m.Shards[0].Range.Hi - m.Shards[0].Range.Lo)
		for _, s := range m.Shards {
			if d := int64(uint64(s.Range.Hi-s.Range.Lo) - size); d < -1 || d > 1 {
				t.Errorf("%d shards: shard %d has %d keys more than shard 0", n, s.ID, d)
			}
		}
	}
	for _, n := range []int{0, -1, MaxShards + 1} {
		if !panics(func() { Even(n) }) {
			t.Errorf("Even(%d) did not panic", n)
		}
	}
}

func panics(f func()) (yes bool) {
	defer func() { yes = recover() != nil }()
	f()
	return false
}

func TestValidateNamesTheFault(t *testing.T) {
	t.Parallel()
	f := func(want string, shards ...Shard) {
		t.Helper()
		err := Map{Version: 3, Shards: shards}.Validate()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got error %v, want %q", err, want)
		}
	}
	f("no shards")
	f("starts at key 0x1", Shard{0, Range{1, math.MaxUint64}})
	f("only the last shard", Shard{0, Range{0, 5}})
	f("twice", Shard{0, Range{0, 5}}, Shard{0, Range{6, math.MaxUint64}})
	f("starts at key 0x7", Shard{0, Range{0, 5}}, Shard{1, Range{7, math.MaxUint64}})
	f("before its start", Shard{0, Range{0, 5}}, Shard{1, Range{6, 3}}, Shard{2, Range{4, math.MaxUint64}})
	f("only the last shard", Shard{0, Range{0, math.MaxUint64}}, Shard{1, Range{0, math.MaxUint64}})
	f("at most", make([]Shard, MaxShards+1)...)
}

func TestCutAgreesWithLocate(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := Even(rapid.IntRange(1, 20).Draw(t, "shards"))
		keys := rapid.SliceOf(rapid.Custom(func(t *rapid.T) Key { return Key(rapid.Uint64().Draw(t, "key")) })).Draw(t, "keys")
		for _, s := range m.Shards { // the edges are where it can go wrong
			keys = append(keys, s.Range.Lo, s.Range.Hi)
		}
		sort.Slice(keys, func(i, j int) bool { return keys[i] < keys[j] })
		b := m.Cut(keys)
		if len(b) != len(m.Shards)+1 || b[0] != 0 || b[len(b)-1] != len(keys) {
			t.Fatalf("bounds %v do not span %d keys over %d shards", b, len(keys), len(m.Shards))
		}
		for i, s := range m.Shards {
			for _, k := range keys[b[i]:b[i+1]] {
				if m.Locate(k) != s.ID || !s.Range.Contains(k) {
					t.Fatalf("key %#x was cut to shard %d, located at %d", uint64(k), s.ID, m.Locate(k))
				}
			}
		}
	})
}

func TestPlaceDenseBalancesLargestFirst(t *testing.T) {
	t.Parallel()
	f := func(sizes []int, shards int, want []ID) {
		t.Helper()
		if d := cmp.Diff(want, PlaceDense(sizes, shards)); d != "" {
			t.Errorf("PlaceDense(%v, %d) (-want +got):\n%s", sizes, shards, d)
		}
	}
	f([]int{5, 5, 5}, 1, []ID{0, 0, 0})
	f([]int{1, 4, 3, 2}, 2, []ID{0, 0, 1, 1})
	f([]int{7, 7, 1, 1}, 3, []ID{0, 1, 2, 2})
	f(nil, 2, []ID{})
	if !panics(func() { PlaceDense([]int{1}, 0) }) {
		t.Error("PlaceDense on no shards did not panic")
	}
}
