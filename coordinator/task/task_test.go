package task

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestLanesAreContiguousAtFirst(t *testing.T) {
	a := NewAssignment(8)
	if !a.Rebalance([]string{"c", "a", "b"}) {
		t.Fatal("the first assignment changed nothing")
	}
	got := [][]int{a.Of("a"), a.Of("b"), a.Of("c")}
	if d := cmp.Diff([][]int{{0, 1, 2}, {3, 4, 5}, {6, 7}}, got); d != "" {
		t.Fatal(d)
	}
	if a.Rebalance([]string{"a", "b", "c"}) {
		t.Fatal("the same workers got other lanes")
	}
}

func TestLanesOfADeadWorkerGoToTheOthers(t *testing.T) {
	a := NewAssignment(4)
	a.Rebalance([]string{"a", "b"})
	a.Rebalance([]string{"b"})
	if d := cmp.Diff([]int{0, 1, 2, 3}, a.Of("b")); d != "" {
		t.Fatal(d)
	}
	a.Rebalance(nil)
	if got := a.Of("b"); got != nil {
		t.Fatalf("a worker that is gone has %v", got)
	}
	if got := a.Of(""); got != nil {
		t.Fatalf("the nameless worker has %v", got)
	}
}

func TestAWorkerThatJoinsTakesTheLastLanes(t *testing.T) {
	a := NewAssignment(4)
	a.Rebalance([]string{"a"})
	a.Rebalance([]string{"a", "b"})
	if d := cmp.Diff([][]int{{0, 1}, {2, 3}}, [][]int{a.Of("a"), a.Of("b")}); d != "" {
		t.Fatal(d)
	}
}

func TestRebalancingIsEvenCompleteAndMinimal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(0, 30).Draw(t, "items")
		a := NewAssignment(n)
		for range rapid.IntRange(1, 8).Draw(t, "changes") {
			workers := rapid.SliceOfNDistinct(rapid.Map(rapid.IntRange(0, 9), func(i int) string { return fmt.Sprint("w", i) }),
				1, 10, rapid.ID).Draw(t, "workers")
			before := slices.Clone(a.owner)
			changed := a.Rebalance(workers)
			checkShares(t, a, workers, n)
			moves := 0
			for i := range before {
				if before[i] != a.owner[i] {
					moves++
				}
			}
			if want := fewestMoves(before, workers, n); moves != want || changed != (moves > 0) {
				t.Fatalf("%v became %v: %d moves, want %d (changed %t)", before, a.owner, moves, want, changed)
			}
		}
	})
}

func checkShares(t *rapid.T, a *Assignment, workers []string, n int) {
	least, most, sum := n, 0, 0
	for _, w := range workers {
		k := len(a.Of(w))
		least, most, sum = min(least, k), max(most, k), sum+k
	}
	if most-least > 1 || sum != n {
		t.Fatalf("shares of %v: from %d to %d, together %d of %d", a.owner, least, most, sum, n)
	}
}

// fewestMoves counts what any even sharing must move: every item of a worker
// that is gone, and what a worker holds above the share of the fullest.
func fewestMoves(owner, workers []string, n int) int {
	held := make(map[string]int)
	moves := 0
	for _, w := range owner {
		if slices.Contains(workers, w) {
			held[w]++
		} else {
			moves++
		}
	}
	loads := make([]int, 0, len(workers))
	for _, w := range workers {
		loads = append(loads, held[w])
	}
	slices.Sort(loads)
	slices.Reverse(loads)
	for i, load := range loads {
		share := n / len(workers)
		if i < n%len(workers) {
			share++
		}
		moves += max(0, load-share)
	}
	return moves
}

func TestIdleWorkersGetTheLastBlocksOfBusyOnes(t *testing.T) {
	e := NewEvaluation(8)
	e.Rebalance([]string{"a", "b"})
	for b := range 3 {
		e.Done(b)
	}
	if e.Rebalance([]string{"a", "b"}) {
		t.Fatal("blocks moved although every worker has some")
	}
	e.Done(3)
	if !e.Rebalance([]string{"a", "b"}) {
		t.Fatal("an idle worker got nothing")
	}
	if d := cmp.Diff([][]int{{6, 7}, {4, 5}}, [][]int{e.Of("a"), e.Of("b")}); d != "" {
		t.Fatal(d)
	}
}

func TestBlocksAreCountedOnceAndOrphansMove(t *testing.T) {
	e := NewEvaluation(3)
	e.Rebalance([]string{"a", "b"})
	if !e.Done(0) || e.Done(0) {
		t.Fatal("a block delivered twice did not count once")
	}
	if !e.Rebalance([]string{"b"}) {
		t.Fatal("blocks of a dead worker stayed")
	}
	if d := cmp.Diff([]int{1, 2}, e.Of("b")); d != "" {
		t.Fatal(d)
	}
	e.Done(1)
	e.Done(2)
	if e.Left() != 0 || e.Rebalance([]string{"b"}) {
		t.Fatal("a finished evaluation is still shared out")
	}
}
