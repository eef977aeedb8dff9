// Package placement decides which parameter servers hold which shards. It is
// pure: names in, names out.
package placement

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrNotEnoughNodes says that a shard's replicas would have to share a node.
var ErrNotEnoughNodes = errors.New("not enough parameter servers")

// Place returns, for each of the shards, the nodes of its replicas. The first
// node of a shard is the one that should lead it.
//
// Every node gets the same number of replicas, give or take one, and the same
// number of firsts as far as the replicas allow. The answer depends only on
// the set of names: nodes that leave and come back, in any order, are placed
// as before.
func Place(nodes []string, shards, replicas int) ([][]string, error) {
	if shards < 1 || replicas < 1 {
		return nil, fmt.Errorf("place %d shards of %d replicas: both must be at least 1", shards, replicas)
	}
	nodes = slices.Sorted(slices.Values(nodes))
	nodes = slices.Compact(nodes)
	if missing := replicas - len(nodes); missing > 0 {
		return nil, fmt.Errorf("%w: %d replicas of every shard need %d, %d missing (have %s)",
			ErrNotEnoughNodes, replicas, replicas, missing, have(nodes))
	}
	// Filling the nodes in a circle keeps their loads within one of each other
	// and, as replicas <= nodes, never names a node twice in a shard.
	placed := make([][]string, shards)
	firsts := make(map[string]int, len(nodes))
	next := 0
	for s := range placed {
		members := make([]string, replicas)
		for r := range members {
			members[r] = nodes[next]
			next = (next + 1) % len(nodes)
		}
		lead := 0
		for r, node := range members {
			if firsts[node] < firsts[members[lead]] {
				lead = r
			}
		}
		members[0], members[lead] = members[lead], members[0]
		firsts[members[0]]++
		placed[s] = members
	}
	return placed, nil
}

func have(nodes []string) string {
	if len(nodes) == 0 {
		return "none"
	}
	return strings.Join(nodes, ", ")
}
