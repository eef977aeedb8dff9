package placement

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// one is a cluster of one pool.
func one(nodes ...string) map[string][]string { return map[string][]string{"": nodes} }

func TestPlaceSpreadsShardsAndLeaders(t *testing.T) {
	got, err := Place(one("ps-2", "ps-0", "ps-1"), 4, 3)
	if err != nil {
		t.Fatal(err)
	}
	want := [][]string{
		{"ps-0", "ps-1", "ps-2"},
		{"ps-1", "ps-0", "ps-2"},
		{"ps-2", "ps-1", "ps-0"},
		{"ps-0", "ps-1", "ps-2"},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Fatal(d)
	}
}

func TestPlaceSaysHowManyNodesAreMissing(t *testing.T) {
	_, err := Place(one("ps-1"), 2, 3)
	if !errors.Is(err, ErrNotEnoughNodes) || !strings.Contains(err.Error(), "2 missing (have ps-1)") {
		t.Fatalf("error %v", err)
	}
	if _, err := Place(nil, 2, 1); !errors.Is(err, ErrNotEnoughNodes) || !strings.Contains(err.Error(), "have none") {
		t.Fatalf("error %v", err)
	}
	if _, err := Place(one("a"), 0, 1); err == nil {
		t.Fatal("no shards were placed without an error")
	}
}

func TestPlaceSaysThatNoPoolHasEnough(t *testing.T) {
	_, err := Place(map[string][]string{"": {"ps-0"}, "big": {"ps-1", "ps-2"}}, 2, 3)
	if !errors.Is(err, ErrNotEnoughNodes) || !strings.Contains(err.Error(), "need 3 in one pool, 1 missing (have ps-0, ps-1, ps-2)") {
		t.Fatalf("error %v", err)
	}
}

// drawPools draws the nodes of some pools and tells of each node its pool.
func drawPools(t *rapid.T, most int) (pools map[string][]string, poolOf map[string]string) {
	pools, poolOf = map[string][]string{}, map[string]string{}
	for p := range rapid.IntRange(1, 3).Draw(t, "pools") {
		pool := []string{"", "fast", "large"}[p]
		for i := range rapid.IntRange(1, most).Draw(t, "nodes") {
			node := fmt.Sprintf("ps-%s%d", pool, i)
			pools[pool], poolOf[node] = append(pools[pool], node), pool
		}
	}
	return pools, poolOf
}

func TestPlaceIsEvenDistinctAndDependsOnNamesOnly(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		pools, poolOf := drawPools(t, 9)
		most := 0
		for _, nodes := range pools {
			most = max(most, len(nodes))
		}
		replicas := rapid.IntRange(1, most).Draw(t, "replicas")
		shards := rapid.IntRange(1, 60).Draw(t, "shards")
		placed, err := Place(pools, shards, replicas)
		if err != nil {
			t.Fatal(err)
		}
		load, share := map[string]int{}, map[string]int{}
		for s, members := range placed {
			if unique := slices.Compact(slices.Sorted(slices.Values(members))); len(unique) != replicas {
				t.Fatalf("shard %d is on %v, want %d different nodes", s, members, replicas)
			}
			share[poolOf[members[0]]]++
			for _, m := range members {
				load[m]++
				if poolOf[m] != poolOf[members[0]] {
					t.Fatalf("shard %d is on %v, of several pools", s, members)
				}
			}
		}
		for pool, nodes := range pools {
			least, most := shards*replicas, 0
			for _, node := range nodes {
				least, most = min(least, load[node]), max(most, load[node])
			}
			if most-least > 1 {
				t.Fatalf("pool %q: loads from %d to %d", pool, least, most)
			}
			// One shard less here and one more there makes the fullest no emptier.
			for other, others := range pools {
				if len(others) >= replicas && share[pool] > 0 && (share[other]+1)*len(nodes) < share[pool]*len(others) {
					t.Fatalf("pool %q has %d shards on %d nodes, %q has %d on %d", pool, share[pool], len(nodes), other, share[other], len(others))
				}
			}
		}
		for pool := range pools {
			pools[pool] = rapid.Permutation(pools[pool]).Draw(t, "order")
		}
		again, _ := Place(pools, shards, replicas)
		if d := cmp.Diff(placed, again); d != "" {
			t.Fatalf("another order of the nodes: %s", d)
		}
	})
}
