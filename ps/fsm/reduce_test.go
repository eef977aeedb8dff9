package fsm

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/fathom-train/fathom/compute/exact"
	"github.com/fathom-train/fathom/compute/optim"
	"github.com/fathom-train/fathom/ps/wire"
	"github.com/fathom-train/fathom/shard"
)

// reducing is example with a bound of all gradients and layers that are tables.
func reducing(lanes int) Schema {
	s := example(lanes, 1)
	s.ClipNorm = 3
	for i := range s.Tables {
		for j := range s.Tables[i].Columns {
			s.Tables[i].Columns[j].Optimizer = optim.Config{Name: optim.LAMB, LearningRate: .01, Granularity: optim.Table}
		}
	}
	s.Tables[1].Columns[0].Optimizer = optim.Config{Name: optim.LARS, LearningRate: .1, Granularity: optim.Table}
	return s
}

// shardsOf configures the shards of a model.
func shardsOf(t testing.TB, schema Schema, n int) (states []*State, m shard.Map, placed []shard.ID) {
	m, placed = shard.Even(n), shard.PlaceDense([]int{60, 3, 7}, n)
	for at := range n {
		part := schema
		part.Dense = nil
		for i, d := range schema.Dense {
			if int(placed[i]) == at {
				part.Dense = append(part.Dense, d)
			}
		}
		st := configured(t, part)
		t.Cleanup(st.Close)
		states = append(states, st)
	}
	return states, m, placed
}

// total sums a round over the shards.
func total(t testing.TB, states []*State, step uint64, round int) wire.Reduce {
	t.Helper()
	var sums []exact.Sum
	for _, st := range states {
		p, err := st.Partial(run, step, round)
		if err != nil || p.Rounds != 2 || p.Totals != nil {
			t.Fatalf("part of step %d round %d: %+v, %v", step, round, p, err)
		}
		if sums == nil {
			sums = make([]exact.Sum, len(p.Sums))
		}
		for i, s := range p.Sums {
			sums[i].Merge(s)
		}
	}
	r := wire.Reduce{Run: run, Step: step, Round: uint32(round)}
	for _, s := range sums {
		r.Totals = append(r.Totals, s.Float64())
	}
	return r
}

func apply(t testing.TB, st *State, cmd []byte, want Status) Result {
	t.Helper()
	r := st.Apply(1, cmd)
	if r.Status != want {
		t.Fatalf("%v, want %v: %v", r.Status, want, r.Err)
	}
	return r
}

func TestReducedStepsDoNotDependOnTheShards(t *testing.T) {
	t.Parallel()
	const lanes, steps = 3, 9
	schema := reducing(lanes)
	var want [16]byte
	var reads []float32
	for _, n := range []int{1, 2, 5} {
		states, m, placed := shardsOf(t, schema, n)
		for step := uint64(1); step <= steps; step++ {
			for at, st := range states {
				for lane := range lanes {
					for _, cmd := range labour(schema, step, lane).commands(schema, step, lane, m, at, placed) {
						apply(t, st, cmd, Accepted)
					}
				}
				if v, _ := st.Version(); v != step-1 {
					t.Fatalf("version %d before the sums of step %d are known", v, step)
				}
				if step%3 == 1 && n == 2 { // a complete step that waits survives a snapshot
					states[at] = reopened(t, st)
				}
			}
			for round := range 2 {
				r := total(t, states, step, round)
				for at, st := range states {
					apply(t, st, wire.AppendReduce(nil, r), Accepted)
					apply(t, st, wire.AppendReduce(nil, r), Duplicate)
					if step%3 == 2 && n == 2 {
						states[at] = reopened(t, st)
					}
				}
			}
			for _, st := range states {
				if v, _ := st.Version(); v != step {
					t.Fatalf("version %d behind the sums of step %d", v, step)
				}
				// A shard that applied the step still tells those that did not.
				if p, err := st.Partial(run, step, 1); err != nil || len(p.Totals) != 6 {
					t.Fatalf("totals of the step applied last: %+v, %v", p, err)
				}
			}
		}
		var hashes [][16]byte
		for _, st := range states {
			hashes = append(hashes, st.Hash())
		}
		sum := SumHashes(hashes...)
		if n == 1 {
			want, reads = sum, lookup(t, states[0], steps, everything(schema))
		}
		if sum != want {
			t.Errorf("%d shards: the model hashes to %x, in one shard to %x", n, sum, want)
		}
	}
	ref := newReference(t, schema)
	ref.reduced(t, steps)
	for i, w := range ref.read(everything(schema)) {
		if math.Abs(float64(w-reads[i])) > 2e-5*(1+math.Abs(float64(w))) {
			t.Fatalf("weight %d is %v, the plain computation gives %v", i, reads[i], w)
		}
	}
}

// reduced computes steps with clipping and one ratio per column of a table.
func (r *reference) reduced(t testing.TB, steps uint64) {
	clipped := 0
	for step := uint64(1); step <= steps; step++ {
		var sums []map[shard.Key][]float32
		var dense [][]float32
		squares := 0.0
		count := func(g []float32) {
			for _, x := range g {
				squares += float64(x) * float64(x)
			}
		}
		for i, ts := range r.schema.Tables {
			sum := map[shard.Key][]float32{}
			for lane := range r.schema.Lanes {
				w := labour(r.schema, step, lane)
				for j, k := range w.keys[i] {
					accumulate(sum, k, w.grads[i][j*ts.Width():(j+1)*ts.Width()])
				}
			}
			for _, g := range sum {
				count(g)
			}
			sums = append(sums, sum)
		}
		for i, d := range r.schema.Dense {
			var sum []float32
			for lane := range r.schema.Lanes {
				if g := labour(r.schema, step, lane).dense[i]; g != nil {
					sum = add(sum, g)
				}
			}
			if d.Optimizer.Name != optim.EMA {
				count(sum)
			}
			dense = append(dense, sum)
		}
		factor := float32(min(1, float64(r.schema.ClipNorm)/math.Sqrt(squares)))
		if factor < 1 {
			clipped++
		}
		at := optim.Step{T: step, Rate: factorAt(step), Count: 1}
		for i, ts := range r.schema.Tables {
			off := 0
			for _, c := range ts.Columns {
				r.column(i, off, c.Width, optimizer(c.Optimizer).(optim.Layerwise), sums[i], factor, at)
				off += c.Width
			}
		}
		for i, d := range r.schema.Dense {
			if dense[i] == nil {
				continue
			}
			if d.Optimizer.Name != optim.EMA {
				scale(dense[i], factor)
			}
			optimizer(d.Optimizer).Update(r.dense[i][:d.Size], r.dense[i][d.Size:], dense[i], at)
		}
	}
	if clipped == 0 {
		t.Error("no step was clipped: the test tests nothing")
	}
}

func scale(g []float32, by float32) {
	for i := range g {
		g[i] *= by
	}
}

// column updates one column of all rows of a step as one layer: a copy of it,
// put together, is what the optimizer sees.
func (r *reference) column(i, off, width int, o optim.Layerwise, sums map[shard.Key][]float32, factor float32, at optim.Step) {
	var keys []shard.Key
	for k := range sums {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	n, per := len(keys)*width, o.Slots(width)/width
	w, slots, g := make([]float32, n), make([]float32, n*per), make([]float32, n)
	from := func(row []float32) (weights []float32, slot func(s int) []float32) {
		first := r.init[i].Width()
		for _, c := range r.schema.Tables[i].Columns {
			if off == 0 {
				break
			}
			if c.Width == off {
				first += optimizer(c.Optimizer).Slots(c.Width)
			}
		}
		return row[off : off+width], func(s int) []float32 { return row[first+s*width : first+(s+1)*width] }
	}
	for j, k := range keys {
		if _, ok := r.rows[i][k]; !ok {
			row := make([]float32, r.init[i].RowFloats())
			r.init[i].Init(row, k)
			r.rows[i][k] = row
		}
		weights, slot := from(r.rows[i][k])
		copy(w[j*width:], weights)
		for s := range per {
			copy(slots[s*n+j*width:], slot(s))
		}
		copy(g[j*width:(j+1)*width], sums[k][off:])
	}
	scale(g, factor)
	o.Update(w, slots, g, at)
	for j, k := range keys {
		weights, slot := from(r.rows[i][k])
		copy(weights, w[j*width:])
		for s := range per {
			copy(slot(s), slots[s*n+j*width:])
		}
	}
}

func TestWrongTotalsAreRefused(t *testing.T) {
	schema := reducing(1)
	st := configured(t, schema)
	defer st.Close()
	send := func(r wire.Reduce, want Status, word string) {
		t.Helper()
		res := apply(t, st, wire.AppendReduce(nil, r), want)
		if (res.Err == nil) != (word == "") || res.Err != nil && !strings.Contains(res.Err.Error(), word) {
			t.Errorf("error %v, want a word of %q", res.Err, word)
		}
	}
	first := wire.Reduce{Run: run, Step: 1, Totals: []float64{4}}
	send(first, Invalid, "not complete")
	if _, err := st.Partial(run, 1, 0); !errors.Is(err, ErrNotReached) {
		t.Errorf("part of an incomplete step: %v", err)
	}
	for _, cmd := range whole(schema, 1, 0) {
		apply(t, st, cmd, Accepted)
	}
	send(wire.Reduce{Run: 1, Step: 1, Totals: []float64{4}}, Mismatch, "run")
	send(wire.Reduce{Run: run, Step: 2, Totals: []float64{4}}, Ahead, "step 2")
	send(wire.Reduce{Run: run, Step: 1, Round: 1, Totals: []float64{4}}, Ahead, "round 1")
	send(wire.Reduce{Run: run, Step: 1, Totals: []float64{4, 4}}, Invalid, "2 totals")
	send(first, Accepted, "")
	send(wire.Reduce{Run: run, Step: 1, Totals: []float64{5}}, Mismatch, "different")
	send(first, Duplicate, "")
	if p, err := st.Partial(run, 1, 0); err != nil || !slices.Equal(p.Totals, first.Totals) {
		t.Errorf("totals of the first round: %+v, %v", p, err)
	}
	if _, err := st.Partial(run+1, 1, 0); !errors.Is(err, ErrWrongRun) {
		t.Errorf("part of another run: %v", err)
	}
	if _, err := st.Partial(run, 0, 0); !errors.Is(err, ErrVersionGone) {
		t.Errorf("part of step 0: %v", err)
	}
	if p, err := st.Partial(run, 9, 2); err != nil || p.Rounds != 2 || p.Totals != nil {
		t.Errorf("a round there is none of: %+v, %v", p, err)
	}
}

func TestForgedTotalsAreRefused(t *testing.T) {
	r := reduction{rounds: reducing(1).rounds()}
	r.totals = [][]float64{{9}}
	good := r.appendTotals(nil)
	for name, b := range map[string][]byte{
		"empty": nil, "cut off": good[:len(good)-1], "too long": append(slices.Clone(good), 0),
		"all rounds known": {0, 0, 0, 0, 2, 0, 0, 0}, "half of the last": {1, 0, 0, 0, 0, 0, 0, 0},
		"not a number": append([]byte{0, 0, 0, 0, 1, 0, 0, 0}, 0, 0, 0, 0, 0, 0, 0xf8, 0x7f),
	} {
		if err := (&reduction{rounds: r.rounds}).loadTotals(b); !errors.Is(err, ErrSnapshot) {
			t.Errorf("%s: %v", name, err)
		}
	}
	again := reduction{rounds: r.rounds}
	if err := again.loadTotals(good); err != nil || again.totals[0][0] != 9 {
		t.Errorf("%v, %v", again.totals, err)
	}
}
