package trainer

import (
	"github.com/fathom-train/fathom/compute/embedding"
	"github.com/fathom-train/fathom/compute/layer"
	"github.com/fathom-train/fathom/ps/client"
	"github.com/fathom-train/fathom/shard"
)

// tableRows are the rows of one table that a lane reads and their gradients.
type tableRows struct {
	unique dedup
	width  int
	values []float32 // [len(unique.Keys), width]
	grads  []float32 // likewise
	// seen is what the model sees of the values, when rows are pruned or replaced, else
	// empty; excess is by how much each row's norm is above its threshold.
	seen, excess []float32
	// oov is the place of the row that stands in for others, -1 for none; replaced are
	// the places of those others, ascending.
	oov      int
	replaced []int
}

// visible is what the model sees of the rows.
func (r *tableRows) visible() []float32 {
	if len(r.seen) > 0 {
		return r.seen
	}
	return r.values
}

// showAll lets the model see the slot's rows as they are.
func (s *slot) showAll() {
	for i := range s.tables {
		s.tables[i].seen = s.tables[i].seen[:0]
	}
}

// find sets the rows that a slot's samples read, without their values.
func (t *Trainer) find(s *slot) {
	if len(s.tables) != len(t.plan.Tables) {
		s.tables = make([]tableRows, len(t.plan.Tables))
		s.keys = make([][]shard.Key, len(t.plan.Tables))
	}
	if t.plain {
		s.keys[0] = s.data.Keys
	} else {
		s.keys = t.plan.Keys(s.keys, s.samples())
	}
	for i := range s.tables {
		r := &s.tables[i]
		r.width, r.oov = t.plan.Tables[i].Width, -1
		if t.plan.Tables[i].OOV {
			s.keys[i] = append(s.keys[i], embedding.OOVKey) // one more occurrence, which no sample reads
		}
		r.unique.Build(s.keys[i])
		if t.plan.Tables[i].OOV {
			r.oov = int(r.unique.Index[len(s.keys[i])-1])
		}
		r.values = grow(r.values, len(r.unique.Keys)*r.width)
	}
}

func (s *slot) samples() embedding.Samples {
	return embedding.Samples{N: s.data.N, Keys: s.data.Keys, Weights: s.data.Weights, Offsets: s.data.Offsets}
}

// request is what the slot wants to read.
func (s *slot) request() []client.Rows {
	s.asked = s.asked[:0]
	for i := range s.tables {
		r := &s.tables[i]
		s.asked = append(s.asked, client.Rows{Table: uint16(i), Width: r.width, Keys: r.unique.Keys, Values: r.values})
	}
	return s.asked
}

// gradients is what the slot's lane pushes of its rows.
func (s *slot) gradients() []client.RowGradients {
	s.pushed = s.pushed[:0]
	for i := range s.tables {
		r := &s.tables[i]
		s.pushed = append(s.pushed, client.RowGradients{Table: uint16(i), Width: r.width, Keys: r.unique.Keys, Counts: r.unique.Counts, Values: r.grads})
	}
	return s.pushed
}

func (s *slot) clearGradients() {
	for i := range s.tables {
		r := &s.tables[i]
		r.grads = grow(r.grads, len(r.values))
		clear(r.grads)
	}
}

// planned returns the slot's rows as the plan takes them.
func (s *slot) planned() []embedding.TableRows {
	rows := make([]embedding.TableRows, len(s.tables))
	for i := range s.tables {
		r := &s.tables[i]
		rows[i] = embedding.TableRows{Values: r.visible(), Index: r.unique.Index, Grads: r.grads}
	}
	return rows
}

// gather fills the model's input with the values of the slot's rows.
func (t *Trainer) gather(s *slot) {
	if !t.plain {
		t.plan.Gather(t.input, s.samples(), s.planned())
		return
	}
	r, fields := &s.tables[0], s.data.Fields
	t.eachPiece(s, func(c, off, width, lo, hi int, offsets []int32) {
		layer.Gather(t.input[c][lo*fields*width:hi*fields*width], hi-lo, fields, width, r.visible(), r.width, off, r.unique.Index, offsets, s.data.Weights)
	})
}

// scatter adds the gradients of the model's input to those of the slot's rows.
func (t *Trainer) scatter(s *slot) {
	if !t.plain {
		t.plan.Scatter(s.planned(), s.samples(), t.dInput)
		return
	}
	r, fields := &s.tables[0], s.data.Fields
	t.eachPiece(s, func(c, off, width, lo, hi int, offsets []int32) {
		layer.Scatter(r.grads, r.width, off, t.dInput[c][lo*fields*width:hi*fields*width], hi-lo, fields, width, r.unique.Index, offsets, s.data.Weights)
	})
}

// pieceEntries is how many entries of the samples have all their columns moved
// before the next ones, so that the rows they share are still in the cache.
const pieceEntries = 256

// eachPiece calls f for every column of samples lo to hi, piece by piece.
func (t *Trainer) eachPiece(s *slot, f func(column, off, width, lo, hi int, offsets []int32)) {
	step := max(1, pieceEntries/s.data.Fields)
	for lo := 0; lo < s.data.N; lo += step {
		hi := min(lo+step, s.data.N)
		t.eachColumn(func(c, off, width int) {
			f(c, off, width, lo, hi, s.data.Offsets[lo*s.data.Fields:hi*s.data.Fields+1])
		})
	}
}

// eachColumn calls f for every column of plain rows with its place in them, the
// wide one behind the single weight first: its rows are fetched ahead.
func (t *Trainer) eachColumn(f func(column, off, width int)) {
	off := t.plan.Tables[0].Width
	for c := len(t.columns) - 1; c >= 0; c-- {
		width := t.columns[c].Width
		off -= width
		f(c, off, width)
	}
}
