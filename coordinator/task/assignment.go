// Package task decides which worker does what: the lanes of training steps and
// the blocks of an evaluation. It is pure: no clock, no network. Who is alive
// is the caller's knowledge, passed in as the list of workers.
//
// Work may be given to two workers at once without harm: equal tasks have
// equal results, and the receivers recognise the second copy. The assignment
// therefore aims at balance and calm, and needs no leases of its own.
package task

import (
	"cmp"
	"slices"
)

// Assignment gives numbered items to workers: contiguous runs at first, and
// afterwards with as few moves as balance allows.
type Assignment struct {
	owner []string // of each item; empty: nobody
	done  []bool   // items that need no owner any more
}

// NewAssignment returns an assignment of n items nobody has yet.
func NewAssignment(n int) *Assignment {
	return &Assignment{owner: make([]string, n), done: make([]bool, n)}
}

// Of returns the worker's items in ascending order, finished ones included
// until the next Rebalance.
func (a *Assignment) Of(worker string) []int {
	var items []int
	for i, w := range a.owner {
		if w == worker && worker != "" {
			items = append(items, i)
		}
	}
	return items
}

// Rebalance makes the workers share the unfinished items evenly: the numbers
// of any two differ by at most one. An item moves only when its worker is gone
// or has too many; a worker gives up its last items first, because it works
// from the first one on. It reports whether anything changed.
func (a *Assignment) Rebalance(workers []string) bool {
	before := slices.Clone(a.owner)
	workers = slices.Compact(slices.Sorted(slices.Values(workers)))
	held := a.heldBy(workers)
	quota := quotas(workers, held, a.unfinished())
	for _, w := range workers {
		for _, item := range held[w][min(len(held[w]), quota[w]):] {
			a.owner[item] = ""
		}
	}
	free := a.free()
	for _, w := range workers {
		take := min(len(free), max(0, quota[w]-len(held[w])))
		for _, item := range free[:take] {
			a.owner[item] = w
		}
		free = free[take:]
	}
	return !slices.Equal(before, a.owner)
}

// heldBy forgets the owners of finished items and of workers that are gone,
// and lists what the others hold.
func (a *Assignment) heldBy(workers []string) map[string][]int {
	held := make(map[string][]int, len(workers))
	for i, w := range a.owner {
		if _, live := slices.BinarySearch(workers, w); a.done[i] || !live {
			a.owner[i] = ""
			continue
		}
		held[w] = append(held[w], i)
	}
	return held
}

// quotas splits n items over the workers. Those that hold the most keep one
// more when n does not divide, which saves moves.
func quotas(workers []string, held map[string][]int, n int) map[string]int {
	byLoad := slices.Clone(workers)
	slices.SortStableFunc(byLoad, func(a, b string) int { return cmp.Compare(len(held[b]), len(held[a])) })
	quota := make(map[string]int, len(workers))
	for i, w := range byLoad {
		quota[w] = n / len(workers)
		if i < n%len(workers) {
			quota[w]++
		}
	}
	return quota
}

func (a *Assignment) unfinished() int {
	n := 0
	for _, done := range a.done {
		if !done {
			n++
		}
	}
	return n
}

func (a *Assignment) free() []int {
	var items []int
	for i, w := range a.owner {
		if w == "" && !a.done[i] {
			items = append(items, i)
		}
	}
	return items
}
