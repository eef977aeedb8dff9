package fsm

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/fathom-train/fathom/compute/kernel"
	"github.com/fathom-train/fathom/compute/optim"
	"github.com/fathom-train/fathom/compute/random"
	"github.com/fathom-train/fathom/ps/table"
)

// tableState is a table with what applying a step to it needs.
type tableState struct {
	table *table.Table
	id    uint16
	width int
	// before is what an image holds of a row: its weights, or all of a lazy one.
	before int
}

// tensor is a dense tensor: its values followed by its slots.
type tensor struct {
	schema    DenseTensor
	optimizer optim.Optimizer
	data      []float32
	// shared says that a view reads data, which must then not change.
	shared bool
	term   [2]uint64 // of the state hash
	factor float32   // of the learning rate, by noise; 0: none
	grad   []float32 // sum of the lanes of the step being applied
}

// newModel returns version 0 of a model.
func newModel(schema Schema, schemaBytes []byte) (*model, error) {
	m := &model{schema: schema, schemaBytes: schemaBytes}
	for _, ts := range schema.Tables {
		t, err := table.New(ts, schema.Seed)
		if err != nil {
			m.close()
			return nil, err
		}
		m.tables = append(m.tables, &tableState{table: t, id: ts.ID, width: t.Width(), before: t.RowBefore()})
	}
	for _, ds := range schema.Dense {
		d, err := newTensor(ds, schema.Seed)
		if err != nil {
			m.close()
			return nil, err
		}
		m.dense = append(m.dense, d)
	}
	m.pending = newPending(1+schema.PipelineDepth, schema.Lanes)
	m.rounds, m.variance = schema.rounds(), make([]float64, schema.noiseLayers())
	m.merge.cursors = make([]cursor, schema.Lanes)
	return m, nil
}

func newTensor(s DenseTensor, seed uint64) (*tensor, error) {
	o, err := optim.New(s.Optimizer.WithDefaults())
	if err != nil {
		return nil, fmt.Errorf("dense tensor %d %q: %w", s.ID, s.Name, err)
	}
	d := &tensor{
		schema: s, optimizer: o,
		data: make([]float32, s.Size+o.Slots(s.Size)),
		grad: make([]float32, s.Size),
	}
	s.Init.Fill(d.weights(), random.Stream(seed, random.InitDense, uint64(s.ID), 0, 0))
	copy(d.weights(), s.Values)
	d.rehash()
	return d, nil
}

func (d *tensor) weights() []float32 { return d.data[:d.schema.Size] }

// running reports whether the tensor is statistics, not weights.
func (d *tensor) running() bool { return d.schema.Optimizer.Name == optim.EMA }

// rehash computes the tensor's part of the state hash from its data.
func (d *tensor) rehash() {
	d.term = tensorTerm(d.schema.ID, d.data)
}

// tensorTerm is a tensor's part of the state hash. Tables are seeded by small
// multiples of a constant plus a key; this constant keeps tensors apart from
// each other and, but for chance, from rows.
func tensorTerm(id uint16, data []float32) [2]uint64 {
	return table.HashFloats(data, 0xd6e8feb86659fd93*(uint64(id)+1))
}

// update applies the summed gradient.
func (d *tensor) update(step optim.Step) {
	if d.shared {
		d.data, d.shared = slices.Clone(d.data), false
	}
	if d.factor != 0 {
		step.Rate *= d.factor
	}
	d.optimizer.Update(d.weights(), d.data[d.schema.Size:], d.grad, step)
	d.rehash()
}

// tableIndex and tensorIndex find an id, -1 when the schema lacks it.
func (m *model) tableIndex(id uint16) int {
	i, ok := slices.BinarySearchFunc(m.tables, id, func(t *tableState, id uint16) int { return cmp.Compare(t.id, id) })
	if !ok {
		return -1
	}
	return i
}

func (m *model) tensorIndex(id uint16) int {
	i, ok := slices.BinarySearchFunc(m.dense, id, func(d *tensor, id uint16) int { return cmp.Compare(d.schema.ID, id) })
	if !ok {
		return -1
	}
	return i
}

func (m *model) stats() Stats {
	st := Stats{Configured: true, Version: m.version}
	for i, t := range m.tables {
		rows := uint64(t.table.Rows())
		ts := TableStats{ID: t.id, Name: m.schema.Tables[i].Name, Rows: rows, MemoryBytes: uint64(t.table.Bytes())}
		for j, c := range m.schema.Tables[i].Columns {
			n := rows * uint64(c.Width)
			ts.Columns = append(ts.Columns, ColumnStats{
				Name: c.Name, Parameters: n, Bytes: 4 * n, StateBytes: 4 * rows * uint64(c.Width+t.table.Slots(j)),
			})
		}
		st.Tables = append(st.Tables, ts)
	}
	st.Dense.Tensors = len(m.dense)
	for _, d := range m.dense {
		n := uint64(d.schema.Size)
		if d.running() {
			st.Dense.Running += n
		} else {
			st.Dense.Parameters += n
		}
		st.Dense.Bytes += 4 * n
		st.Dense.StateBytes += 4 * uint64(len(d.data))
	}
	st.PendingChunks, st.PendingBytes = m.pending.size()
	for _, img := range m.images {
		st.ImageBytes += img.size()
	}
	return st
}

// gradientBits are the bits of 2^51. Finite is not enough: the square of a
// large finite gradient overflows inside an optimizer. Below this bound the
// sum over MaxLanes lanes stays below 2^63 and its square below 2^126.
var gradientBits = math.Float32bits(1 << 51)

// usable reports the first gradient that is NaN, infinite or 2^51 or more; -1
// when there is none.
func usable(g []float32) int {
	// A sum of squares is no less than any of them, and NaN is not less than a bound.
	if kernel.SumSquares(g) < 1<<102 {
		return -1
	}
	return slices.IndexFunc(g, func(x float32) bool { return math.Float32bits(x)&0x7fffffff >= gradientBits })
}
