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

func TestPlaceSpreadsShardsAndLeaders(t *testing.T) {
	got, err := Place([]string{"ps-2", "ps-0", "ps-1"}, 4, 3)
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
	_, err := Place([]string{"ps-1"}, 2, 3)
	if !errors.Is(err, ErrNotEnoughNodes) || !strings.Contains(err.Error(), "2 missing (have ps-1)") {
		t.Fatalf("error %v", err)
	}
	if _, err := Place(nil, 2, 1); !errors.Is(err, ErrNotEnoughNodes) || !strings.Contains(err.Error(), "have none") {
		t.Fatalf("error %v", err)
	}
	if _, err := Place([]string{"a"}, 0, 1); err == nil {
		t.Fatal("no shards were placed without an error")
	}
}

func TestPlaceIsEvenDistinctAndDependsOnNamesOnly(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 20).Draw(t, "nodes")
		replicas := rapid.IntRange(1, n).Draw(t, "replicas")
		shards := rapid.IntRange(1, 60).Draw(t, "shards")
		var nodes []string
		for i := range n {
			nodes = append(nodes, fmt.Sprintf("ps-%d", i))
		}
		placed, err := Place(nodes, shards, replicas)
		if err != nil {
			t.Fatal(err)
		}
		load := make(map[string]int)
		for s, members := range placed {
			if unique := slices.Compact(slices.Sorted(slices.Values(members))); len(unique) != replicas {
				t.Fatalf("shard %d is on %v, want %d different nodes", s, members, replicas)
			}
			for _, m := range members {
				load[m]++
			}
		}
		least, most := shards*replicas, 0
		for _, node := range nodes {
			least, most = min(least, load[node]), max(most, load[node])
		}
		if most-least > 1 {
			t.Fatalf("loads from %d to %d", least, most)
		}
		again, _ := Place(rapid.Permutation(nodes).Draw(t, "order"), shards, replicas)
		if d := cmp.Diff(placed, again); d != "" {
			t.Fatalf("another order of the nodes: %s", d)
		}
	})
}
