package shard

import (
	"fmt"
	"sort"
)

// PlaceDense says which shard (0..shards-1) holds each dense tensor: the
// largest tensor first, each to the shard with the fewest elements so far;
// ties go to the tensor and the shard with the lower number. It panics when
// shards is less than one.
func PlaceDense(sizes []int, shards int) []ID {
	if shards < 1 {
		panic(fmt.Sprintf("shard: BUG: place dense tensors on %d shards", shards))
	}
	order := make([]int, len(sizes))
	for i := range order {
		order[i] = i
	}
	sort.SliceStable(order, func(a, b int) bool { return sizes[order[a]] > sizes[order[b]] })
	load := make([]int, shards)
	placed := make([]ID, len(sizes))
	for _, i := range order {
		least := 0
		for s, l := range load {
			if l < load[least] {
				least = s
			}
		}
		load[least] += sizes[i]
		placed[i] = ID(least)
	}
	return placed
}
