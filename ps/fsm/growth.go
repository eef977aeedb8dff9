package fsm

import "github.com/fathom-train/fathom/ps/wire"

// indexBytes is what a row takes in the index and beside its floats, from above.
const indexBytes = 32

// StateBytes returns what rows and dense tensors need, without spare room and
// without the copies that a snapshot makes for a while.
func (s *State) StateBytes() (n uint64) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.model == nil {
		return 0
	}
	for _, t := range s.model.tables {
		n += uint64(t.table.Rows()) * uint64(t.table.RowBytes()+indexBytes)
	}
	for _, d := range s.model.dense {
		n += 4 * uint64(len(d.data)+len(d.grad))
	}
	return n
}

// Growth returns by how much StateBytes grows when the push is applied: what
// its rows need that are not there yet.
func (s *State) Growth(p *wire.Push) (n uint64) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.model == nil {
		return 0
	}
	for _, rows := range p.Rows {
		i := s.model.tableIndex(rows.Table)
		if i < 0 {
			continue // the push will be refused
		}
		t := s.model.tables[i].table
		for _, k := range rows.Keys {
			if _, ok := t.Row(k); !ok {
				n += uint64(t.RowBytes() + indexBytes)
			}
		}
	}
	return n
}
