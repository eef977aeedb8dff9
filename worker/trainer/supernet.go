package trainer

import (
	"context"
	"fmt"
	"iter"
	"math"
	"slices"

	"github.com/fathom-train/fathom/compute/eval"
	"github.com/fathom-train/fathom/compute/kernel"
	"github.com/fathom-train/fathom/compute/model"
	"github.com/fathom-train/fathom/compute/supernet"
	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/fathom-train/fathom/coordinator/search"
)

// super is what training a supernet needs beside the model.
type super struct {
	sampler supernet.Sampler
	// thresholds is the id of the tensor of the pruning thresholds, one for each
	// table; -1 without pruning.
	thresholds int
	soft       bool // see job.Soft
	// own is where a row has what it adds to its table's threshold, -1: nothing
	// (job.ThresholdColumn).
	own    int
	norm   supernet.Norm
	weight float32 // of the thresholds' regulariser
	// column is the model's column that is masked, dim its width, off where it
	// stands in a row.
	column, dim, off int
	// uses says that the last column of every row counts what has its value
	// (job.UsesColumn).
	uses bool
	// tables names the table of every field.
	tables []int

	widths []uint16 // [n, fields], of the lane under way
	// limits are the thresholds of one table's rows, dLimits their gradients, limit
	// names each row's.
	limits, dLimits []float32
	limit           []int32
	every           *everyWidth // nil unless every width is trained in every step
	gates           *gates      // nil without soft gates
}

// newSuper returns nil when the job trains no supernet.
func newSuper(j *job.Job, t *Trainer) *super {
	spec := j.Spec.Search
	if spec == nil {
		return nil
	}
	s := &super{thresholds: -1, own: -1, column: -1}
	for c, col := range t.columns {
		if col.Name == model.Embedding {
			s.column, s.dim = c, col.Width
			break
		}
		s.off += col.Width
	}
	s.sampler = supernet.Sampler{Seed: j.Spec.Train.Seed, Sampling: supernet.Sampling(spec.Sampling),
		Full: spec.FullWidth, FullLast: spec.FullWidthLast}
	if spec.FullWidth > 0 {
		s.sampler.Steps = uint64(j.Steps(t.train.Rows()))
	}
	s.sampler.Narrowing = uint64(float64(spec.Progressive) * float64(j.Steps(t.train.Rows())))
	if s.sampler.Sampling == supernet.EveryWidth {
		s.every = &everyWidth{distillation: spec.Distillation}
	}
	for _, parts := range t.plan.Fields {
		s.tables = append(s.tables, parts[0].Table)
		s.sampler.Choices = append(s.sampler.Choices, j.Choices())
	}
	s.norm, s.uses = j.RowNorm(), len(spec.Rows) > 0
	if p := spec.Pruning; p != nil {
		s.weight, s.soft = p.Weight, p.Kind == job.Soft
		if p.Per == job.PerFeature {
			s.own = 0
			for _, c := range t.columns {
				s.own += c.Width // it stands behind the model's columns
			}
		}
		s.thresholds = len(t.sizes)
		t.sizes = append(t.sizes, len(t.plan.Tables))
		t.names = append(t.names, job.ThresholdTensor)
	}
	if spec.HeldGates() {
		s.gates = newGates(j, t, s.dim)
	}
	return s
}

// rows describes the part of a table's rows that is masked.
func (p *super) rows(values []float32, width int) supernet.Rows {
	return supernet.Rows{Values: values, Stride: width, Off: p.off, Width: p.dim}
}

// prune sets what the model sees of the slot's rows.
func (p *super) prune(s *slot) {
	if p == nil || p.thresholds < 0 {
		return
	}
	if !p.soft {
		p.pruneRows(s)
		return
	}
	for i := range s.tables {
		r := &s.tables[i]
		r.seen = grow(r.seen, len(r.values))
		copy(r.seen, r.values)
		supernet.Soft(p.rows(r.seen, r.width), p.rows(r.values, r.width), len(r.unique.Keys), p.threshold(s, i))
	}
}

// threshold is the soft threshold of a table.
func (p *super) threshold(s *slot, table int) float32 {
	return kernel.Sigmoid(s.dense.values[p.thresholds][table])
}

// drop sets what the model sees of the slot's rows when of every table only those of
// an importance above a number are kept.
func (p *super) drop(s *slot, above []float32) {
	s.showAll()
	p.prune(s)
	for i := range s.tables {
		r := &s.tables[i]
		r.seen = append(r.seen[:len(r.seen)], r.values[len(r.seen):]...) // as they are, unless pruned
		for u := range r.unique.Keys {
			row := r.values[u*r.width : (u+1)*r.width]
			if !(p.norm.Importance(row[p.off:p.off+p.dim], row[r.width-supernet.Uses:]) > above[i]) {
				clear(r.seen[u*r.width+p.off:][:p.dim])
			}
		}
	}
}

// countUses sets the gradients of what is counted of the slot's rows.
func (p *super) countUses(s *slot) {
	if p == nil || !p.uses {
		return
	}
	next := make([]int, len(s.tables)) // occurrences so far
	for at, entry := 0, 0; at < s.data.N; at++ {
		for _, table := range p.tables {
			r := &s.tables[table]
			for range s.data.Offsets[entry+1] - s.data.Offsets[entry] {
				g := r.grads[(int(r.unique.Index[next[table]])+1)*r.width-supernet.Uses:]
				g[0] -= supernet.UsesUnit
				g[1] -= supernet.UsesUnit * s.data.Labels[at]
				next[table]++
			}
			entry++
		}
	}
}

// pruneRows sets what the model sees of the slot's rows under hard thresholds.
func (p *super) pruneRows(s *slot) {
	for i := range s.tables {
		r := &s.tables[i]
		p.findLimits(s, i)
		r.seen, r.excess = grow(r.seen, len(r.values)), grow(r.excess, len(r.unique.Keys))
		copy(r.seen, r.values)
		supernet.Prune(p.rows(r.seen, r.width), p.rows(r.values, r.width), p.limit, p.limits, p.norm, r.excess)
	}
}

// findLimits sets the thresholds that the rows of a table are compared with.
func (p *super) findLimits(s *slot, table int) {
	r, n := &s.tables[table], len(s.tables[table].unique.Keys)
	p.limit = grow(p.limit, n)
	clear(p.limit)
	p.limits = append(p.limits[:0], s.dense.values[p.thresholds][table])
	if p.own < 0 {
		return
	}
	p.limits = grow(p.limits, n)
	for u := range n {
		p.limit[u], p.limits[u] = int32(u), p.rowLimit(s.dense.values[p.thresholds][table], r.values[u*r.width:])
	}
}

// rowLimit is the threshold of a row under that of its table.
func (p *super) rowLimit(table float32, row []float32) float32 {
	if p.own < 0 {
		return table
	}
	return table + row[p.own]
}

// mask draws the lane's prefixes and applies them to the model's input.
func (p *super) mask(s *slot, input [][]float32) {
	if p == nil || p.every != nil {
		return
	}
	p.widths = grow(p.widths, s.data.N*s.data.Fields)
	p.sampler.Draw(p.widths, s.step, uint64(s.lane), s.data.N)
	supernet.MaskPrefixes(input[p.column], p.dim, p.widths)
}

// maskGradient is the backward pass of mask.
func (p *super) maskGradient(dInput [][]float32) {
	if p != nil && p.every == nil {
		supernet.MaskPrefixes(dInput[p.column], p.dim, p.widths)
	}
}

// instead is what pruned rows read as, nil: zeros. It also keeps the row that stands
// in for others from being taken for one that may be pruned.
func (p *super) instead(r *tableRows) []float32 {
	if r.oov < 0 {
		return nil
	}
	r.excess[r.oov] = float32(math.Inf(1))
	at := r.oov*r.width + p.off
	return r.values[at : at+p.dim]
}

// pruneGradient is the backward pass of prune; it also sets the gradient of the
// thresholds, to which their regulariser belongs.
func (p *super) pruneGradient(s *slot) {
	if p == nil || p.thresholds < 0 {
		return
	}
	d := s.ddense[p.thresholds]
	clear(d)
	if p.soft {
		for i := range s.tables {
			r, at := &s.tables[i], p.threshold(s, i)
			dAt := supernet.SoftBackward(p.rows(r.grads, r.width), p.rows(r.values, r.width), len(r.unique.Keys), at)
			d[i] = float32(dAt * float32(at*(1-at)))
		}
		return
	}
	for i := range s.tables {
		r := &s.tables[i]
		p.findLimits(s, i)
		p.dLimits = grow(p.dLimits, len(p.limits))
		clear(p.dLimits)
		supernet.PruneBackward(p.rows(r.grads, r.width), p.rows(r.values, r.width), p.limit, p.norm, r.excess, p.dLimits, p.instead(r))
		if p.own < 0 {
			d[i] = p.dLimits[0]
			continue
		}
		for u, v := range p.dLimits {
			r.grads[u*r.width+p.own] = v
		}
	}
	supernet.Regularise(s.dense.values[p.thresholds], p.weight, float32(s.data.N)/float32(s.batch), d)
}

// EvaluateCandidates scores the ordered share of rows [lo, hi) of a split with the
// supernet as it was at the version, once for every candidate: the width of every
// table. Rows are pulled once for all of them.
func (t *Trainer) EvaluateCandidates(ctx context.Context, split string, version uint64, lo, hi int64, o search.Order) ([]*eval.Accumulator, error) {
	p := t.super
	if p == nil {
		return nil, fmt.Errorf("job %s trains no supernet", t.cfg.Job.Metadata.Name)
	}
	if n := len(o.Above); n > 0 && n != len(o.Candidates) {
		return nil, fmt.Errorf("%d candidates with the kept rows of %d", len(o.Candidates), n)
	}
	if n := len(o.Dims); n > 0 && n != len(o.Candidates) {
		return nil, fmt.Errorf("%d candidates with the dimensions of %d", len(o.Candidates), n)
	}
	drop := make([][][]int, len(o.Candidates)) // the dimensions that are not seen, by field
	acc := make([]*eval.Accumulator, len(o.Candidates))
	for i, c := range o.Candidates {
		if c.Fields() != len(t.plan.Tables) {
			return nil, fmt.Errorf("candidate %d has %d widths, there are %d tables", i, c.Fields(), len(t.plan.Tables))
		}
		if len(o.Above) > 0 && len(o.Above[i]) != len(t.plan.Tables) {
			return nil, fmt.Errorf("candidate %d has the kept rows of %d tables, there are %d", i, len(o.Above[i]), len(t.plan.Tables))
		}
		if len(o.Dims) > 0 && len(o.Dims[i]) != len(t.plan.Tables) {
			return nil, fmt.Errorf("candidate %d has the dimensions of %d tables, there are %d", i, len(o.Dims[i]), len(t.plan.Tables))
		}
		acc[i] = &eval.Accumulator{}
		for _, table := range p.tables {
			var dropped []int
			for d := range p.dim {
				if len(o.Dims) > 0 && !slices.Contains(o.Dims[i][table], d) || len(o.Dims) == 0 && d >= c.Width(table) {
					dropped = append(dropped, d)
				}
			}
			drop[i] = append(drop[i], dropped)
		}
	}
	var open []float32 // of the clusters' centres
	if t.selector != nil {
		var err error
		if open, err = t.selector.numbers(o.Clusters); err != nil {
			return nil, err
		}
	}
	var full []float32
	err := t.scan(ctx, split, version, parts(lo, hi, o.Share), func(s *slot, _ int64) error {
		t.fill(s)
		if open != nil {
			t.selector.openClusters(s, t.input[p.column], open)
		}
		full = append(full[:0], t.input[p.column]...)
		for i := range drop {
			if len(o.Above) > 0 && (i == 0 || !slices.Equal(o.Above[i], o.Above[i-1])) {
				p.drop(s, o.Above[i])
				t.substitute(s)
				t.gather(s)
				full = append(full[:0], t.input[p.column]...)
			}
			copy(t.input[p.column], full)
			supernet.MaskDims(t.input[p.column], s.data.N, p.dim, drop[i])
			acc[i].Add(t.score(s), s.data.Labels, s.data.Groups)
		}
		return nil
	})
	return acc, err
}

// partRows is how many consecutive rows are in or out of a share together.
const partRows = 512

// parts yields the ranges of [lo, hi) that belong to a share of the rows: the first
// part and others at even distances, so that files in any order are represented. Rows are counted
// from the split's beginning, so blocks that are scored elsewhere fit.
func parts(lo, hi int64, share float64) iter.Seq2[int64, int64] {
	if share >= 1 {
		return pieces(lo, hi)
	}
	return func(yield func(lo, hi int64) bool) {
		for at := lo; at < hi; at += partRows {
			n := float64(at / partRows)
			if math.Floor(float64(n*share)) > math.Floor(float64((n-1)*share)) && !yield(at, min(at+partRows, hi)) {
				return
			}
		}
	}
}
