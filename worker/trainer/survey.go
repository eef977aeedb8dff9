package trainer

import (
	"context"
	"fmt"

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
	if p.thresholds >= 0 {
		dense := make([][]float32, len(t.sizes))
		dense[p.thresholds] = make([]float32, t.sizes[p.thresholds])
		if err := t.cfg.Client.Pull(ctx, version, nil, dense); err != nil {
			return nil, err
		}
		s.Thresholds = dense[p.thresholds]
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
		if grams {
			of.Gram = make([]float64, triangle)
		}
		err := t.cfg.Client.Scan(ctx, at, version, uint16(i), func(keys []shard.Key, weights []float32) error {
			width := len(weights) / len(keys)
			for u := range keys {
				e := weights[u*width+p.off : u*width+p.off+p.dim]
				of.Rows++
				if s.Thresholds != nil && !p.norm.Keeps(e, s.Thresholds[i]) {
					continue
				}
				of.Kept++
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
