// Package placement decides which parameter servers hold which shards. It is
// pure: names in, names out.
package placement

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// ErrNotEnoughNodes says that a shard's replicas would have to share a node.
var ErrNotEnoughNodes = errors.New("not enough parameter servers")

// Place returns, for each of the shards, the nodes of its replicas. The first
// node of a shard is the one that should lead it. The nodes come by pool: all
// replicas of a shard are in one (see Shares).
//
// Every node of a pool gets the same number of replicas, give or take one, and
// the same number of firsts as far as the replicas allow. The answer depends only
// on the set of names: nodes that leave and come back, in any order, are placed
// as before.
func Place(pools map[string][]string, shards, replicas int) ([][]string, error) {
	if shards < 1 || replicas < 1 {
		return nil, fmt.Errorf("place %d shards of %d replicas: both must be at least 1", shards, replicas)
	}
	circles := map[string]*circle{}
	sizes := map[string]int{}
	var all []string
	for name, nodes := range pools {
		nodes = slices.Compact(slices.Sorted(slices.Values(nodes)))
		circles[name], sizes[name] = &circle{nodes: nodes, firsts: map[string]int{}}, len(nodes)
		all = append(all, nodes...)
	}
	placed := make([][]string, shards)
	shares := Shares(sizes, shards, replicas)
	if len(shares) == 0 {
		most := 0
		for _, n := range sizes {
			most = max(most, n)
		}
		slices.Sort(all)
		one := ""
		if len(pools) > 1 {
			one = " in one pool"
		}
		return nil, fmt.Errorf("%w: %d replicas of every shard need %d%s, %d missing (have %s)",
			ErrNotEnoughNodes, replicas, replicas, one, replicas-most, have(all))
	}
	s := 0
	for _, name := range slices.Sorted(maps.Keys(shares)) {
		for range shares[name] {
			placed[s] = circles[name].take(replicas)
			s++
		}
	}
	return placed, nil
}

// Shares says how many of the shards each pool gets, by its number of nodes: in
// proportion, so that the fullest node has as few as can be. A pool with fewer
// nodes than a shard has replicas gets none and is left out.
func Shares(sizes map[string]int, shards, replicas int) map[string]int {
	shares := map[string]int{}
	for name, n := range sizes {
		if n >= replicas {
			shares[name] = 0
		}
	}
	names := slices.Sorted(maps.Keys(shares))
	if len(names) == 0 {
		return nil
	}
	for range shards {
		best := names[0]
		for _, name := range names[1:] {
			if (shares[name]+1)*sizes[best] < (shares[best]+1)*sizes[name] {
				best = name
			}
		}
		shares[best]++
	}
	return shares
}

// circle hands out the nodes of a pool in turn, which keeps their loads within
// one of each other and, as a shard has no more replicas than there are nodes,
// never names a node twice in a shard.
type circle struct {
	nodes  []string
	next   int
	firsts map[string]int
}

func (c *circle) take(replicas int) []string {
	members := make([]string, replicas)
	lead := 0
	for r := range members {
		members[r] = c.nodes[c.next]
		c.next = (c.next + 1) % len(c.nodes)
		if c.firsts[members[r]] < c.firsts[members[lead]] {
			lead = r
		}
	}
	members[0], members[lead] = members[lead], members[0]
	c.firsts[members[0]]++
	return members
}

func have(nodes []string) string {
	if len(nodes) == 0 {
		return "none"
	}
	return strings.Join(nodes, ", ")
}
