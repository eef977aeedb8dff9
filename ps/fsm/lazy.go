package fsm

import (
	"encoding/binary"
	"math"
	"slices"

	"github.com/fathom-train/fathom/compute/optim"
	"github.com/fathom-train/fathom/ps/table"
	"github.com/fathom-train/fathom/shard"
)

// lazy reports whether any table is: only then the factors are kept.
func (m *model) lazy() bool {
	return slices.ContainsFunc(m.tables, func(t *tableState) bool { return t.table.Lazy() })
}

// keepFactor notes the factor of the step that is applied: rows that miss it need
// it later.
func (m *model) keepFactor(step optim.Step) {
	if n := len(m.factors); m.lazy() && (n == 0 || m.factors[n-1].Rate != step.Rate) {
		m.factors = append(m.factors, table.Factor{From: step.T, Rate: step.Rate})
	}
}

// sweep leads some rows of a lazy table on, not further than the oldest version
// that can be read behind the step.
func (m *model) sweep(ti int, step uint64) {
	t := m.tables[ti].table
	if !t.Lazy() {
		return
	}
	t.SetNow(step, m.factors)
	if old := uint64(m.schema.PreImages); step > old {
		t.Sweep(step, step-old)
	}
}

// overlayLazy replaces the weights of the keys that the image holds by those its
// rows have at a step.
func (t *imageTable) overlayLazy(dst []float32, keys []shard.Key, s *tableState, step uint64) {
	row := make([]float32, s.before)
	at, ok := 0, false
	for i, k := range keys {
		if at, ok = t.seek(at, k); ok {
			copy(row, t.weights[at*s.before:])
			s.table.WeightsAt(dst[i*s.width:(i+1)*s.width], row, step)
		}
	}
}

// appendFactors writes the factors for a snapshot, loadFactors reads them.
func (m *model) appendFactors(b []byte) []byte {
	for _, f := range m.factors {
		b = binary.LittleEndian.AppendUint64(b, f.From)
		b = binary.LittleEndian.AppendUint64(b, uint64(math.Float32bits(f.Rate)))
	}
	return b
}

func (m *model) loadFactors(b []byte) error {
	if len(m.factors) > 0 || !m.lazy() {
		return damaged("factors of %d bytes", len(b))
	}
	factors, err := ParseFactors(b)
	m.factors = factors
	return err
}

// ParseFactors reads the factors of the learning rates as Describe and
// checkpoints give them.
func ParseFactors(b []byte) ([]table.Factor, error) {
	if len(b)%16 != 0 {
		return nil, damaged("factors of %d bytes", len(b))
	}
	var all []table.Factor
	last := uint64(0)
	for ; len(b) > 0; b = b[16:] {
		f := table.Factor{From: binary.LittleEndian.Uint64(b), Rate: math.Float32frombits(uint32(binary.LittleEndian.Uint64(b[8:])))}
		if f.From <= last || !(f.Rate >= 0) {
			return nil, damaged("factor %v from step %d, behind step %d", f.Rate, f.From, last)
		}
		last = f.From
		all = append(all, f)
	}
	return all, nil
}

// wake tells the lazy tables of a restored model where they are.
func (m *model) wake() {
	for _, t := range m.tables {
		t.table.SetNow(m.version-m.schema.Base, m.factors)
	}
}
