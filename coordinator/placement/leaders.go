package placement

import "slices"

// Led is a shard with the node that leads it and those that could.
type Led struct {
	// Leader is empty when none is known.
	Leader string
	// Candidates serve and vote; the leader is one of them unless it should
	// give the leadership away.
	Candidates []string
}

// Leaders returns, for each shard, the node that should lead it in place of
// its leader, or "" if it may stay. Leaders that are no candidates go first;
// then one moves at a time, as long as two nodes differ by two or more.
func Leaders(shards []Led) []string {
	wanted := make([]string, len(shards))
	leads := map[string]int{}
	for _, s := range shards {
		for _, c := range s.Candidates {
			leads[c] += 0
		}
		if s.Leader != "" {
			leads[s.Leader]++
		}
	}
	least := func(s Led) string {
		best := ""
		for _, c := range s.Candidates {
			if best == "" || leads[c] < leads[best] || leads[c] == leads[best] && c < best {
				best = c
			}
		}
		return best
	}
	for i, s := range shards {
		if s.Leader == "" || slices.Contains(s.Candidates, s.Leader) {
			continue
		}
		if wanted[i] = least(s); wanted[i] != "" {
			leads[s.Leader]--
			leads[wanted[i]]++
		}
	}
	for i, s := range shards {
		if s.Leader == "" || wanted[i] != "" {
			continue
		}
		if to := least(s); to != "" && leads[s.Leader]-leads[to] >= 2 {
			leads[s.Leader]--
			leads[to]++
			wanted[i] = to
		}
	}
	return wanted
}
