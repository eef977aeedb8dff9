package fsm

import (
	"fmt"

	"github.com/fathom-train/fathom/ps/wire"
)

// Floats returns the number of floats Lookup writes for a request.
func (s *State) Floats(req *wire.PullRequest) (int, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.model == nil {
		return 0, ErrUnconfigured
	}
	return s.model.floats(req)
}

func (m *model) floats(req *wire.PullRequest) (int, error) {
	if req.Run != m.schema.Run {
		return 0, fmt.Errorf("%w: run %#x, the shard is of run %#x", ErrWrongRun, req.Run, m.schema.Run)
	}
	n := 0
	for _, t := range req.Tables {
		i := m.tableIndex(t.Table)
		if i < 0 {
			return 0, fmt.Errorf("%w %d", ErrUnknownTable, t.Table)
		}
		if len(t.Keys) > (wire.MaxPullFloats-n)/m.tables[i].width {
			return 0, fmt.Errorf("%w: more than %d floats", ErrTooLarge, wire.MaxPullFloats)
		}
		n += len(t.Keys) * m.tables[i].width
	}
	for _, id := range req.Dense {
		i := m.tensorIndex(id)
		if i < 0 {
			return 0, fmt.Errorf("%w %d", ErrUnknownTensor, id)
		}
		if m.dense[i].schema.Size > wire.MaxPullFloats-n {
			return 0, fmt.Errorf("%w: more than %d floats", ErrTooLarge, wire.MaxPullFloats)
		}
		n += m.dense[i].schema.Size
	}
	return n, nil
}

// Lookup writes the weights a request names, as they are at a version, in the
// order of the request: for each table its keys, then each dense tensor whole.
// dst must have the length Floats returned. It never changes the state: an
// absent row reads as its initial weights. The version of the request itself
// is not looked at.
func (s *State) Lookup(version uint64, req *wire.PullRequest, dst []float32) error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	m := s.model
	if m == nil {
		return ErrUnconfigured
	}
	n, err := m.floats(req)
	if err != nil {
		return err
	}
	if n != len(dst) {
		return fmt.Errorf("read of %d floats into %d", n, len(dst))
	}
	if version > m.version {
		return fmt.Errorf("%w: version %d, the shard is at %d", ErrNotReached, version, m.version)
	}
	behind := m.version - version
	if m.schema.Async {
		// The newest state serves every step that may be open on another shard,
		// which is as far behind as in mode sync.
		if behind > uint64(1+2*m.schema.PipelineDepth) {
			return fmt.Errorf("%w: version %d, the shard is at %d", ErrVersionGone, version, m.version)
		}
		m.lookup(m.version, nil, req, dst)
		return nil
	}
	if behind > uint64(len(m.images)) {
		return fmt.Errorf("%w: version %d, the shard is at %d and keeps %d before it", ErrVersionGone, version, m.version, len(m.images))
	}
	m.lookup(version, m.images[len(m.images)-int(behind):], req, dst)
	return nil
}

// lookup reads the current weights and lays the images over them, newest
// first, so that the one next to the version asked for is on top.
func (m *model) lookup(version uint64, images []*image, req *wire.PullRequest, dst []float32) {
	for _, r := range req.Tables {
		i := m.tableIndex(r.Table)
		t := m.tables[i]
		n := len(r.Keys) * t.width
		step := version - m.schema.Base
		t.table.GatherAt(dst[:n], r.Keys, step)
		for v := len(images) - 1; v >= 0; v-- {
			if img := &images[v].tables[i]; t.table.Lazy() {
				img.overlayLazy(dst[:n], r.Keys, t, step)
			} else {
				img.overlay(dst[:n], r.Keys, t.width)
			}
		}
		dst = dst[n:]
	}
	for _, id := range req.Dense {
		i := m.tensorIndex(id)
		from := m.dense[i].weights()
		for v := len(images) - 1; v >= 0; v-- {
			if old := images[v].dense[i]; len(old) > 0 {
				from = old
			}
		}
		dst = dst[copy(dst, from):]
	}
}
