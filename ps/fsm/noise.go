package fsm

import (
	"errors"
	"fmt"
	"math"

	"github.com/fathom-train/fathom/compute/exact"
	"github.com/fathom-train/fathom/ps/wire"
	"github.com/fathom-train/fathom/shard"
)

// Noise-adaptive rates, after LANTON: the lanes of a step are independent
// estimates of its gradient, so their spread tells how noisy the gradient of a
// layer is, and noisy layers learn more slowly. A layer is a dense tensor or one
// column of a table. With n weights that the step reaches, lane gradients g_l
// and their sum G, the variance of one weight's gradient is about
//
//	V = L/(L-1) * (sum |g_l|^2 - |G|^2/L) / n
//	H = 0.99*H + 0.01*V;  a = scale / sqrt(scale^2 + H);  rate *= sqrt(a / max a)
//
// where the largest a is that of all tensors, or of the columns of one name.

// noiseDecay is the share of a step's variance in the mean.
const noiseDecay = 0.01

// noiseTotals is how many totals a layer has: sum of the lanes' squares, square
// of the sum, and the number of weights.
const noiseTotals = 3

// checkNoise reports the faults of the settings of noise.
func (s Schema) checkNoise() (faults []error) {
	if !(s.NoiseScale >= 0 && s.NoiseScale <= math.MaxFloat32) {
		faults = append(faults, fmt.Errorf("noise scale %v, want a finite number from 0 on", s.NoiseScale))
	}
	if s.NoiseScale > 0 && s.Lanes < 2 {
		faults = append(faults, errors.New("the noise of gradients shows between lanes: at least 2 are needed"))
	}
	for i, id := range s.NoiseDense {
		if i > 0 && s.NoiseDense[i-1] >= id {
			faults = append(faults, fmt.Errorf("noise of tensor %d behind that of tensor %d", id, s.NoiseDense[i-1]))
		}
	}
	if n := noiseTotals * s.noiseLayers(); n > wire.MaxTotals-1 {
		faults = append(faults, fmt.Errorf("%d layers are too many for rates by noise", s.noiseLayers()))
	}
	return faults
}

// noiseLayers returns the number of layers: all columns of all tables, then the
// tensors.
func (s Schema) noiseLayers() int {
	if s.NoiseScale == 0 {
		return 0
	}
	n := len(s.NoiseDense)
	for _, t := range s.Tables {
		n += len(t.Columns)
	}
	return n
}

// noise returns this shard's sums of the open step for every layer.
func (m *model) noise() []exact.Sum {
	sums := make([]exact.Sum, noiseTotals*m.schema.noiseLayers())
	rest := sums
	for i, t := range m.tables {
		widths := make([]int, len(m.schema.Tables[i].Columns))
		for j, c := range m.schema.Tables[i].Columns {
			widths[j] = c.Width
		}
		of := rest[:noiseTotals*len(widths)]
		rest = rest[len(of):]
		m.tableNoise(i, t, widths, of)
	}
	m.denseNoise(rest)
	return sums
}

// tableNoise adds the sums of the columns of a table.
func (m *model) tableNoise(ti int, t *tableState, widths []int, sums []exact.Sum) {
	add := func(row []float32, which int) {
		for j, w := range widths {
			sums[noiseTotals*j+which].Add(squares(row[:w]))
			row = row[w:]
		}
	}
	for i := range m.pending[0].lanes {
		for _, ch := range m.pending[0].lanes[i].chunks {
			for _, s := range ch.push.Rows {
				if s.Table != t.id {
					continue
				}
				for j, k := range s.Keys {
					if !t.table.Drops(k) {
						add(s.Grads[j*t.width:(j+1)*t.width], 0)
					}
				}
			}
		}
	}
	rows := 0
	m.merged(ti, func(int) {}, func(keys []shard.Key, _ []uint32, g []float32) {
		for j, k := range keys {
			if !t.table.Drops(k) {
				add(g[j*t.width:(j+1)*t.width], 1)
				rows++
			}
		}
	})
	for j, w := range widths {
		sums[noiseTotals*j+2].Add(float64(rows * w))
	}
}

// denseNoise adds the sums of the tensors that this shard holds. A lane's tensor
// is put together first: how it is cut into chunks depends on the shard.
func (m *model) denseNoise(sums []exact.Sum) {
	for i, id := range m.schema.NoiseDense {
		at := m.tensorIndex(id)
		if at < 0 {
			continue
		}
		d, of := m.dense[at], sums[noiseTotals*i:]
		carried := false
		for l := range m.pending[0].lanes {
			whole := 0
			for _, ch := range m.pending[0].lanes[l].chunks {
				for _, s := range ch.push.Dense {
					if s.ID == id {
						whole += copy(d.grad[s.Offset:], s.Values)
					}
				}
			}
			if whole > 0 {
				of[0].Add(squares(d.grad))
				carried = true
			}
		}
		if carried {
			of[2].Add(float64(d.schema.Size))
		}
	}
	if m.sumDense() {
		for i, id := range m.schema.NoiseDense {
			if at := m.tensorIndex(id); at >= 0 {
				sums[noiseTotals*i+1].Add(squares(m.dense[at].grad))
			}
		}
	}
}

// adapt takes the totals of a step into the means and sets the factors of the
// rates of all layers.
func (m *model) adapt(totals []float64) {
	lanes := float64(m.schema.Lanes)
	for i := range m.variance {
		of := totals[noiseTotals*i:]
		if of[2] == 0 {
			continue // the step did not reach the layer
		}
		v := max(0, of[0]-of[1]/lanes) * (lanes / (lanes - 1)) / of[2]
		if m.variance[i] == 0 {
			m.variance[i] = v
		} else {
			m.variance[i] = float64((1-noiseDecay)*m.variance[i]) + float64(noiseDecay*v)
		}
	}
	scale := float64(m.schema.NoiseScale)
	calm := func(i int) float64 { return scale / math.Sqrt(float64(scale*scale)+m.variance[i]) }
	most := map[string]float64{}
	m.eachNoiseLayer(func(i int, group string, _, _, _ int) { most[group] = max(most[group], calm(i)) })
	m.eachNoiseLayer(func(i int, group string, table, column, dense int) {
		factor := float32(math.Sqrt(calm(i) / most[group]))
		if dense >= 0 {
			m.dense[dense].factor = factor
		} else if table >= 0 {
			m.tables[table].table.SetFactor(column, factor)
		}
	})
}

// eachNoiseLayer calls f for every layer with its group and where it is: a table
// and column, a dense tensor, or neither when another shard holds it.
func (m *model) eachNoiseLayer(f func(i int, group string, table, column, dense int)) {
	i := 0
	for t, s := range m.schema.Tables {
		for c, column := range s.Columns {
			f(i, "column "+column.Name, t, c, -1)
			i++
		}
	}
	for _, id := range m.schema.NoiseDense {
		f(i, "tensor", -1, -1, m.tensorIndex(id))
		i++
	}
}
