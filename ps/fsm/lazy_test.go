package fsm

import (
	"errors"
	"slices"
	"testing"

	"github.com/fathom-train/fathom/compute/optim"
	"github.com/fathom-train/fathom/ps/wire"
	"github.com/fathom-train/fathom/shard"
)

// everyRow is example with tables of which every step updates every row.
func everyRow(lanes, images int) Schema {
	s := example(lanes, images)
	s.Tables[0].Columns[0].Optimizer = optim.Config{Name: optim.SGD, LearningRate: .01, Momentum: 0.9, WeightDecay: .1, EveryRow: true}
	s.Tables[0].Columns[1].Optimizer = optim.Config{Name: optim.Adam, LearningRate: .01, WeightDecay: .05, EveryRow: true,
		WarmupSteps: 20, Schedule: optim.StepDown, DecaySteps: 30}
	return s
}

// densely applies a step to all rows that everything names, as if the tables
// were matrices.
func (r *reference) densely(step uint64, req *wire.PullRequest) {
	for i, ts := range r.schema.Tables {
		sum := map[shard.Key][]float32{}
		for lane := range r.schema.Lanes {
			w := labour(r.schema, step, lane)
			for j, k := range w.keys[i] {
				accumulate(sum, k, w.grads[i][j*ts.Width():(j+1)*ts.Width()])
			}
		}
		for _, k := range req.Tables[i].Keys {
			if g, ok := sum[k]; ok {
				r.row(i, k, g, optim.Step{T: step, Rate: factorAt(step / 40), Count: 1})
			} else if ts.Columns[0].Optimizer.EveryRow {
				r.row(i, k, make([]float32, ts.Width()), optim.Step{T: step, Rate: factorAt(step / 40), Count: 1})
			}
		}
	}
}

// The weights of a lazy table are those of one that is updated at once, to the
// bit, at every version that can be read, for any cut into shards, and with
// snapshots on the way.
func TestLazyRowsAreThoseOfADenseUpdate(t *testing.T) {
	t.Parallel()
	const lanes, images, steps = 2, 3, 600
	schema := everyRow(lanes, images)
	schema.Dense = nil
	ref, req := newReference(t, schema), everything(schema)
	var reads [][]float32
	reads = append(reads, ref.read(req))
	for step := uint64(1); step <= steps; step++ {
		ref.densely(step, req)
		reads = append(reads, ref.read(req))
	}
	var want [16]byte
	for _, n := range []int{1, 3} {
		m := shard.Even(n)
		var states []*State
		for range n {
			st := configured(t, schema)
			t.Cleanup(func() { st.Close() })
			states = append(states, st)
		}
		for step := uint64(1); step <= steps; step++ {
			for at := range states {
				for lane := range lanes {
					w := labour(schema, step, lane)
					b := wire.NewPush(wire.PushID{Factor: factorAt(step / 40), Run: run, Phase: 1, Step: step, Lane: uint16(lane)})
					for i, ts := range schema.Tables {
						cut := m.Cut(w.keys[i])
						lo, hi := cut[at], cut[at+1]
						b.Rows(ts.ID, ts.Width(), w.keys[i][lo:hi], make([]uint32, hi-lo), w.grads[i][lo*ts.Width():hi*ts.Width()])
					}
					for _, c := range b.Chunks() {
						apply(t, states[at], slices.Clone(c), Accepted)
					}
				}
				if step%97 == 0 {
					states[at] = reopened(t, states[at])
				}
			}
			if n > 1 || step%7 != 0 && step < steps-20 {
				continue
			}
			before := states[0].Hash()
			for v := step - min(step, images); v <= step; v++ {
				got := lookup(t, states[0], v, req)
				for i := range got {
					if got[i] != reads[v][i] {
						t.Fatalf("at version %d, value %d of version %d is %v, the dense update gives %v", step, i, v, got[i], reads[v][i])
					}
				}
			}
			if states[0].Hash() != before {
				t.Fatal("reading changed the state")
			}
		}
		var hashes [][16]byte
		for _, st := range states {
			hashes = append(hashes, st.Hash())
		}
		if n == 1 {
			want = SumHashes(hashes...)
			_, weights, total, err := states[0].Scan(run, steps, 0, 0, 1000)
			if err != nil || total != 40 {
				t.Fatalf("scan of %d rows: %v", total, err)
			}
			for _, v := range weights {
				if !slices.Contains(reads[steps], v) {
					t.Fatalf("a scan reads %v, which no row has", v)
				}
			}
		}
		if got := SumHashes(hashes...); got != want {
			t.Errorf("%d shards: the model hashes to %x, in one shard to %x", n, got, want)
		}
	}
}

func TestForgedFactorsAreRefused(t *testing.T) {
	lazy := func() *model { return configured(t, everyRow(1, 1)).model }
	m := lazy()
	m.keepFactor(optim.Step{T: 3, Rate: 0.5})
	m.keepFactor(optim.Step{T: 4, Rate: 0.5})
	m.keepFactor(optim.Step{T: 9, Rate: 0.1})
	good := m.appendFactors(nil)
	if again := lazy(); again.loadFactors(good) != nil || !slices.Equal(again.factors, m.factors) || len(m.factors) != 2 {
		t.Errorf("factors %v are read as %v", m.factors, again.factors)
	}
	for name, b := range map[string][]byte{
		"cut off": good[:20], "out of order": append(slices.Clone(good[16:]), good[:16]...),
		"not a number": append(slices.Clone(good[:8]), 0, 0, 0xc0, 0x7f, 0, 0, 0, 0),
	} {
		if err := lazy().loadFactors(b); !errors.Is(err, ErrSnapshot) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := configured(t, example(1, 1)).model.loadFactors(good); !errors.Is(err, ErrSnapshot) {
		t.Errorf("factors of a model without lazy tables: %v", err)
	}
}
