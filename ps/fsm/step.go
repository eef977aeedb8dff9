package fsm

import (
	"github.com/fathom-train/fathom/compute/kernel"
	"github.com/fathom-train/fathom/ps/wire"
	"github.com/fathom-train/fathom/shard"
)

// merge holds the buffers of applying a step.
type merge struct {
	cursors []cursor // one per lane
	sum     []float32
	have    []int
}

// cursor walks the rows of one table in one lane, in ascending key order.
type cursor struct {
	buffer   []wire.RowSection // all of them
	sections []wire.RowSection // what is left, the current one first
	at       int               // in the current section
}

func (c *cursor) done() bool { return len(c.sections) == 0 }

func (c *cursor) key() shard.Key { return c.sections[0].Keys[c.at] }

func (c *cursor) grad() []float32 {
	s := &c.sections[0]
	return s.Grads[c.at*s.Width : (c.at+1)*s.Width]
}

func (c *cursor) next() {
	if c.at++; c.at == len(c.sections[0].Keys) {
		c.sections, c.at = c.sections[1:], 0
	}
}

// step applies the complete open step and makes it the current version.
func (m *model) step() {
	step := m.version + 1
	img := m.nextImage()
	for i := range m.tables {
		m.stepTable(i, step, img)
	}
	m.stepDense(step, img)
	m.version = step
}

// stepTable merges the lanes of one table: keys ascending, the gradients of a
// key summed in lane order, one update of each row. img may be nil.
func (m *model) stepTable(ti int, step uint64, img *image) {
	t := m.tables[ti]
	rows := m.startCursors(t.id)
	if img != nil {
		img.tables[ti].reserve(rows, t.width)
	}
	sum := m.merge.sum[:t.width]
	cursors := m.merge.cursors
	for {
		var least shard.Key
		found := false
		for i := range cursors {
			if c := &cursors[i]; !c.done() {
				if k := c.key(); !found || k < least {
					least, found = k, true
				}
			}
		}
		if !found {
			return
		}
		first := true
		for i := range cursors {
			c := &cursors[i]
			if c.done() || c.key() != least {
				continue
			}
			if first {
				copy(sum, c.grad())
				first = false
			} else {
				kernel.Add(sum, c.grad())
			}
			c.next()
		}
		var before []float32
		if img != nil {
			before = img.tables[ti].add(least, t.width)
		}
		t.table.UpdateKeeping(before, least, sum, step)
	}
}

// startCursors sets the cursors to the start of a table and returns a bound of
// the rows that follow.
func (m *model) startCursors(id uint16) (rows int) {
	for i := range m.pending.lanes {
		c := &m.merge.cursors[i]
		c.buffer = c.buffer[:0]
		for _, ch := range m.pending.lanes[i].chunks {
			for _, s := range ch.push.Rows {
				if s.Table == id {
					c.buffer = append(c.buffer, s)
					rows += len(s.Keys)
				}
			}
		}
		c.sections, c.at = c.buffer, 0
	}
	return rows
}

// stepDense sums the lanes of the dense tensors in lane order and updates
// each tensor once. A lane without samples carries no tensor; when no lane
// carries any, none is updated. img may be nil.
func (m *model) stepDense(step uint64, img *image) {
	first := true
	for i := range m.pending.lanes {
		carried := false
		for _, ch := range m.pending.lanes[i].chunks {
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
	if first {
		return
	}
	for i, d := range m.dense {
		if img != nil {
			img.dense[i] = append(img.dense[i][:0], d.weights()...)
		}
		d.update(step)
	}
}
