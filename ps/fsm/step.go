package fsm

import (
	"slices"

	"github.com/fathom-train/fathom/compute/kernel"
	"github.com/fathom-train/fathom/compute/optim"
	"github.com/fathom-train/fathom/ps/wire"
	"github.com/fathom-train/fathom/shard"
)

// merge holds the buffers of applying a step.
type merge struct {
	cursors []cursor // one per lane
	heads   []head   // of the lanes with rows left, in lane order
	keys    []shard.Key
	counts  []uint32
	sums    []float32
	have    []int
}

// cursor walks the rows of one table in one lane, in ascending key order.
type cursor struct {
	sections []wire.RowSection // all of them
	next     int               // section to go to
}

// head is a lane's place in its section.
type head struct {
	keys   []shard.Key // what is left
	counts []uint32    // likewise
	grads  []float32   // likewise
	lane   *cursor
}

// load moves to the lane's next section and reports whether there is one.
func (h *head) load() bool {
	if h.lane.next == len(h.lane.sections) {
		return false
	}
	s := &h.lane.sections[h.lane.next]
	h.lane.next++
	h.keys, h.counts, h.grads = s.Keys, s.Counts, s.Grads
	return true
}

// Rows are merged and updated in blocks: small enough to stay in the nearest
// cache, large enough for the table to fetch rows ahead.
const (
	mergeRows   = 256
	mergeFloats = 8 << 10
)

// open is the first open step as the optimizers see it.
func (m *model) open() optim.Step {
	return optim.Step{T: m.version + 1 - m.schema.Base, Rate: m.pending[0].factor}
}

// step applies the first open step, which is complete, and makes it the current version.
func (m *model) step() {
	step := m.open()
	img := m.nextImage()
	m.setTrust()
	m.keepFactor(step)
	for i := range m.tables {
		m.stepTable(i, step, img)
		m.sweep(i, step.T)
	}
	m.stepDense(step, img)
	m.merge.forget()
	m.version++
	m.reduction.next()
}

// stepTable updates the rows of one table. img may be nil.
func (m *model) stepTable(ti int, step optim.Step, img *image) {
	t := m.tables[ti]
	m.merged(ti, func(rows int) {
		if img != nil {
			img.tables[ti].reserve(rows, t.before)
		}
	}, func(keys []shard.Key, counts []uint32, sums []float32) {
		var before []float32
		if img != nil {
			before = img.tables[ti].add(keys, t.before)
		}
		t.table.UpdateRows(before, keys, counts, sums, step)
	})
}

// merged merges the lanes of one table and calls f for blocks of rows: keys
// ascending, the gradients of a key summed in lane order and clipped. Before, it
// calls start with a bound of the rows.
func (m *model) merged(ti int, start func(rows int), f func(keys []shard.Key, counts []uint32, sums []float32)) {
	t := m.tables[ti]
	start(m.startCursors(t.id))
	block := max(1, min(mergeRows, mergeFloats/t.width))
	m.merge.keys = slices.Grow(m.merge.keys[:0], block)[:block]
	m.merge.counts = slices.Grow(m.merge.counts[:0], block)[:block]
	m.merge.sums = slices.Grow(m.merge.sums[:0], block*t.width)[:block*t.width]
	clip := m.clip()
	for {
		n := m.merge.next(t.width)
		if n == 0 {
			return
		}
		sums := m.merge.sums[:n*t.width]
		if clip < 1 {
			kernel.Scale(clip, sums)
		}
		f(m.merge.keys[:n], m.merge.counts[:n], sums)
	}
}

// next fills keys, counts and sums with the next rows and returns their number.
func (g *merge) next(width int) (n int) {
	for ; n < len(g.keys) && len(g.heads) > 0; n++ {
		least := g.heads[0].keys[0]
		for i := range g.heads[1:] {
			least = min(least, g.heads[1+i].keys[0])
		}
		g.keys[n] = least
		sum := g.sums[n*width : (n+1)*width]
		first, gone := true, false
		g.counts[n] = 0
		for i := range g.heads {
			h := &g.heads[i]
			if h.keys[0] != least {
				continue
			}
			if first {
				copy(sum, h.grads)
				first = false
			} else {
				kernel.Add(sum, h.grads[:width])
			}
			g.counts[n] += h.counts[0]
			h.keys, h.counts, h.grads = h.keys[1:], h.counts[1:], h.grads[width:]
			gone = gone || len(h.keys) == 0
		}
		if gone {
			g.reload()
		}
	}
	return n
}

// reload takes the heads that came to the end of their section on, or out.
func (g *merge) reload() {
	kept := g.heads[:0]
	for _, h := range g.heads {
		if len(h.keys) > 0 || h.load() {
			kept = append(kept, h)
		}
	}
	g.heads = kept
}

// forget drops what refers to the commands of the step.
func (g *merge) forget() {
	for i := range g.cursors {
		c := &g.cursors[i]
		clear(c.sections)
		c.sections = c.sections[:0]
	}
	clear(g.heads[:cap(g.heads)])
	g.heads = g.heads[:0]
}

// startCursors sets the cursors to the start of a table and returns a bound of
// the rows that follow.
func (m *model) startCursors(id uint16) (rows int) {
	m.merge.heads = m.merge.heads[:0]
	lanes := m.applied()
	for i := range lanes {
		c := &m.merge.cursors[i]
		c.sections, c.next = c.sections[:0], 0
		for _, ch := range lanes[i].chunks {
			for _, s := range ch.push.Rows {
				if s.Table == id {
					c.sections = append(c.sections, s)
					rows += len(s.Keys)
				}
			}
		}
		if h := (head{lane: c}); h.load() {
			m.merge.heads = append(m.merge.heads, h)
		}
	}
	return rows
}

// stepDense updates each dense tensor once, or none when no lane carries any.
// img may be nil.
func (m *model) stepDense(step optim.Step, img *image) {
	if !m.sumDense() {
		return
	}
	clip := m.clip()
	for i, d := range m.dense {
		if m.frozen(d, step) {
			continue
		}
		if img != nil {
			img.dense[i] = append(img.dense[i][:0], d.weights()...)
		}
		if clip < 1 && !d.running() {
			kernel.Scale(clip, d.grad)
		}
		d.update(step)
	}
}

// sumDense sums the lanes of the dense tensors in lane order and reports whether
// any lane carries them: one without samples does not.
func (m *model) sumDense() bool {
	first, lanes := true, m.applied()
	for i := range lanes {
		carried := false
		for _, ch := range lanes[i].chunks {
			for _, s := range ch.push.Dense {
				d := m.dense[m.tensorIndex(s.ID)]
				part := d.grad[s.Offset : s.Offset+len(s.Values)]
				if first {
					copy(part, s.Values)
				} else {
					kernel.Add(part, s.Values)
				}
				carried = true
			}
		}
		first = first && !carried
	}
	return !first
}
