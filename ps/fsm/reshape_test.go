package fsm

import (
	"errors"
	"slices"
	"testing"

	"github.com/fathom-train/fathom/compute/optim"
	"github.com/fathom-train/fathom/compute/random"
	"github.com/fathom-train/fathom/compute/supernet"
	"github.com/fathom-train/fathom/ps/table"
	"github.com/fathom-train/fathom/ps/wire"
	"github.com/fathom-train/fathom/shard"
)

// narrowed is the schema of the phase after some versions of example: the first
// table half as wide and without the rows below a threshold, the second gone.
func narrowed(s Schema, base uint64, carry Carry) Schema {
	s.Tables = slices.Clone(s.Tables[:1])
	s.Tables[0].Columns = slices.Clone(s.Tables[0].Columns)
	s.Tables[0].Columns[1].Width = 2
	s.Tables[0].Closed = true
	s.Phase, s.Base, s.Carry = 1, base, []Carry{carry}
	return s
}

const threshold = 0.35

var byNorm = Carry{Table: 0, Column: "embedding", Norm: supernet.L1, Above: threshold}

// feed applies steps to the shards of a map and returns the next log index.
func feed(t *testing.T, states []*State, s Schema, m shard.Map, index, first, last uint64) uint64 {
	t.Helper()
	placed := make([]shard.ID, len(s.Dense))
	for step := first; step <= last; step++ {
		for lane := range s.Lanes {
			for at, st := range states {
				for _, cmd := range labour(s, step, lane).commands(s, step, lane, m, at, placed) {
					index++
					if r := st.Apply(index, cmd); r.Err != nil {
						t.Fatal(r.Err)
					}
				}
			}
		}
	}
	return index
}

// onShard leaves the tensors to the first shard.
func onShard(s Schema, at int) Schema {
	if at > 0 {
		s.Dense = nil
	}
	return s
}

// weightsOf reads all rows of the first table.
func weightsOf(t *testing.T, states []*State, version uint64) map[shard.Key][]float32 {
	t.Helper()
	rows := map[shard.Key][]float32{}
	for _, st := range states {
		for from := 0; ; {
			keys, w, total, err := st.Scan(run, version, 0, from, 7)
			if err != nil {
				t.Fatal(err)
			}
			for i, k := range keys {
				width := len(w) / len(keys)
				rows[k] = w[i*width : (i+1)*width]
			}
			if from += len(keys); from == total {
				break
			}
		}
	}
	return rows
}

func TestReshapeKeepsRowsAboveTheThresholdAndNarrowsThem(t *testing.T) {
	t.Parallel()
	var hashes [][16]byte
	for _, shards := range []int{1, 3} {
		for _, weights := range []bool{false, true} {
			s, m := example(2, 1), shard.Even(shards)
			var states []*State
			for at := range shards {
				states = append(states, configured(t, onShard(s, at)))
			}
			index := feed(t, states, s, m, 1, 1, 3)
			before := weightsOf(t, states, 3)

			c := byNorm
			c.Weights = weights
			next := narrowed(s, 4, c)
			next.CarryDense = weights
			var parts [][16]byte
			for at, st := range states {
				if r := st.Apply(index+1, configure(t, onShard(next, at))); r.Status != Accepted || r.Version != 4 {
					t.Fatalf("reshape: %v, version %d", r.Err, r.Version)
				}
				if r := st.Apply(index+2, configure(t, onShard(next, at))); r.Status != Duplicate {
					t.Fatalf("the same again: %v", r.Status)
				}
			}
			index += 2
			after := weightsOf(t, states, 4)
			fresh := newReference(t, next)
			kept := 0
			for k, w := range before {
				got, there := after[k]
				if want := supernet.L1.Keeps(w[1:], threshold); want != there {
					t.Fatalf("row %#x of norm %v: kept %v", uint64(k), supernet.L1.Of(w[1:]), there)
				}
				if !there {
					continue
				}
				kept++
				want := make([]float32, 3)
				fresh.init[0].Init(want, k)
				if weights {
					want = w[:3]
				}
				if !slices.Equal(got, want) {
					t.Fatalf("row %#x is %v, want %v", uint64(k), got, want)
				}
			}
			if kept == 0 || kept == len(before) || kept != len(after) {
				t.Fatalf("%d of %d rows kept, %d there", kept, len(before), len(after))
			}

			// The steps behind it leave the dropped rows out and count from 1.
			feed(t, states, next, m, index, 5, 6)
			if rows := weightsOf(t, states, 6); len(rows) != kept {
				t.Fatalf("%d rows after training, want %d", len(rows), kept)
			}
			for i := range states {
				states[i] = reopened(t, states[i])
				parts = append(parts, states[i].Hash())
			}
			hashes = append(hashes, SumHashes(parts...))
		}
	}
	if hashes[0] != hashes[2] || hashes[1] != hashes[3] || hashes[0] == hashes[1] {
		t.Errorf("hashes %x: those of one and three shards must agree, those of the kinds of weights differ", hashes)
	}
}

func TestReshapeKeepsWhatIsImportant(t *testing.T) {
	t.Parallel()
	s := example(2, 1)
	s.Tables[0].Columns = append(s.Tables[0].Columns, table.Column{Name: "uses", Width: supernet.Uses, Init: random.Init{Kind: random.Uniform, Scale: 3},
		Optimizer: optim.Config{Name: optim.SGD, LearningRate: 1}})
	st := configured(t, s)
	index := feed(t, []*State{st}, s, shard.Even(1), 1, 1, 3)
	before := weightsOf(t, []*State{st}, 3)
	c := Carry{Table: 0, Column: "embedding", Norm: supernet.L1, Above: 0.1, Times: "uses", Least: 0.001}
	if r := st.Apply(index+1, configure(t, narrowed(s, 4, c))); r.Err != nil {
		t.Fatal(r.Err)
	}
	after := weightsOf(t, []*State{st}, 4)
	for k, w := range before {
		_, there := after[k]
		if want := supernet.L1.Of(w[1:5]) > 0.1 && supernet.L1.Importance(w[1:5], w[5:]) > 0.001; there != want {
			t.Errorf("row %v is there: %v", w, there)
		}
	}
	if len(after) == 0 || len(after) == len(before) {
		t.Errorf("%d of %d rows are kept: the test sees one side only", len(after), len(before))
	}
}

func TestReshapeKnowsThresholdsOfRows(t *testing.T) {
	t.Parallel()
	s := example(2, 1)
	st := configured(t, s)
	index := feed(t, []*State{st}, s, shard.Even(1), 1, 1, 3)
	before := weightsOf(t, []*State{st}, 3)
	c := byNorm
	c.Plus = "linear"
	if r := st.Apply(index+1, configure(t, narrowed(s, 4, c))); r.Err != nil {
		t.Fatal(r.Err)
	}
	after := weightsOf(t, []*State{st}, 4)
	differ := false
	for k, w := range before {
		_, there := after[k]
		if want := supernet.L1.Keeps(w[1:], threshold+w[0]); there != want {
			t.Errorf("row %v is there: %v", w, there)
		}
		differ = differ || there != supernet.L1.Keeps(w[1:], threshold)
	}
	if !differ {
		t.Error("the thresholds of rows make no difference: the test sees nothing")
	}
}

func TestReshapeKeepsSingleWeights(t *testing.T) {
	t.Parallel()
	s := example(2, 1)
	st := configured(t, s)
	index := feed(t, []*State{st}, s, shard.Even(1), 1, 1, 3)
	before := weightsOf(t, []*State{st}, 3)
	c := Carry{Table: 0, Column: "embedding", Norm: supernet.L1, Above: -1, Weights: true, Dims: []uint32{0, 2}}
	if r := st.Apply(index+1, configure(t, narrowed(s, 4, c))); r.Err != nil {
		t.Fatal(r.Err)
	}
	after := weightsOf(t, []*State{st}, 4)
	if len(after) != len(before) {
		t.Errorf("%d of %d rows are there", len(after), len(before))
	}
	for k, w := range before {
		if want := []float32{w[0], w[1], w[3]}; !slices.Equal(after[k], want) {
			t.Fatalf("row %v becomes %v, want %v", w, after[k], want)
		}
	}
}

func TestReshapeTakesOneRowWhateverItsNorm(t *testing.T) {
	t.Parallel()
	s := example(2, 1)
	st := configured(t, s)
	index := feed(t, []*State{st}, s, shard.Even(1), 1, 1, 3)
	var small shard.Key
	for k, w := range weightsOf(t, []*State{st}, 3) {
		if !supernet.L1.Keeps(w[1:], threshold) && k > small {
			small = k
		}
	}
	c := byNorm
	c.Always = small
	if r := st.Apply(index+1, configure(t, narrowed(s, 4, c))); r.Err != nil {
		t.Fatal(r.Err)
	}
	if _, there := weightsOf(t, []*State{st}, 4)[small]; !there || small == 0 {
		t.Errorf("row %#x is gone", uint64(small))
	}
}

// A table may take its rows from one of another id: first-order weights get a
// table of their own, which has all rows.
func TestReshapeSplitsATable(t *testing.T) {
	t.Parallel()
	s := example(2, 1)
	st := configured(t, s)
	index := feed(t, []*State{st}, s, shard.Even(1), 1, 1, 3)
	before := weightsOf(t, []*State{st}, 3)
	next := s
	narrow := func(id uint16, closed bool, columns ...table.Column) table.Schema {
		return table.Schema{ID: id, Name: columns[0].Name, Columns: columns, Closed: closed}
	}
	next.Tables = []table.Schema{narrow(0, false, s.Tables[0].Columns[0]), narrow(7, true, s.Tables[0].Columns[1])}
	next.Phase, next.Base = 1, 4
	next.Carry = []Carry{{Table: 0, Weights: true}, {Table: 7, From: 0, Column: "embedding", Norm: supernet.L1, Above: threshold, Weights: true}}
	if r := st.Apply(index+1, configure(t, next)); r.Err != nil {
		t.Fatal(r.Err)
	}
	kept := 0
	for k, w := range before {
		req := &wire.PullRequest{Run: run, Tables: []wire.TableKeys{{Table: 0, Keys: []shard.Key{k}}, {Table: 7, Keys: []shard.Key{k}}}}
		got, want := make([]float32, 5), slices.Clone(w)
		if supernet.L1.Keeps(w[1:], threshold) {
			kept++
		} else {
			clear(want[1:])
		}
		if err := st.Lookup(4, req, got); err != nil || !slices.Equal(got, want) {
			t.Fatalf("row %#x is %v, %v; want %v", uint64(k), got, err, want)
		}
	}
	if kept == 0 || kept == len(before) {
		t.Errorf("%d of %d rows are kept: the test sees one side only", kept, len(before))
	}
}

// A job that begins with the narrow tables and the same rows trains the same.
func TestStepsAfterReshapeAreThoseOfAFreshJob(t *testing.T) {
	t.Parallel()
	s := example(2, 1)
	st := configured(t, s)
	index := feed(t, []*State{st}, s, shard.Even(1), 1, 1, 3)
	next := narrowed(s, 4, Carry{Table: 0})
	if r := st.Apply(index+1, configure(t, next)); r.Err != nil {
		t.Fatal(r.Err)
	}
	ref := newReference(t, next)
	for k := range weightsOf(t, []*State{st}, 4) {
		row := make([]float32, ref.init[0].RowFloats())
		ref.init[0].Init(row, k)
		ref.rows[0][k] = row
	}
	feed(t, []*State{st}, next, shard.Even(1), index+1, 5, 6)
	for step := uint64(5); step <= 6; step++ {
		for i, ts := range next.Tables {
			sum := map[shard.Key][]float32{}
			for lane := range next.Lanes {
				w := labour(next, step, lane)
				for j, k := range w.keys[i] {
					accumulate(sum, k, w.grads[i][j*ts.Width():(j+1)*ts.Width()])
				}
			}
			for k, g := range sum {
				if _, there := ref.rows[i][k]; there {
					ref.row(i, k, g, optim.Step{T: step - 4, Rate: factorAt(step), Count: 1})
				}
			}
		}
	}
	for k, got := range weightsOf(t, []*State{st}, 6) {
		if want := ref.rows[0][k][:3]; !slices.Equal(got, want) {
			t.Fatalf("row %#x is %v, want %v", uint64(k), got, want)
		}
	}
}

func TestReadsAroundAReshape(t *testing.T) {
	t.Parallel()
	s := example(1, 1)
	st := configured(t, s)
	index := feed(t, []*State{st}, s, shard.Even(1), 1, 1, 3)
	if r := st.Apply(index+1, configure(t, narrowed(s, 4, byNorm))); r.Err != nil {
		t.Fatal(r.Err)
	}
	absent := shard.Key(12345)
	req := &wire.PullRequest{Run: run, Tables: []wire.TableKeys{{Table: 0, Keys: []shard.Key{absent}}}}
	got := []float32{1, 1, 1}
	if err := st.Lookup(3, req, got); !errors.Is(err, ErrVersionGone) {
		t.Errorf("reading the version before: %v", err)
	}
	if err := st.Lookup(4, req, got); err != nil || !slices.Equal(got, []float32{0, 0, 0}) {
		t.Errorf("an absent row of a closed table is %v, %v", got, err)
	}
	if _, _, _, err := st.Scan(run, 3, 0, 0, 1); !errors.Is(err, ErrVersionGone) {
		t.Errorf("scan of the version before: %v", err)
	}
	if _, _, _, err := st.Scan(run, 5, 0, 0, 1); !errors.Is(err, ErrNotReached) {
		t.Errorf("scan of a version to come: %v", err)
	}
}

func TestReshapeIsRefusedAtTheWrongTime(t *testing.T) {
	t.Parallel()
	s := example(2, 1)
	for name, c := range map[string]struct {
		steps  uint64
		lane   bool
		schema Schema
		want   error
	}{
		"another version":  {3, false, narrowed(s, 3, byNorm), ErrMismatch},
		"a step is open":   {3, true, narrowed(s, 4, byNorm), ErrMismatch},
		"unknown column":   {3, false, narrowed(s, 4, Carry{Table: 0, Column: "x", Norm: supernet.L2}), ErrInvalid},
		"unknown factor":   {3, false, narrowed(s, 4, Carry{Table: 0, Column: "embedding", Norm: supernet.L2, Times: "x"}), ErrInvalid},
		"unknown addend":   {3, false, narrowed(s, 4, Carry{Table: 0, Column: "embedding", Norm: supernet.L2, Plus: "x"}), ErrInvalid},
		"dims too many":    {3, false, narrowed(s, 4, Carry{Table: 0, Column: "embedding", Norm: supernet.L2, Dims: []uint32{0}}), ErrInvalid},
		"dims too large":   {3, false, narrowed(s, 4, Carry{Table: 0, Column: "embedding", Norm: supernet.L2, Dims: []uint32{0, 99}}), ErrInvalid},
		"an empty shard":   {0, false, narrowed(s, 1, byNorm), ErrMismatch},
		"a phase too many": {3, false, func() Schema { n := narrowed(s, 4, byNorm); n.Phase = 2; return n }(), ErrMismatch},
		"of another run":   {3, false, func() Schema { n := narrowed(s, 4, byNorm); n.Run++; return n }(), ErrMismatch},
	} {
		st, index := New(), uint64(1)
		if c.steps > 0 {
			st = configured(t, s)
			index = feed(t, []*State{st}, s, shard.Even(1), 1, 1, c.steps)
		}
		if c.lane {
			for _, cmd := range whole(s, c.steps+1, 0) {
				index++
				st.Apply(index, cmd)
			}
		}
		before := st.Hash()
		if r := st.Apply(index+1, configure(t, c.schema)); !errors.Is(r.Err, c.want) {
			t.Errorf("%s: %v, want %v", name, r.Err, c.want)
		}
		if st.Hash() != before {
			t.Errorf("%s: the state changed", name)
		}
	}
	bad := narrowed(s, 4, Carry{Table: 9})
	if _, err := MarshalSchema(bad); err == nil {
		t.Error("carry of a table that is not there was taken")
	}
	bad = s
	bad.Carry = []Carry{byNorm}
	if _, err := MarshalSchema(bad); err == nil {
		t.Error("carry in the first phase was taken")
	}
}

// A tensor may be carried over alone, and may begin with given values.
func TestReshapeCarriesOneTensorAndGivesAnotherItsValues(t *testing.T) {
	t.Parallel()
	s := example(2, 1)
	st := configured(t, s)
	index := feed(t, []*State{st}, s, shard.Even(1), 1, 1, 3)
	tensors := func(version uint64) [][]float32 {
		t.Helper()
		all := make([][]float32, len(st.model.dense))
		for i, d := range st.model.dense {
			all[i] = slices.Clone(d.weights())
		}
		return all
	}
	before := tensors(3)
	next := narrowed(s, 4, byNorm)
	next.Dense = slices.Clone(next.Dense)
	if len(next.Dense) < 2 {
		t.Fatalf("the example has %d tensors", len(next.Dense))
	}
	bad := next
	bad.Dense = slices.Clone(next.Dense)
	bad.Dense[0].Name, bad.Dense[0].Carry = "another", true
	if r := st.Apply(index+1, configure(t, bad)); r.Err == nil {
		t.Fatal("a tensor that is not there was carried over")
	}
	next.Dense[0].Carry = true
	for i := range next.Dense[1].Size {
		next.Dense[1].Values = append(next.Dense[1].Values, float32(i)/2)
	}
	if r := st.Apply(index+2, configure(t, next)); r.Err != nil {
		t.Fatal(r.Err)
	}
	after := tensors(4)
	if !slices.Equal(after[0], before[0]) || !slices.Equal(after[1], next.Dense[1].Values) {
		t.Errorf("tensors %v and %v, want %v and %v", after[0], after[1], before[0], next.Dense[1].Values)
	}
	next.Dense[1].Values = next.Dense[1].Values[1:]
	if _, err := MarshalSchema(next); err == nil {
		t.Error("a tensor with too few values was taken")
	}
}
