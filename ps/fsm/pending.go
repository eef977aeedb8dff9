package fsm

import (
	"bytes"
	"fmt"

	"github.com/fathom-train/fathom/ps/wire"
)

// chunk is one accepted command of an open step; push refers to it.
type chunk struct {
	cmd  []byte // never changed
	push wire.Push
}

// lane holds the chunks of one lane of an open step.
type lane struct {
	chunks []*chunk // by number; nil where one is missing; empty before the first
	have   int
	top    int // highest number there is
	// done says that the lane was applied, before its step was complete: async only.
	done bool
}

func (l *lane) complete() bool { return l.have > 0 && l.have == len(l.chunks) }

// openStep holds the chunks of a step that is not applied yet.
type openStep struct {
	phase    uint32  // of all chunks; set by the first
	factor   float32 // of the learning rates; likewise
	lanes    []lane
	complete int // lanes
	chunks   int
}

func (o *openStep) full() bool { return o.complete == len(o.lanes) }

// pending holds the open steps in order, the first of which is version+1.
// Their number is fixed: with a pipeline of depth k a step may be computed, and
// pushed, before the k steps in front of it are applied.
type pending []*openStep

func newPending(steps, lanes int) pending {
	p := make(pending, steps)
	for i := range p {
		p[i] = &openStep{lanes: make([]lane, lanes)}
	}
	return p
}

// eachChunk calls f for every chunk: by step, lane and number.
func (p pending) eachChunk(f func(*chunk)) {
	for _, o := range p {
		for i := range o.lanes {
			for _, c := range o.lanes[i].chunks {
				if c != nil {
					f(c)
				}
			}
		}
	}
}

// size returns number and bytes of the chunks.
func (p pending) size() (chunks, size int) {
	p.eachChunk(func(c *chunk) { chunks, size = chunks+1, size+len(c.cmd) })
	return chunks, size
}

// openStep returns the open step of a push that check accepted.
func (m *model) openStep(step uint64) *openStep { return m.pending[step-m.version-1] }

// check decides about a parsed push without changing anything. Accepted means
// that put may follow.
func (m *model) check(c *chunk) (status Status, complete bool, err error) {
	id := c.push.ID
	switch {
	case id.Run != m.schema.Run:
		return Mismatch, false, fmt.Errorf("%w: push of run %#x, the shard is of run %#x", ErrMismatch, id.Run, m.schema.Run)
	case id.Step <= m.version:
		return Duplicate, true, nil
	case id.Step-m.version > uint64(len(m.pending)):
		return Ahead, false, fmt.Errorf("%w: push for step %d, the shard is at version %d with %d open steps", ErrAhead, id.Step, m.version, len(m.pending))
	case int(id.Lane) >= m.schema.Lanes:
		return Invalid, false, fmt.Errorf("%w: lane %d of %d", ErrInvalid, id.Lane, m.schema.Lanes)
	}
	o := m.openStep(id.Step)
	switch {
	case o.chunks > 0 && id.Phase != o.phase:
		return Mismatch, false, fmt.Errorf("%w: push of phase %d, step %d is of phase %d", ErrMismatch, id.Phase, id.Step, o.phase)
	case o.chunks > 0 && id.Factor != o.factor:
		return Mismatch, false, fmt.Errorf("%w: lane %d of step %d has learning-rate factor %v, others have %v", ErrMismatch, id.Lane, id.Step, id.Factor, o.factor)
	}
	l := &o.lanes[id.Lane]
	switch {
	case l.done:
		return Duplicate, true, nil
	case (id.Attempt != 0) != m.schema.Async:
		return Invalid, false, fmt.Errorf("%w: push of attempt %d, async is %v", ErrInvalid, id.Attempt, m.schema.Async)
	case l.replacedBy(c):
		l = &lane{}
	}
	n := int(c.push.Chunks)
	if most := MaxPendingChunks / (m.schema.Lanes * len(m.pending)); n > most {
		return Invalid, false, fmt.Errorf("%w: push of %d chunks, at most %d for each of %d lanes", ErrInvalid, n, most, m.schema.Lanes)
	}
	if l.have > 0 {
		if n != len(l.chunks) {
			return Mismatch, false, fmt.Errorf("%w: step %d lane %d has %d chunks, was sent with %d before",
				ErrMismatch, id.Step, id.Lane, n, len(l.chunks))
		}
		if old := l.chunks[c.push.Chunk]; old != nil {
			// Two workers computing the same task must produce the same bytes.
			if !bytes.Equal(old.cmd, c.cmd) {
				return Mismatch, false, fmt.Errorf("%w: chunk %d of step %d lane %d came twice with different content",
					ErrMismatch, c.push.Chunk, id.Step, id.Lane)
			}
			return Duplicate, l.complete(), nil
		}
	}
	if err := m.checkContent(l, &c.push); err != nil {
		return Invalid, false, fmt.Errorf("%w: step %d lane %d chunk %d: %w", ErrInvalid, id.Step, id.Lane, c.push.Chunk, err)
	}
	return Accepted, l.have+1 == n, nil
}

// checkContent checks the sections of a chunk against the schema, the bounds
// of numbers, and the chunks of the lane that are there already.
func (m *model) checkContent(l *lane, p *wire.Push) error {
	for _, r := range p.Rows {
		i := m.tableIndex(r.Table)
		if i < 0 {
			return fmt.Errorf("%w %d", ErrUnknownTable, r.Table)
		}
		if r.Width != m.tables[i].width {
			return fmt.Errorf("table %d: gradients of width %d, want %d", r.Table, r.Width, m.tables[i].width)
		}
		if at := usable(r.Grads); at >= 0 {
			return fmt.Errorf("%w: table %d %q key %#x element %d is %g", ErrNotFinite, r.Table, m.schema.Tables[i].Name, uint64(r.Keys[at/r.Width]), at%r.Width, r.Grads[at])
		}
	}
	for _, d := range p.Dense {
		i := m.tensorIndex(d.ID)
		if i < 0 {
			return fmt.Errorf("%w %d", ErrUnknownTensor, d.ID)
		}
		if size := m.dense[i].schema.Size; d.Offset > size-len(d.Values) {
			return fmt.Errorf("dense tensor %d: elements %d to %d of %d", d.ID, d.Offset, d.Offset+len(d.Values), size)
		}
		if at := usable(d.Values); at >= 0 {
			return fmt.Errorf("%w: dense tensor %d %q element %d is %g", ErrNotFinite, d.ID, m.dense[i].schema.Name, d.Offset+at, d.Values[at])
		}
	}
	if err := l.checkOrder(p); err != nil {
		return err
	}
	if l.have+1 == int(p.Chunks) {
		return m.checkDenseWhole(l, p)
	}
	return nil
}

// position orders the content of a push: rows by table and key, then dense
// tensors by id and offset.
type position struct{ section, at uint64 }

const densePosition = 1 << 16

func (a position) before(b position) bool {
	return a.section < b.section || a.section == b.section && a.at < b.at
}

// span returns the first and the last position of a chunk.
func span(p *wire.Push) (first, last position, ok bool) {
	if n := len(p.Rows); n > 0 {
		f, l := p.Rows[0], p.Rows[n-1]
		first = position{uint64(f.Table), uint64(f.Keys[0])}
		last = position{uint64(l.Table), uint64(l.Keys[len(l.Keys)-1])}
		ok = true
	}
	if n := len(p.Dense); n > 0 {
		f, l := p.Dense[0], p.Dense[n-1]
		if !ok {
			first = position{densePosition + uint64(f.ID), uint64(f.Offset)}
		}
		last = position{densePosition + uint64(l.ID), uint64(l.Offset + len(l.Values) - 1)}
		ok = true
	}
	return first, last, ok
}

// checkOrder refuses a chunk that overlaps a neighbour: over its chunks the
// content of a push is ascending, so a key or element cannot come twice.
func (l *lane) checkOrder(p *wire.Push) error {
	first, last, ok := span(p)
	if !ok || l.have == 0 {
		return nil
	}
	at := int(p.Chunk)
	for i := at - 1; i >= 0; i-- {
		if c := l.chunks[i]; c != nil {
			if _, end, ok := span(&c.push); ok {
				if !end.before(first) {
					return fmt.Errorf("does not begin behind the end of chunk %d", i)
				}
				break
			}
		}
	}
	for i := at + 1; i <= l.top; i++ {
		if c := l.chunks[i]; c != nil {
			if start, _, ok := span(&c.push); ok {
				if !last.before(start) {
					return fmt.Errorf("does not end before the start of chunk %d", i)
				}
				break
			}
		}
	}
	return nil
}

// checkDenseWhole is called for the chunk that completes a lane: the lane must
// carry every dense tensor whole, or none when it has no samples.
func (m *model) checkDenseWhole(l *lane, p *wire.Push) error {
	have := m.merge.have[:0]
	for range m.dense {
		have = append(have, 0)
	}
	m.merge.have = have
	total := 0
	count := func(p *wire.Push) {
		for _, d := range p.Dense {
			have[m.tensorIndex(d.ID)] += len(d.Values)
			total += len(d.Values)
		}
	}
	count(p)
	for _, c := range l.chunks {
		if c != nil {
			count(&c.push)
		}
	}
	if total == 0 {
		return nil
	}
	// Order was checked, so parts do not overlap and counting is enough.
	for i, d := range m.dense {
		if have[i] != d.schema.Size {
			return fmt.Errorf("lane ends with %d of %d elements of dense tensor %d", have[i], d.schema.Size, d.schema.ID)
		}
	}
	return nil
}

// replacedBy tells whether a chunk is of another attempt at the lane than those
// there are. Attempts differ in content, as they read different states, so the
// parts of two must not be mixed: the one that began last is kept.
func (l *lane) replacedBy(c *chunk) bool {
	for _, old := range l.chunks {
		if old != nil {
			return old.push.ID.Attempt != c.push.ID.Attempt
		}
	}
	return false
}

// empty makes the lane as it was before the first chunk and gives each chunk to f.
func (l *lane) empty(f func(*chunk)) {
	for i, c := range l.chunks {
		if c != nil {
			f(c)
		}
		l.chunks[i] = nil
	}
	l.chunks, l.have, l.top = l.chunks[:0], 0, 0
}

// put adds a chunk that check accepted.
func (m *model) put(c *chunk) {
	o := m.openStep(c.push.ID.Step)
	l := &o.lanes[c.push.ID.Lane]
	if l.replacedBy(c) {
		l.empty(func(*chunk) {})
	}
	if l.have == 0 {
		n := int(c.push.Chunks)
		if cap(l.chunks) < n {
			l.chunks = make([]*chunk, n)
		}
		l.chunks, l.top = l.chunks[:n], 0
	}
	o.phase, o.factor = c.push.ID.Phase, c.push.ID.Factor
	l.chunks[c.push.Chunk] = c
	l.have++
	l.top = max(l.top, int(c.push.Chunk))
	o.chunks++
	if l.complete() {
		o.complete++
	}
}

// advance empties the first step, which was applied, and opens another behind
// the last one. It gives each chunk to f.
func (p pending) advance(f func(*chunk)) {
	o := p[0]
	for i := range o.lanes {
		o.lanes[i].empty(f)
		o.lanes[i].done = false
	}
	o.complete, o.chunks, o.phase, o.factor = 0, 0, 0, 0
	p[copy(p, p[1:])] = o
}
