package dataset

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"sort"
	"sync"

	"golang.org/x/sync/errgroup"
)

// Split is one part of the data: train, valid or test.
type Split struct {
	set   *Set
	name  string
	units []*unit
	// sizes and start are the rows of each unit and before each.
	sizes     []int
	start     []int64
	positives int64
	bytes     int64

	gathers sync.Pool

	// mu guards what follows.
	mu sync.Mutex
	// plans are the epochs used last, the last one first.
	plans []*plan
	// ahead is the window that is or was read ahead.
	ahead       windowID
	aheadActive bool
}

// windowID names a window of an epoch.
type windowID struct {
	plan   *plan
	window int
}

// plansMax is how many epochs' orders are kept: workers may be in two at a
// time, and an evaluation between them in a third.
const plansMax = 4

// finish computes what follows from the units.
func (p *Split) finish() {
	p.start = make([]int64, 1, len(p.units)+1)
	for _, u := range p.units {
		p.sizes = append(p.sizes, u.rows)
		p.start = append(p.start, p.start[len(p.start)-1]+int64(u.rows))
		p.positives += u.positives
		p.bytes += u.bytes
	}
	p.gathers.New = func() any { return new(gather) }
}

// Rows returns the number of good records.
func (p *Split) Rows() int64 { return p.start[len(p.units)] }

// Positives returns how many rows have label 1. It is always known.
func (p *Split) Positives() (int64, bool) { return p.positives, true }

// Read fills dst with the rows [lo, hi) in the order of the files.
func (p *Split) Read(ctx context.Context, dst *Batch, lo, hi int64) error {
	if err := p.check(lo, hi); err != nil {
		return err
	}
	dst.reset(int(hi-lo), p.set.Fields())
	for i := sort.Search(len(p.units), func(i int) bool { return p.start[i+1] > lo }); lo < hi; i++ {
		b, err := p.set.cache.get(ctx, p.units[i])
		if err != nil {
			return fmt.Errorf("read rows of %s: %w", p.name, err)
		}
		for end := min(hi, p.start[i+1]); lo < end; lo++ {
			b.appendRow(dst, int(lo-p.start[i]))
		}
	}
	return checkSize(dst)
}

// ReadEpoch fills dst with the rows at positions [lo, hi) of an epoch's order.
// Every row has one position in every epoch; the rows of a position do not
// depend on how the positions are cut into reads.
func (p *Split) ReadEpoch(ctx context.Context, dst *Batch, seed, epoch uint64, lo, hi int64) error {
	if err := p.check(lo, hi); err != nil {
		return err
	}
	dst.reset(int(hi-lo), p.set.Fields())
	if lo == hi {
		return nil
	}
	order := p.plan(seed, epoch)
	g := p.gathers.Get().(*gather)
	defer func() {
		g.release()
		p.gathers.Put(g)
	}()
	g.locate(order, lo, hi)
	if err := g.fetch(ctx, p, order); err != nil {
		return fmt.Errorf("read rows of %s: %w", p.name, err)
	}
	for _, at := range g.rows {
		g.blocks[at.place].appendRow(dst, int(at.row))
	}
	p.readAhead(order, hi-1)
	return checkSize(dst)
}

// check refuses a range that the split does not have.
func (p *Split) check(lo, hi int64) error {
	if lo < 0 || lo > hi || hi > p.Rows() {
		return fmt.Errorf("read rows [%d, %d) of %s, which has %d: %w", lo, hi, p.name, p.Rows(), ErrRange)
	}
	return nil
}

// checkSize refuses a batch whose offsets do not fit.
func checkSize(dst *Batch) error {
	if len(dst.Keys) > math.MaxInt32 {
		return errors.New("the batch has more than 2^31 values; read fewer rows")
	}
	return nil
}

// plan returns the order of an epoch.
func (p *Split) plan(seed, epoch uint64) *plan {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, q := range p.plans {
		if q.seed == seed && q.epoch == epoch {
			copy(p.plans[1:i+1], p.plans[:i])
			p.plans[0] = q
			return q
		}
	}
	q := newPlan(p.sizes, p.set.windowRows, seed, epoch)
	p.plans = slices.Insert(p.plans, 0, q)
	p.plans = p.plans[:min(len(p.plans), plansMax)]
	return q
}

// gather is the memory of one ReadEpoch.
type gather struct {
	// first is the place of blocks[0].
	first int
	// blocks are those of the places the rows come from, else nil.
	blocks []*block
	wanted []bool
	absent []int32
	rows   []place
}

// place is a row: blocks index and row within the block.
type place struct{ place, row int32 }

// locate computes where the rows at positions [lo, hi) are.
func (g *gather) locate(order *plan, lo, hi int64) {
	w := order.windowOf(lo)
	g.first = int(order.window[w])
	last := int(order.window[order.windowOf(hi-1)+1])
	g.blocks = slices.Grow(g.blocks[:0], last-g.first)[:last-g.first]
	g.wanted = slices.Grow(g.wanted[:0], len(g.blocks))[:len(g.blocks)]
	clear(g.wanted)
	g.rows = slices.Grow(g.rows[:0], int(hi-lo))
	for ; lo < hi; w++ {
		c := order.enter(w)
		for end := min(hi, c.to); lo < end; lo++ {
			at, row := c.locate(lo)
			g.wanted[at-g.first] = true
			g.rows = append(g.rows, place{int32(at - g.first), int32(row)})
		}
	}
}

// fetch gets the blocks the rows come from; those that are not cached are
// decoded on all cores.
func (g *gather) fetch(ctx context.Context, p *Split, order *plan) error {
	g.absent = g.absent[:0]
	for i, wanted := range g.wanted {
		if !wanted {
			continue
		}
		if g.blocks[i] = p.set.cache.peek(p.units[order.units[g.first+i]]); g.blocks[i] == nil {
			g.absent = append(g.absent, int32(i))
		}
	}
	if len(g.absent) == 0 {
		return nil
	}
	return g.decode(ctx, p, order)
}

// decode is the part of fetch that is needed when blocks are absent.
func (g *gather) decode(ctx context.Context, p *Split, order *plan) error {
	e, ctx := errgroup.WithContext(ctx)
	e.SetLimit(runtime.GOMAXPROCS(0))
	for _, i := range g.absent {
		e.Go(func() (err error) {
			g.blocks[i], err = p.set.cache.get(ctx, p.units[order.units[g.first+int(i)]])
			return err
		})
	}
	return e.Wait()
}

// release lets the blocks go.
func (g *gather) release() { clear(g.blocks) }
