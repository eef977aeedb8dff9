package trainer

import (
	"github.com/fathom-train/fathom/compute/kernel"
	"github.com/fathom-train/fathom/compute/model"
)

// embeddingAt is where the embedding stands in the rows of a table.
func (t *Trainer) embeddingAt(table int) (off, width int) {
	for _, c := range t.plan.Tables[table].Columns {
		if c.Name == model.Embedding {
			return off, c.Width
		}
		off += c.Width
	}
	return off, 0
}

// substitute lets rows whose embedding the model sees as zero, because they were
// pruned or have no row any more, read as the table's row for others.
func (t *Trainer) substitute(s *slot) {
	for i := range s.tables {
		r := &s.tables[i]
		if r.oov < 0 {
			continue
		}
		if len(r.seen) == 0 {
			r.seen = append(r.seen, r.values...)
		}
		off, width := t.embeddingAt(i)
		from := r.values[r.oov*r.width+off:][:width]
		r.replaced = r.replaced[:0]
		for u := range r.unique.Keys {
			if to := r.seen[u*r.width+off:][:width]; u != r.oov && zero(to) {
				copy(to, from)
				r.replaced = append(r.replaced, u)
			}
		}
		r.unique.Counts[r.oov] = 1
		for _, u := range r.replaced {
			r.unique.Counts[r.oov] += r.unique.Counts[u]
		}
	}
}

// substituteGradient is the backward pass of substitute. The rows that were replaced
// keep their gradients: those of pruned rows decide whether they come back, and
// those of rows that are not there are dropped by the servers.
func (t *Trainer) substituteGradient(s *slot) {
	for i := range s.tables {
		r := &s.tables[i]
		if r.oov < 0 {
			continue
		}
		off, width := t.embeddingAt(i)
		to := r.grads[r.oov*r.width+off:][:width]
		for _, u := range r.replaced {
			kernel.Add(to, r.grads[u*r.width+off:][:width])
		}
	}
}

func zero(v []float32) bool {
	for _, x := range v {
		if x != 0 {
			return false
		}
	}
	return true
}
