package dataset

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// walk returns the unit and row at every position of an epoch.
func walk(p *plan) (at [][2]int) {
	for w := range len(p.window) - 1 {
		c := p.enter(w)
		for pos := c.from; pos < c.to; pos++ {
			place, row := c.locate(pos)
			at = append(at, [2]int{int(p.units[place]), row})
		}
	}
	return at
}

// TestEveryRowHasOnePosition, for any sizes of units and windows.
func TestEveryRowHasOnePosition(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		sizes := rapid.SliceOfN(rapid.IntRange(1, 40), 1, 30).Draw(t, "sizes")
		if rapid.Bool().Draw(t, "equal") {
			for i := range sizes[:len(sizes)-1] {
				sizes[i] = 40
			}
		}
		windowRows := rapid.Int64Range(1, 300).Draw(t, "window")
		p := newPlan(sizes, windowRows, rapid.Uint64().Draw(t, "seed"), rapid.Uint64().Draw(t, "epoch"))
		at := walk(p)
		var want [][2]int
		for u, n := range sizes {
			for r := range n {
				want = append(want, [2]int{u, r})
			}
		}
		for w := range len(p.window) - 1 {
			first, last := p.window[w], p.window[w+1]
			if rows := p.start[last] - p.start[first]; rows > windowRows && last-first > 1 {
				t.Errorf("window %d has %d rows of %d units, want at most %d", w, rows, last-first, windowRows)
			}
			for _, pos := range []int64{p.start[first], p.start[last] - 1} {
				if got := p.windowOf(pos); got != w {
					t.Errorf("position %d is in window %d, want %d", pos, got, w)
				}
			}
		}
		slices.SortFunc(at, func(a, b [2]int) int { return slices.Compare(a[:], b[:]) })
		if !slices.Equal(at, want) {
			t.Errorf("the positions hold %v", at)
		}
	})
}

func TestEpochsDiffer(t *testing.T) {
	t.Parallel()
	sizes := []int{50, 50, 50, 7}
	first := walk(newPlan(sizes, 100, 1, 1))
	if !slices.Equal(first, walk(newPlan(sizes, 100, 1, 1))) {
		t.Error("the order of an epoch is not reproducible")
	}
	for _, p := range []*plan{newPlan(sizes, 100, 1, 2), newPlan(sizes, 100, 2, 1)} {
		same := 0
		for i, at := range walk(p) {
			if at == first[i] {
				same++
			}
		}
		if same > len(first)/4 {
			t.Errorf("seed %d epoch %d: %d of %d positions are those of another epoch", p.seed, p.epoch, same, len(first))
		}
	}
}
