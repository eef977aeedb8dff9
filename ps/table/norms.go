package table

import (
	"github.com/fathom-train/fathom/compute/optim"
	"github.com/fathom-train/fathom/shard"
)

// SetTrust sets the trust ratio of all updates of a column to come; 0 lets every
// row have its own.
func (t *Table) SetTrust(column int, ratio float32) { t.columns[column].trust = ratio }

// SetFactor sets a factor of the learning rate of all updates of a column to
// come.
func (t *Table) SetFactor(column int, factor float32) { t.columns[column].factor = factor }

// Ratio returns the trust ratio of a column of all rows, from the squares of the
// norms of weights and directions. Its optimizer must be layer-wise.
func (t *Table) Ratio(column int, weight2, direction2 float64) float32 {
	return t.columns[column].optimizer.(optim.Layerwise).Ratio(weight2, direction2)
}

// Norms calls add with the squares of the norms that an update by UpdateRows
// would meet in a column: of every row's weights and direction. Nothing is
// changed. The column's optimizer must be layer-wise.
func (t *Table) Norms(keys []shard.Key, g []float32, step optim.Step, column int, add func(weight2, direction2 float32)) {
	c := &t.columns[column]
	o := c.optimizer.(optim.Layerwise)
	absent := make([]float32, t.rowFloats) // slots of zero
	for i, k := range keys {
		f, ok := t.Row(k)
		if !ok {
			if t.schema.Closed {
				continue
			}
			f = absent
			t.Init(f, k)
		}
		part := g[i*t.width+c.weights : i*t.width+c.weights+c.width]
		add(o.Norms(f[c.weights:c.weights+c.width], f[c.slots:c.slots+c.slotsWidth], part, step))
	}
}

// Drops reports whether an update of a row would be dropped.
func (t *Table) Drops(k shard.Key) bool {
	if !t.schema.Closed {
		return false
	}
	return t.index.find(k, spread(k)) == none
}
