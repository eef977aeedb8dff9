package fsm

import (
	"fmt"
	"slices"

	"github.com/fathom-train/fathom/compute/supernet"
	"github.com/fathom-train/fathom/ps/table"
	"github.com/fathom-train/fathom/shard"
)

// Carry says which rows a table takes over from a table of the phase before, and
// with what weights.
type Carry struct {
	Table uint16 `json:"table"`
	// From is the id of the table of the phase before.
	From uint16 `json:"from"`
	// Column is the one whose norm decides; a row is taken over when it is above
	// Above. Without a column all rows are.
	Column string        `json:"column,omitempty"`
	Norm   supernet.Norm `json:"norm,omitempty"`
	Above  float32       `json:"above,omitempty"`
	// Plus is a column of one weight, which is added to Above. Empty: none is.
	Plus string `json:"plus,omitempty"`
	// Times is a column of supernet.Uses weights: a row's importance, by it, must be above
	// Least as well. Empty: it need not.
	Times string  `json:"times,omitempty"`
	Least float32 `json:"least,omitempty"`
	// Always is the key of a row that is taken over whatever it is; 0: none.
	Always shard.Key `json:"always,omitempty"`
	// Weights keeps the weights, of every column its first ones; else the rows
	// begin with their initial weights. Slots always begin at zero.
	Weights bool `json:"weights,omitempty"`
	// Dims are the weights of Column that are kept, instead of its first ones.
	Dims []uint32 `json:"dims,omitempty"`
}

// checkPhase reports the faults of phase, base and carry.
func (s Schema) checkPhase(tables map[uint16]bool) (faults []error) {
	if (s.Phase == 0) != (s.Base == 0) || s.Phase == 0 && (len(s.Carry) > 0 || s.CarryDense) {
		faults = append(faults, fmt.Errorf("phase %d with base %d and %d carried tables", s.Phase, s.Base, len(s.Carry)))
	}
	seen := map[uint16]bool{}
	for _, c := range s.Carry {
		if !tables[c.Table] || seen[c.Table] {
			faults = append(faults, fmt.Errorf("carry of table %d, which is not in the schema or was carried already", c.Table))
		}
		seen[c.Table] = true
		if c.Column != "" && !c.Norm.Valid() {
			faults = append(faults, fmt.Errorf("carry of table %d: norm %q is neither %s nor %s", c.Table, c.Norm, supernet.L1, supernet.L2))
		}
	}
	return faults
}

// reshape forms the tables and tensors anew by the schema of the next phase, and
// frees those of the phase before. It counts as a version, so that nobody can
// mistake the new tables for the old ones: the version before has no pre-image.
func (s *State) reshape(index uint64, schema Schema, schemaBytes []byte) Result {
	old := s.model
	refuse := func(status Status, format string, a ...any) Result {
		err := ErrMismatch
		if status == Invalid {
			err = ErrInvalid
		}
		return s.answer(index, Result{Status: status, Err: fmt.Errorf("%w: phase %d: %w", err, schema.Phase, fmt.Errorf(format, a...))})
	}
	if open, _ := old.pending.size(); schema.Base != old.version+1 || open > 0 {
		return refuse(Mismatch, "it begins with version %d, the shard is at %d with %d chunks of open steps", schema.Base, old.version, open)
	}
	m, err := newModel(schema, schemaBytes)
	if err != nil {
		return refuse(Invalid, "%w", err)
	}
	for _, c := range schema.Carry {
		from := old.tableIndex(c.From)
		if from < 0 {
			m.close()
			return refuse(Mismatch, "the shard has no table %d to carry rows from", c.From)
		}
		if err := carry(m.tables[m.tableIndex(c.Table)].table, old.tables[from].table, c); err != nil {
			m.close()
			return refuse(Invalid, "table %d: %w", c.Table, err)
		}
	}
	if err := m.carryDense(old); err != nil {
		m.close()
		return refuse(Invalid, "%w", err)
	}
	m.version = schema.Base
	s.mu.Lock()
	s.model, s.applied = m, index
	m.note()
	s.serveCapture()
	s.notify()
	s.mu.Unlock()
	old.close() // lookups held the lock, so none reads the old tables any more
	return Result{Status: Accepted, Version: m.version, Complete: true}
}

// piece is where a column's weights stand in the old and in the new row.
type piece struct{ from, to, width int }

// carry inserts the rows that are taken over, in the order of their creation.
func carry(to, from *table.Table, c Carry) error {
	var pieces []piece
	at, norm, times, plus := 0, piece{width: -1}, piece{width: -1}, piece{width: -1}
	for _, old := range from.Schema().Columns {
		if old.Name == c.Column {
			norm = piece{from: at, width: old.Width}
		}
		if old.Name == c.Times {
			times = piece{from: at, width: old.Width}
		}
		if old.Name == c.Plus {
			plus = piece{from: at, width: old.Width}
		}
		now := 0
		for _, col := range to.Schema().Columns {
			switch {
			case col.Name != old.Name:
			case len(c.Dims) > 0 && col.Name == c.Column:
				if len(c.Dims) != col.Width || int(slices.Max(c.Dims)) >= old.Width {
					return fmt.Errorf("weights %v of %d are kept in a column of %d", c.Dims, old.Width, col.Width)
				}
				for k, d := range c.Dims {
					pieces = append(pieces, piece{at + int(d), now + k, 1})
				}
			default:
				pieces = append(pieces, piece{at, now, min(col.Width, old.Width)})
			}
			now += col.Width
		}
		at += old.Width
	}
	if c.Column != "" && norm.width < 0 {
		return fmt.Errorf("the table of the phase before has no column %q", c.Column)
	}
	if c.Times != "" && (times.width != supernet.Uses || c.Column == "") {
		return fmt.Errorf("the table of the phase before has no column %q of %d weights, or rows are taken over without a norm", c.Times, supernet.Uses)
	}
	if c.Plus != "" && (plus.width != 1 || c.Column == "") {
		return fmt.Errorf("the table of the phase before has no column %q of one weight, or rows are taken over without a norm", c.Plus)
	}
	keeps := func(k shard.Key, w []float32) bool {
		if c.Column == "" || c.Always != 0 && k == c.Always {
			return true
		}
		e, above := w[norm.from:norm.from+norm.width], c.Above
		if c.Plus != "" {
			above += w[plus.from]
		}
		return c.Norm.Keeps(e, above) && (c.Times == "" || c.Norm.Importance(e, w[times.from:times.from+times.width]) > c.Least)
	}
	from.Scan(0, from.Rows(), func(k shard.Key, w []float32) {
		if !keeps(k, w) {
			return
		}
		to.Insert(k, func(dst []float32) {
			for _, p := range pieces {
				if c.Weights {
					copy(dst[p.to:p.to+p.width], w[p.from:])
				}
			}
		})
	})
	return nil
}

// carryDense takes over the weights of the tensors that are carried, and with CarryDense
// of all that are there in both phases and are not given their values.
func (m *model) carryDense(old *model) error {
	for _, d := range m.dense {
		if !d.schema.Carry && (!m.schema.CarryDense || len(d.schema.Values) > 0) {
			continue
		}
		i := slices.IndexFunc(old.dense, func(o *tensor) bool { return o.schema.Name == d.schema.Name })
		if i >= 0 && old.dense[i].schema.Size == d.schema.Size {
			copy(d.weights(), old.dense[i].weights())
			d.rehash()
		} else if d.schema.Carry {
			return fmt.Errorf("the shard has no tensor %q of %d weights to carry over", d.schema.Name, d.schema.Size)
		}
	}
	return nil
}

// Phase returns the phase of the schema; 0 before there is one.
func (s *State) Phase() uint32 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.model == nil {
		return 0
	}
	return s.model.schema.Phase
}

// Width returns the weights of a row of a table, 0 when there is none.
func (s *State) Width(id uint16) int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.model != nil {
		if i := s.model.tableIndex(id); i >= 0 {
			return s.model.tables[i].width
		}
	}
	return 0
}

// Scan copies the keys and weights of at most n rows of a table, from row number
// from on, in the order of their creation; total is the number of all. version
// must be the current one: earlier versions are not kept whole.
func (s *State) Scan(run, version uint64, id uint16, from, n int) (keys []shard.Key, weights []float32, total int, err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	m := s.model
	switch {
	case m == nil:
		return nil, nil, 0, ErrUnconfigured
	case run != m.schema.Run:
		return nil, nil, 0, fmt.Errorf("%w: run %#x, the shard is of run %#x", ErrWrongRun, run, m.schema.Run)
	case version > m.version:
		return nil, nil, 0, fmt.Errorf("%w: version %d, the shard is at %d", ErrNotReached, version, m.version)
	case version < m.version:
		return nil, nil, 0, fmt.Errorf("%w: version %d, the shard is at %d", ErrVersionGone, version, m.version)
	}
	i := m.tableIndex(id)
	if i < 0 {
		return nil, nil, 0, fmt.Errorf("%w %d", ErrUnknownTable, id)
	}
	t := m.tables[i].table
	t.Scan(from, from+n, func(k shard.Key, w []float32) {
		keys = append(keys, k)
		weights = append(weights, w...)
	})
	return keys, weights, t.Rows(), nil
}

// Describe returns what an exported model must know beside the weights: the
// schema, as MarshalSchema wrote it, and the factors that the rows of lazy tables
// were updated with (ParseFactors).
func (s *State) Describe(run uint64) (schema, factors []byte, err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	switch {
	case s.model == nil:
		return nil, nil, ErrUnconfigured
	case run != s.model.schema.Run:
		return nil, nil, fmt.Errorf("%w: run %#x, the shard is of run %#x", ErrWrongRun, run, s.model.schema.Run)
	}
	return s.model.schemaBytes, s.model.appendFactors(nil), nil
}
