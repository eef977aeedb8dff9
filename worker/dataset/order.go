package dataset

import (
	"sort"

	"github.com/fathom-train/fathom/compute/random"
)

// plan is the order of one epoch over one split, by position:
//
//  1. the units are permuted;
//  2. consecutive permuted units make windows: a unit joins the window before
//     it unless the window would get more than windowRows rows;
//  3. the rows of a window are permuted.
//
// So a reader that walks an epoch needs one window's units in memory at a time,
// and a row's position follows from (seed, epoch, unit sizes, windowRows)
// alone. Step 1 is written out here (one word per unit), step 3 is computed per
// row.
type plan struct {
	seed, epoch uint64
	// units[i] is the unit in permuted place i.
	units []int32
	// start[i] is the first position of place i; start[len(units)] all rows.
	start []int64
	// window[w] is the first place of window w; the last element is len(units).
	window []int32
}

// newPlan makes the plan of an epoch for units of the given sizes.
func newPlan(sizes []int, windowRows int64, seed, epoch uint64) *plan {
	n := len(sizes)
	p := &plan{seed: seed, epoch: epoch, units: make([]int32, n), start: make([]int64, n+1)}
	stream := random.Stream(seed, random.ShuffleBlocks, epoch, 0, 0)
	var inWindow int64
	for i := range n {
		u := int32(random.Permute(stream, uint64(n), uint64(i)))
		rows := int64(sizes[u])
		p.units[i] = u
		p.start[i+1] = p.start[i] + rows
		if i == 0 || inWindow+rows > windowRows {
			p.window = append(p.window, int32(i))
			inWindow = 0
		}
		inWindow += rows
	}
	p.window = append(p.window, int32(n))
	return p
}

// windowOf returns the window of a position.
func (p *plan) windowOf(pos int64) int {
	return sort.Search(len(p.window)-1, func(w int) bool { return p.start[p.window[w+1]] > pos })
}

// cursor locates the positions of one window.
type cursor struct {
	plan   *plan
	stream uint64
	// first and last bound the window's places.
	first, last int
	// from and to bound the window's positions.
	from, to int64
}

// enter returns the cursor of window w.
func (p *plan) enter(w int) cursor {
	first, last := int(p.window[w]), int(p.window[w+1])
	return cursor{
		plan:   p,
		stream: random.Stream(p.seed, random.ShuffleWindow, p.epoch, uint64(w), 0),
		first:  first, last: last, from: p.start[first], to: p.start[last],
	}
}

// locate returns the place and the row within its unit that pos, a position
// of the window, maps to.
func (c *cursor) locate(pos int64) (place, row int) {
	start := c.plan.start
	at := c.from + int64(random.Permute(c.stream, uint64(c.to-c.from), uint64(pos-c.from)))
	// Units are mostly of equal size: guess, and search if that was wrong.
	size := start[c.first+1] - c.from
	place = min(c.first+int((at-c.from)/size), c.last-1)
	if at < start[place] || at >= start[place+1] {
		place = c.first + sort.Search(c.last-c.first, func(i int) bool { return start[c.first+i+1] > at })
	}
	return place, int(at - start[place])
}
