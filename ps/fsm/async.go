package fsm

import (
	"encoding/binary"
	"math"

	"github.com/fathom-train/fathom/compute/optim"
	"github.com/fathom-train/fathom/ps/wire"
)

// In mode async a lane is applied as soon as it is complete. A push is known by
// (step, lane) all the same, so a lane of a step is applied once, whoever sends
// it and how often. Which lanes of the open steps were applied is part of the
// state. The version is still the last step all of whose lanes are there: no
// lane can be further ahead of the slowest than there are open steps.

// applied are the lanes that are applied together: all of a step, or one.
func (m *model) applied() []lane {
	if m.lone != nil {
		return m.lone
	}
	return m.pending[0].lanes
}

// applyLane updates rows and tensors by one complete lane and gives its chunks
// to f. A step moves the parameters about as far as in mode sync, so each of its
// lanes has its share of the learning rate.
func (m *model) applyLane(id wire.PushID, f func(*chunk)) {
	o := m.openStep(id.Step)
	l := &o.lanes[id.Lane]
	m.lone = o.lanes[id.Lane : id.Lane+1]
	step := optim.Step{T: id.Step - m.schema.Base, Rate: o.factor / float32(m.schema.Lanes)}
	for i := range m.tables {
		m.stepTable(i, step, nil)
	}
	m.stepDense(step, nil)
	m.merge.forget()
	m.lone = nil
	l.empty(f)
	l.done = true
}

// appendApplied encodes which lanes of the open steps were applied: for each
// step that has any its number u64, phase u32, factor f32, their count u32 and
// numbers u32.
func (p pending) appendApplied(b []byte, version uint64) []byte {
	for i, o := range p {
		var lanes []byte
		for lane := range o.lanes {
			if o.lanes[lane].done {
				lanes = binary.LittleEndian.AppendUint32(lanes, uint32(lane))
			}
		}
		if len(lanes) == 0 {
			continue
		}
		b = binary.LittleEndian.AppendUint64(b, version+1+uint64(i))
		b = binary.LittleEndian.AppendUint32(b, o.phase)
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(o.factor))
		b = binary.LittleEndian.AppendUint32(b, uint32(len(lanes)/4))
		b = append(b, lanes...)
	}
	return b
}

// loadApplied is the inverse of appendApplied.
func (m *model) loadApplied(b []byte) error {
	last := m.version
	for len(b) > 0 {
		if len(b) < 20 {
			return damaged("%d bytes of applied lanes are left over", len(b))
		}
		step, n := binary.LittleEndian.Uint64(b), int(binary.LittleEndian.Uint32(b[16:]))
		if step <= last || step-m.version > uint64(len(m.pending)) || n > len(b[20:])/4 || !m.schema.Async {
			return damaged("%d applied lanes of step %d at version %d", n, step, m.version)
		}
		last = step
		o := m.openStep(step)
		o.phase, o.factor = binary.LittleEndian.Uint32(b[8:]), math.Float32frombits(binary.LittleEndian.Uint32(b[12:]))
		for i := range n {
			lane := int(binary.LittleEndian.Uint32(b[20+4*i:]))
			if lane >= len(o.lanes) || o.lanes[lane].done || o.lanes[lane].have > 0 {
				return damaged("applied lane %d of step %d, which has %d lanes, or was there already", lane, step, len(o.lanes))
			}
			o.lanes[lane].done = true
			o.complete++
			o.chunks++
		}
		if o.full() && step == m.version+1 {
			return damaged("step %d is complete and not counted", step)
		}
		b = b[20+4*n:]
	}
	return nil
}
