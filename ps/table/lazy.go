package table

import (
	"math"

	"github.com/fathom-train/fathom/compute/optim"
	"github.com/fathom-train/fathom/shard"
)

// A lazy table is one whose optimizer updates every row at every step
// (optim.Config.EveryRow), with a gradient of zero where the step does not reach
// it. Doing so at once would cost every step the whole table. Instead a row keeps
// the last step it has seen, in its last float, and is led through the steps it
// missed when it is updated, or in a copy when it is read: one update with a zero
// gradient for each. So its bits are those of updating it every time. A row that
// is absent has missed all steps.

// Factor is what the learning rates are multiplied with from a step on.
type Factor struct {
	From uint64
	Rate float32
}

// Lazy reports whether the table is lazy.
func (t *Table) Lazy() bool { return t.lazy }

// RowBefore returns the floats that UpdateRows writes for a row before its
// update: its weights, or all of the row of a lazy table.
func (t *Table) RowBefore() int {
	if t.lazy {
		return t.rowFloats
	}
	return t.width
}

// SetNow tells a lazy table the step applied last and the factors of all steps so
// far, ascending. The slice must not change.
func (t *Table) SetNow(step uint64, factors []Factor) { t.now, t.factors = step, factors }

func (t *Table) factor(step uint64) float32 {
	for i := len(t.factors) - 1; i >= 0; i-- {
		if f := t.factors[i]; f.From <= step {
			return f.Rate
		}
	}
	return 1
}

// lead takes a row through the steps it has missed up to step.
func (t *Table) lead(row []float32, step uint64) {
	last := &row[t.rowFloats-1]
	for at := uint64(math.Float32bits(*last)) + 1; at <= step; at++ {
		s := optim.Step{T: at, Rate: t.factor(at), Count: 1}
		for i := range t.columns {
			c := &t.columns[i]
			c.optimizer.Update(row[c.weights:c.weights+c.width], row[c.slots:c.slots+c.slotsWidth], t.zeros[:c.width], s)
		}
	}
	if uint64(math.Float32bits(*last)) < step {
		*last = math.Float32frombits(uint32(step))
	}
}

// GatherAt is Gather of the weights as they are at a step that no row has gone
// past, but for those that the caller knows otherwise. Only a lazy table has
// other ones than Gather's.
func (t *Table) GatherAt(dst []float32, keys []shard.Key, step uint64) {
	if !t.lazy {
		t.Gather(dst, keys)
		return
	}
	row := make([]float32, t.rowFloats)
	for i, k := range keys {
		if own, ok := t.Row(k); ok {
			copy(row, own)
		} else if t.schema.Closed {
			clear(dst[i*t.width : (i+1)*t.width])
			continue
		} else {
			t.fresh(row, k)
		}
		t.WeightsAt(dst[i*t.width:(i+1)*t.width], row, step)
	}
}

// fresh makes the row of a key that has none.
func (t *Table) fresh(row []float32, k shard.Key) {
	t.Init(row, k)
	clear(row[t.width:])
}

// WeightsAt writes the weights at a step of a lazy table's row, which it changes.
func (t *Table) WeightsAt(dst, row []float32, step uint64) {
	t.lead(row, step)
	copy(dst, row)
}

// sweepEvery is in how many steps every row is led on once, so that reading one
// never takes more than about so many updates.
const sweepEvery = 256

// Sweep leads the rows whose turn it is at a step of a lazy table on to another
// one, which must be so old that nobody reads at an older. Whose turn it is
// depends on the key alone, so that the cut into shards does not show.
func (t *Table) Sweep(step, to uint64) {
	for n := range t.rows {
		page := n >> t.rowBits
		k := t.keysOf(t.base[page])[n&(1<<t.rowBits-1)]
		if (spread(k)^step)%sweepEvery != 0 {
			continue
		}
		if last := t.floats(t.at(uint32(n)))[t.rowFloats-1]; uint64(math.Float32bits(last)) >= to {
			continue
		}
		mem := t.writable(uint32(n))
		t.hash = subHash(t.hash, t.term(k, mem))
		t.lead(t.floats(mem), to)
		t.hash = AddHash(t.hash, t.term(k, mem))
	}
}
