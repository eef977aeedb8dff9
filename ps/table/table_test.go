package table

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/fathom-train/fathom/compute/optim"
	"github.com/fathom-train/fathom/compute/random"
	"github.com/fathom-train/fathom/shard"
	"github.com/google/go-cmp/cmp"
	"github.com/zeebo/xxh3"
	"pgregory.net/rapid"
)

func schema(id uint16) Schema {
	return Schema{ID: id, Name: "rows", Columns: []Column{
		{Name: "linear", Width: 1, Optimizer: optim.Config{Name: optim.SGD}},
		{Name: "embedding", Width: 4, Init: random.Init{Kind: random.Normal, Scale: .1}, Optimizer: optim.Config{Name: optim.LAMB}},
	}}
}

func open(t testing.TB, s Schema, seed uint64) *Table {
	t.Helper()
	tab, err := New(s, seed)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(tab.Close)
	return tab
}

// gradient is a different one for each key and step.
func gradient(width int, k shard.Key, step uint64) []float32 {
	g := make([]float32, width)
	random.Init{Kind: random.Normal, Scale: 1}.Fill(g, uint64(k)*31+step)
	return g
}

// twin is the obvious table: a map of rows.
type twin struct {
	t    *Table // for Init
	rows map[shard.Key][]float32
	opts []optim.Optimizer
}

func newTwin(t rapid.TB, tab *Table) *twin {
	w := &twin{t: tab, rows: map[shard.Key][]float32{}}
	for _, c := range tab.schema.Columns {
		o, err := optim.New(c.Optimizer)
		if err != nil {
			t.Fatal(err)
		}
		w.opts = append(w.opts, o)
	}
	return w
}

func (w *twin) update(k shard.Key, g []float32, step uint64) {
	row, ok := w.rows[k]
	if !ok {
		row = make([]float32, w.t.RowFloats())
		w.t.Init(row, k)
		w.rows[k] = row
	}
	at, slots := 0, w.t.Width()
	for i, c := range w.t.schema.Columns {
		n := w.opts[i].Slots(c.Width)
		w.opts[i].Update(row[at:at+c.Width], row[slots:slots+n], g[at:at+c.Width], optim.At(step))
		at, slots = at+c.Width, slots+n
	}
}

// hash computes the state hash from scratch.
func (w *twin) hash() (sum [2]uint64) {
	for k, row := range w.rows {
		var b []byte
		for _, x := range row {
			v := math.Float32bits(x)
			b = append(b, byte(v), byte(v>>8), byte(v>>16), byte(v>>24))
		}
		h := xxh3.Hash128Seed(b, uint64(k)+(uint64(w.t.schema.ID)+1)*0x9e3779b97f4a7c15)
		sum = AddHash(sum, [2]uint64{h.Lo, h.Hi})
	}
	return sum
}

func (w *twin) compare(t rapid.TB, tab *Table) {
	t.Helper()
	if tab.Rows() != len(w.rows) {
		t.Fatalf("table has %d rows, want %d", tab.Rows(), len(w.rows))
	}
	for k, want := range w.rows {
		got, ok := tab.Row(k)
		if !ok || !slices.Equal(got, want) {
			t.Fatalf("row %#x is %v %v, want %v", uint64(k), got, ok, want)
		}
	}
	if got, want := tab.Hash(), w.hash(); got != want {
		t.Fatalf("running hash %x, from scratch %x", got, want)
	}
}

// drawKey draws from few keys, so that rows are updated often, and from those
// that could break an index: zero, the last one, equal top or low bits.
func drawKey(t *rapid.T) shard.Key {
	return shard.Key(rapid.OneOf(
		rapid.Uint64Range(0, 40),
		rapid.SampledFrom([]uint64{math.MaxUint64, 1 << 63, 1 << 32, 1<<32 + 1, 5 << 40}),
		rapid.Uint64(),
	).Draw(t, "key"))
}

func TestTableAgreesWithItsTwin(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		tab, err := New(schema(3), 42)
		if err != nil {
			t.Fatal(err)
		}
		defer tab.Close()
		w := newTwin(t, tab)
		for step := range uint64(rapid.IntRange(1, 8).Draw(t, "updates")) {
			keys := rapid.SliceOfNDistinct(rapid.Custom(drawKey), 1, 40, rapid.ID).Draw(t, "keys")
			before, want := make([]float32, len(keys)*tab.Width()), make([]float32, len(keys)*tab.Width())
			tab.Gather(want, keys)
			var g []float32
			for _, k := range keys {
				g = append(g, gradient(tab.Width(), k, step+1)...)
				w.update(k, gradient(tab.Width(), k, step+1), step+1)
			}
			if rapid.Bool().Draw(t, "one by one") {
				for i, k := range keys {
					tab.Update(k, g[i*tab.Width():(i+1)*tab.Width()], optim.At(step+1))
				}
				continue
			}
			tab.UpdateRows(before, keys, nil, g, optim.At(step+1))
			if !slices.Equal(before, want) {
				t.Fatalf("weights before the update of %#x are %v, want %v", keys, before, want)
			}
		}
		w.compare(t, tab)
	})
}

func TestManyRowsSurviveTheGrowthOfTheIndex(t *testing.T) {
	t.Parallel()
	tab := open(t, schema(1), 7)
	w := newTwin(t, tab)
	g := []float32{1, 1, 1, 1, 1}
	const n = 50000
	for i := range shard.Key(n) {
		k := i << 40 // keys of one shard and with equal low bits
		tab.Update(k, g, optim.At(1))
		w.update(k, g, 1)
	}
	w.compare(t, tab)
	if _, ok := tab.Row(1); ok {
		t.Error("a key that was never updated has a row")
	}
	if least := n * tab.RowBytes(); tab.Bytes() < least {
		t.Errorf("the table says it holds %d bytes, its rows alone are %d", tab.Bytes(), least)
	}
}

func TestInitDependsOnSeedColumnAndKeyOnly(t *testing.T) {
	t.Parallel()
	read := func(seed uint64, s Schema, k shard.Key) string {
		tab := open(t, s, seed)
		v := make([]float32, tab.Width())
		tab.Gather(v, []shard.Key{k})
		if tab.Rows() != 0 {
			t.Error("reading a row created it")
		}
		return fmt.Sprint(v)
	}
	base := read(1, schema(1), 5)
	if again := read(1, schema(1), 5); again != base {
		t.Errorf("the same row is %s and %s", base, again)
	}
	if other := read(1, schema(2), 5); other != base {
		t.Errorf("in another table the row is %s and not %s", other, base)
	}
	two := schema(1)
	two.Columns[0], two.Columns[1] = two.Columns[1], two.Columns[0]
	two.Columns = append(two.Columns, two.Columns[0])
	values := read(1, two, 5)
	seen := map[string]string{base: "the first", values: "other columns"}
	for what, v := range map[string]string{
		"another seed": read(2, schema(1), 5), "another key": read(1, schema(1), 6),
	} {
		if other, ok := seen[v]; ok {
			t.Errorf("%s and %s have the same initial weights", what, other)
		}
		seen[v] = what
	}
	tab := open(t, two, 1)
	v := make([]float32, tab.Width())
	tab.Init(v, 5)
	if slices.Equal(v[:4], v[5:]) {
		t.Error("two columns of a row have the same initial weights")
	}
}

func TestRowHoldsWeightsThenSlotsOfEachColumn(t *testing.T) {
	t.Parallel()
	s := schema(0)
	s.Columns[0], s.Columns[1] = s.Columns[1], s.Columns[0] // slots of the first column only
	tab := open(t, s, 1)
	if tab.Width() != 5 || tab.RowFloats() != 13 || tab.Slots(0) != 8 || tab.Slots(1) != 0 {
		t.Errorf("width %d, floats %d, slots %d and %d; want 5, 13, 8, 0", tab.Width(), tab.RowFloats(), tab.Slots(0), tab.Slots(1))
	}
	tab.Update(9, []float32{0, 0, 0, 0, 1}, optim.At(1))
	row, _ := tab.Row(9)
	if !slices.Equal(row[5:], make([]float32, 8)) {
		t.Errorf("a gradient of the other column reached the slots: %v", row)
	}
	tab.Update(9, []float32{0, 0, 0, 1, 0}, optim.At(2))
	row, _ = tab.Row(9)
	for i, x := range row[5:] {
		if moved := i == 3 || i == 7; moved != (x != 0) {
			t.Errorf("slot %d is %v", i, x)
		}
	}
	if d := cmp.Diff(s, tab.Schema()); d != "" {
		t.Errorf("schema changed:\n%s", d)
	}
}

func TestHashDoesNotDependOnOrderOrCutOfRows(t *testing.T) {
	t.Parallel()
	all, even, odd := open(t, schema(1), 1), open(t, schema(1), 1), open(t, schema(1), 1)
	for k := range shard.Key(1000) {
		all.Update(999-k, gradient(5, 999-k, 1), optim.At(1))
		half := []*Table{even, odd}[k%2]
		half.Update(k, gradient(5, k, 1), optim.At(1))
	}
	if got, want := AddHash(even.Hash(), odd.Hash()), all.Hash(); got != want {
		t.Errorf("two halves hash to %x, the whole to %x", got, want)
	}
	if all.Hash()[1] == 0 {
		t.Error("the high word of the hash is not used")
	}
	other := open(t, schema(2), 1)
	other.Load(all.View().Block(nil, 0))
	same := open(t, schema(1), 1)
	same.Load(all.View().Block(nil, 0))
	if other.Hash() == same.Hash() {
		t.Error("equal rows of two tables have the same hash")
	}
}

// Rows of two columns and of one of 16, whose copy is a case of its own; keys that
// are there and others; key 0, which is what an empty slot of the index has, in
// one table and not in another; numbers around a block of lookups.
func TestGatherReadsAnyNumberOfRows(t *testing.T) {
	t.Parallel()
	wide := Schema{ID: 2, Name: "wide", Columns: []Column{
		{Name: "embedding", Width: 16, Init: random.Init{Kind: random.Normal, Scale: .1}, Optimizer: optim.Config{Name: optim.SGD}},
	}}
	sizes := []int{gatherBlock - 1, gatherBlock, gatherBlock + 1, 2*gatherBlock + 20}
	for n := range 100 {
		sizes = append(sizes, n)
	}
	for first, s := range []Schema{schema(1), wide} {
		tab := open(t, s, 1)
		w := tab.Width()
		for k := shard.Key(first); k < 50; k++ {
			tab.Update(2*k, gradient(w, k, 1), optim.At(1))
		}
		for _, n := range sizes {
			keys, want := make([]shard.Key, n), make([]float32, w*n)
			for i := range keys {
				keys[i] = shard.Key((i*37 + n) % 100)
				if row, ok := tab.Row(keys[i]); ok {
					copy(want[w*i:], row[:w])
				} else {
					tab.Init(want[w*i:w*i+w], keys[i])
				}
				if _, ok := tab.Row(keys[i]); ok != (keys[i]%2 == 0 && keys[i] >= 2*shard.Key(first)) {
					t.Fatalf("table %q: a row of key %d is %v", s.Name, keys[i], ok)
				}
			}
			got := make([]float32, w*n)
			tab.Gather(got, keys)
			if !slices.Equal(got, want) {
				t.Fatalf("table %q, %d rows: got %v, want %v", s.Name, n, got, want)
			}
		}
	}
}

// plain is an optimizer that calls nothing.
type plain struct{}

func (plain) Slots(int) int { return 0 }

func (plain) Update(w, _, g []float32, _ optim.Step) {
	for i := range w {
		w[i] -= g[i]
	}
}

func TestTheTableAllocatesNothingPerRow(t *testing.T) {
	tab := open(t, schema(1), 1)
	for i := range tab.columns {
		tab.columns[i].optimizer = plain{}
	}
	g, keys := make([]float32, 5), make([]shard.Key, 100)
	dst := make([]float32, 5*len(keys))
	step := uint64(0)
	update := func() {
		step++
		for i := range keys {
			keys[i] = shard.Key(i)
			tab.Update(keys[i], g, optim.At(step))
		}
		tab.UpdateRows(dst, keys, nil, dst, optim.At(step))
	}
	update()
	if n := testing.AllocsPerRun(20, update); n != 0 {
		t.Errorf("200 updates allocate %v times", n)
	}
	if n := testing.AllocsPerRun(20, func() { tab.Gather(dst, keys) }); n != 0 {
		t.Errorf("reading allocates %v times", n)
	}
}

func TestSchemaFaultsAreAllNamed(t *testing.T) {
	t.Parallel()
	s := Schema{ID: 4, Name: "x", Columns: []Column{
		{Name: "a", Width: 0},
		{Name: "b", Width: MaxWidth, Init: random.Init{Kind: "odd"}},
		{Name: "c", Width: 1, Optimizer: optim.Config{Name: "none"}},
	}}
	err := s.Validate()
	for _, want := range []string{`table 4 "x"`, `"a" is 0 wide`, `"b": init`, `"c": optimizer`, "rows of 8193 weights"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not say %q", err, want)
		}
	}
	if _, err := New(s, 1); err == nil {
		t.Error("a table with a bad schema was made")
	}
	if err := (Schema{}).Validate(); err == nil || !strings.Contains(err.Error(), "0 columns") {
		t.Errorf("no columns: %v", err)
	}
}

func TestGradientOfTheWrongWidthPanics(t *testing.T) {
	t.Parallel()
	tab := open(t, schema(1), 1)
	defer func() {
		if r := recover(); r == nil || !strings.Contains(r.(string), "BUG") {
			t.Errorf("got panic %v", r)
		}
	}()
	tab.Update(1, make([]float32, 4), optim.At(1))
}
