package dataset

import (
	"context"
	"fmt"
	"math/bits"
	"slices"
	"sync"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/bitutil"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/fathom-train/fathom/compute/eval"
	"github.com/fathom-train/fathom/compute/kernel"
	"github.com/fathom-train/fathom/compute/random"
)

// tileRows is how many rows are generated together, field by field, so that
// their sums stay in the first cache.
const tileRows = 256

// generator makes rows of synthetic data. It is for one goroutine.
type generator struct {
	t *teacher
	// words is how many random words a row takes: two per numeric field (level,
	// place in the level), one per categorical field, one for the label.
	words uint64

	values [][]int32 // [field][row of the block]; -1 is missing
	labels []uint8
	probs  []float32

	linear, fm [tileRows]float64
	sums       []float64 // [tileRows, dim]
}

func newGenerator(t *teacher) *generator {
	g := &generator{t: t, values: make([][]int32, len(t.fields)),
		labels: make([]uint8, blockRows), probs: make([]float32, blockRows), sums: make([]float64, tileRows*t.dim)}
	for i := range g.values {
		g.values[i] = make([]int32, blockRows)
	}
	g.words = uint64(2*t.conf.Numeric + t.conf.Categorical + 1)
	return g
}

// block generates the first rows rows of a block of a split. Rows depend on
// (seed, split, block, row) alone.
func (g *generator) block(split int, number int64, rows int) {
	stream := random.Stream(g.t.conf.Seed, random.Synth, uint64(split), uint64(number), 0)
	for lo := 0; lo < rows; lo += tileRows {
		n := min(tileRows, rows-lo)
		g.tile(stream, lo, n)
		for r := range n {
			p := kernel.Sigmoid(float32(clampLogit(g.t.bias + g.linear[r] + g.fm[r])))
			g.probs[lo+r] = p
			g.labels[lo+r] = 0
			if random.Unit(random.Word(stream, uint64(lo+r)*g.words+g.words-1)) < p {
				g.labels[lo+r] = 1
			}
		}
	}
}

// tile generates the values of the rows lo to lo+n of a stream and both parts
// of their logits.
func (g *generator) tile(stream uint64, lo, n int) {
	clear(g.linear[:])
	clear(g.fm[:])
	clear(g.sums)
	word := uint64(lo) * g.words
	for i := range g.t.fields {
		f := &g.t.fields[i]
		out := g.values[i][lo%blockRows:][:n]
		for r := range out {
			id := int32(0)
			if at := word + uint64(r)*g.words; f.numeric {
				out[r], id = count(f.ids.draw(random.Word(stream, at)), random.Word(stream, at+1))
			} else {
				id = f.ids.draw(random.Word(stream, at))
				out[r] = id
			}
			if f.width > 0 && int(id) < len(f.linear) {
				g.linear[r] += float64(f.linear[id])
				g.interact(f, r, int(id))
			}
		}
		if word++; f.numeric {
			word++
		}
	}
	// sum_{f<g} <v_f, v_g> = (|sum_f v_f|^2 - sum_f |v_f|^2) / 2
	for r := range n {
		s := 0.0
		for _, v := range g.sums[r*g.t.dim:][:g.t.dim] {
			s += float64(v * v)
		}
		g.fm[r] = (s - g.fm[r]) / 2
	}
}

// interact adds an id's latent vector to the row's sums.
func (g *generator) interact(f *teacherField, r, id int) {
	sums := g.sums[r*g.t.dim:][:f.width]
	squares := 0.0
	for d, v := range f.latent[id*f.width:][:f.width] {
		sums[d] += float64(v)
		squares += float64(float64(v) * float64(v))
	}
	g.fm[r] += squares
}

// count returns a value of a level of a numeric field and its id.
func count(level int32, word uint64) (value, id int32) {
	if level == 0 {
		return -1, 0
	}
	width := uint64(1) << (level - 1)
	place, _ := bits.Mul64(word, width)
	value = int32(width - 1 + place)
	if int(value) < len(smallBuckets) {
		return value, 1 + int32(smallBuckets[value])
	}
	return value, 1 + int32(bucket(float64(value)))
}

// smallBuckets are the buckets of most counts.
var smallBuckets = func() (b [4096]uint8) {
	for x := range b {
		b[x] = uint8(bucket(float64(x)))
	}
	return b
}()

// generated is the source of one split of synthetic data.
type generated struct {
	teacher *teacher
	split   int
	rows    int64
	columns []int // the generator's field of each column of the schema
	schema  *arrow.Schema
	pool    sync.Pool
}

// newGenerated finds the columns of the schema among the generated ones.
func newGenerated(t *teacher, split int, s *schema) (*generated, error) {
	g := &generated{teacher: t, split: split, rows: [...]int64{t.conf.TrainRows, t.conf.ValidRows, t.conf.TestRows}[split]}
	g.pool.New = func() any { return newGenerator(t) }
	var names []string
	for _, f := range t.fields {
		names = append(names, f.name)
	}
	fields := []arrow.Field{{Name: s.label, Type: arrow.PrimitiveTypes.Uint8}}
	for _, c := range s.columns {
		i := slices.Index(names, c)
		if i < 0 {
			return nil, &InputError{Msg: "data.fields: " + unknown("generated column", c, names)}
		}
		g.columns = append(g.columns, i)
		fields = append(fields, arrow.Field{Name: c, Type: arrow.PrimitiveTypes.Int32, Nullable: t.fields[i].numeric})
	}
	g.schema = arrow.NewSchema(fields, nil)
	return g, nil
}

func (g *generated) name() string { return "synthetic " + splitNames[g.split] }

// scan implements source.
func (g *generated) scan(context.Context) ([]*unit, error) {
	var units []*unit
	for lo := int64(0); lo < g.rows; lo += blockRows {
		hi := min(lo+blockRows, g.rows)
		units = append(units, &unit{src: g, lo: lo, hi: hi, records: int(hi - lo)})
	}
	return units, nil
}

// load implements source.
func (g *generated) load(_ context.Context, u *unit, consume func(*records) error) error {
	gen := g.pool.Get().(*generator)
	defer g.pool.Put(gen)
	gen.block(g.split, u.lo/blockRows, u.records)
	n := u.records
	label := array.NewData(arrow.PrimitiveTypes.Uint8, n, []*memory.Buffer{nil, memory.NewBufferBytes(gen.labels[:n])}, nil, 0, 0)
	columns := []arrow.Array{array.NewUint8Data(label)}
	for _, c := range g.columns {
		columns = append(columns, int32Column(gen.values[c][:n], g.teacher.fields[c].numeric))
	}
	rec := array.NewRecord(g.schema, columns, int64(n))
	defer rec.Release()
	return consume(&records{rec: rec, at: func(row, _ int) InputError {
		return InputError{File: fmt.Sprintf("%s: row %d", g.name(), u.lo+int64(row)+1)}
	}})
}

// int32Column wraps values as an Arrow column; -1 is null if nullable.
func int32Column(values []int32, nullable bool) arrow.Array {
	var valid *memory.Buffer
	nulls := 0
	if nullable {
		bitmap := make([]byte, bitutil.BytesForBits(int64(len(values))))
		for r, v := range values {
			if v >= 0 {
				bitmap[r/8] |= 1 << (r % 8)
			} else {
				nulls++
			}
		}
		valid = memory.NewBufferBytes(bitmap)
	}
	data := memory.NewBufferBytes(arrow.Int32Traits.CastToBytes(values))
	return array.NewInt32Data(array.NewData(arrow.PrimitiveTypes.Int32, len(values), []*memory.Buffer{valid, data}, nil, nulls, 0))
}

// PlantedWidth is the width of one field's latent vectors in the teacher.
type PlantedWidth struct {
	Field string `json:"field"`
	Width int    `json:"width"`
}

// PlantedWidths returns the widths that the teacher of synthetic data gives to
// the set's fields, in their order; nil for other data.
func (s *Set) PlantedWidths() []PlantedWidth {
	if s.teacher == nil {
		return nil
	}
	var widths []PlantedWidth
	for _, f := range s.schema.fields {
		i := slices.IndexFunc(s.teacher.fields, func(t teacherField) bool { return t.name == f.column })
		widths = append(widths, PlantedWidth{f.name, s.teacher.fields[i].width})
	}
	return widths
}

// TeacherAUC returns the AUC of the teacher's own probabilities on the test
// split, which no model can be expected to pass; false when the data is not
// synthetic or has no test rows. It generates the split again.
func (s *Set) TeacherAUC() (float64, bool) {
	if s.teacher == nil || s.splits["test"] == nil {
		return 0, false
	}
	g := newGenerator(s.teacher)
	acc := new(eval.Accumulator)
	labels := make([]float32, blockRows)
	for lo := int64(0); lo < s.teacher.conf.TestRows; lo += blockRows {
		n := int(min(blockRows, s.teacher.conf.TestRows-lo))
		g.block(2, lo/blockRows, n)
		for r, l := range g.labels[:n] {
			labels[r] = float32(l)
		}
		acc.Add(g.probs[:n], labels[:n], nil)
	}
	return eval.Merge([]*eval.Accumulator{acc}).AUC, true
}
