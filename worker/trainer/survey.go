package trainer

import (
	"context"
	"fmt"

	"github.com/fathom-train/fathom/compute/embedding"
	"github.com/fathom-train/fathom/compute/exact"
	"github.com/fathom-train/fathom/compute/kernel"
	"github.com/fathom-train/fathom/compute/supernet"
	"github.com/fathom-train/fathom/coordinator/search"
	"github.com/fathom-train/fathom/shard"
)

// gramMax bounds the numbers of all Gram matrices of one survey.
const gramMax = 1 << 18

// Survey counts the rows that one shard (its place in the routes) holds of the
// supernet at the version, and those that its thresholds keep.
func (t *Trainer) Survey(ctx context.Context, version uint64, at int) (*search.Survey, error) {
	p := t.super
	if p == nil {
		return nil, fmt.Errorf("job %s trains no supernet", t.cfg.Job.Metadata.Name)
	}
	s := &search.Survey{Tables: make([]search.TableSurvey, len(t.plan.Tables))}
	var err error
	if p.thresholds >= 0 {
		if s.Thresholds, err = t.tensor(ctx, version, p.thresholds); err != nil {
			return nil, err
		}
		for i, v := range s.Thresholds {
			if p.soft {
				s.Thresholds[i] = kernel.Sigmoid(v) // as threshold has it
			}
		}
	}
	if p.gates != nil {
		values, err := t.tensor(ctx, version, p.gates.tensor)
		if err != nil {
			return nil, err
		}
		s.ByDimension = t.cfg.Job.Spec.Search.ByDimension()
		s.Gates = make([][]float32, len(s.Tables))
		per := len(values) / p.gates.Fields
		for f, table := range p.tables { // of fields that share a table, the first
			if s.Gates[table] == nil {
				s.Gates[table] = values[f*per : (f+1)*per]
			}
		}
	}
	if t.selector != nil && at == 0 {
		if err := t.surveyGates(ctx, version, s); err != nil {
			return nil, err
		}
	}
	if planted := t.cfg.Data.PlantedWidths(); planted != nil {
		s.Planted = make([]int, len(s.Tables))
		for f, w := range planted {
			at := &s.Planted[p.tables[f]]
			*at = max(*at, w.Width)
		}
	}
	triangle := p.dim * (p.dim + 1) / 2
	grams := triangle*len(s.Tables) <= gramMax
	for i := range s.Tables {
		of := &s.Tables[i]
		of.Moments = make([]exact.Sum, p.dim)
		if p.uses {
			of.Classes = map[uint16]int64{}
		}
		if grams {
			of.Gram = make([]float64, triangle)
		}
		err := t.cfg.Client.Scan(ctx, at, version, uint16(i), func(keys []shard.Key, weights []float32) error {
			width := len(weights) / len(keys)
			for u := range keys {
				row := weights[u*width : (u+1)*width]
				e := row[p.off : p.off+p.dim]
				of.Rows++
				if t.plan.Tables[i].OOV && keys[u] == embedding.OOVKey {
					of.Kept++ // whatever its norm
					continue
				}
				if s.Thresholds != nil && !p.norm.Keeps(e, p.rowLimit(s.Thresholds[i], row)) {
					continue
				}
				of.Kept++
				if p.uses {
					of.Classes[search.Class(p.norm.Importance(e, row[width-supernet.Uses:]))]++
				}
				if p.soft {
					left := supernet.Rows{Values: e, Stride: p.dim, Width: p.dim}
					supernet.Soft(left, left, 1, s.Thresholds[i])
				}
				for k, v := range e {
					of.Moments[k].Add(float64(v) * float64(v))
				}
				addOuter(of.Gram, e)
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return s, nil
}

// surveyGates sets what a selector has learned: the clusters, and for every table and
// dimension the share of the samples that have it open, of fields that share a table the
// largest.
func (t *Trainer) surveyGates(ctx context.Context, version uint64, s *search.Survey) error {
	clusters, shares, err := t.cluster(ctx, version)
	if err != nil {
		return err
	}
	s.Clusters, s.ByDimension, s.Gates = clusters, true, make([][]float32, len(s.Tables))
	for f, table := range t.super.tables {
		if s.Gates[table] == nil {
			s.Gates[table] = make([]float32, t.super.dim)
		}
		for d := range s.Gates[table] {
			s.Gates[table][d] = max(s.Gates[table][d], shares[f*t.super.dim+d])
		}
	}
	return nil
}

// tensor pulls one dense tensor.
func (t *Trainer) tensor(ctx context.Context, version uint64, id int) ([]float32, error) {
	dense := make([][]float32, len(t.sizes))
	dense[id] = make([]float32, t.sizes[id])
	return dense[id], t.cfg.Client.Pull(ctx, version, nil, dense)
}

// addOuter adds the lower triangle of e's outer product to sum, if there is one.
func addOuter(sum []float64, e []float32) {
	if len(sum) == 0 {
		return
	}
	k := 0
	for i, x := range e {
		for _, y := range e[:i+1] {
			sum[k] += float64(float64(x) * float64(y))
			k++
		}
	}
}
