package fsm

import (
	"fmt"
	"math"
	"testing"

	"github.com/fathom-train/fathom/compute/optim"
	"github.com/fathom-train/fathom/compute/random"
	"github.com/fathom-train/fathom/ps/table"
	"github.com/fathom-train/fathom/ps/wire"
	"github.com/fathom-train/fathom/shard"
)

// noisy has two tables and two tensors of which the second is pushed noisily.
func noisy(lanes int) Schema {
	sgd := optim.Config{Name: optim.SGD, LearningRate: 1}
	column := []table.Column{{Name: "w", Width: 2, Optimizer: sgd}}
	return Schema{
		Job: "noisy", Run: run, Seed: 5, Lanes: lanes, PreImages: 1, NoiseScale: 0.5, NoiseDense: []uint16{0, 1, 7},
		Tables: []table.Schema{{ID: 0, Name: "calm", Columns: column}, {ID: 1, Name: "noisy", Columns: column}},
		Dense:  []DenseTensor{{ID: 0, Name: "calm", Size: 2, Optimizer: sgd}, {ID: 1, Name: "noisy", Size: 2, Optimizer: sgd}},
	}
}

// Lanes that agree leave the rate alone; lanes that differ lower it as the
// formula says, by a variance worked out by hand.
func TestNoiseLowersTheRate(t *testing.T) {
	st := configured(t, noisy(2))
	defer func() { st.Close() }()
	request := &wire.PullRequest{Run: run, Tables: []wire.TableKeys{{Table: 0, Keys: []shard.Key{9}}, {Table: 1, Keys: []shard.Key{9}}}, Dense: []uint16{0, 1}}
	want := make([]float64, 8)
	variance := 0.0
	for step := uint64(1); step <= 4; step++ {
		spread := float32(step) // of a lane's gradient around the mean of 1 per weight
		for lane := range 2 {
			sign := float32(1 - 2*lane)
			b := wire.NewPush(wire.PushID{Factor: 1, Run: run, Phase: 1, Step: step, Lane: uint16(lane)})
			calm, loud := []float32{1, 1}, []float32{1 + sign*spread, 1 - sign*spread}
			b.Rows(0, 2, []shard.Key{9}, []uint32{1}, calm)
			b.Rows(1, 2, []shard.Key{9}, []uint32{1}, loud)
			b.Dense(0, calm)
			b.Dense(1, loud)
			apply(t, st, b.Chunks()[0], Accepted)
		}
		p, err := st.Partial(run, step, 0)
		if err != nil || p.Rounds != 1 {
			t.Fatalf("%+v, %v", p, err)
		}
		r := wire.Reduce{Run: run, Step: step}
		for _, s := range p.Sums {
			r.Totals = append(r.Totals, s.Float64())
		}
		apply(t, st, wire.AppendReduce(nil, r), Accepted)
		st = reopened(t, st)
		// Two lanes with gradients 1+s and 1-s: the sum's variance is 2*2*s*s/2... of
		// L/(L-1) * sum of (g_l - G/L)^2 = 2 * 2*s*s.
		v := 4 * float64(spread) * float64(spread)
		if step == 1 {
			variance = v
		} else {
			variance = 0.99*variance + 0.01*v
		}
		factor := math.Sqrt(0.5 / math.Sqrt(0.25+variance))
		for i := range want {
			if i/2%2 == 0 {
				want[i] -= 2
			} else {
				want[i] -= 2 * factor
			}
		}
		for i, v := range lookup(t, st, step, request) {
			if math.Abs(float64(v)-want[i]) > 1e-5 {
				t.Fatalf("step %d: weight %d is %v, want %v", step, i, v, want[i])
			}
		}
	}
}

// Of three layers one is trained at a time; which one is a matter of the seed and
// the step, and every one has its turn.
func TestFrozenLayersDoNotChange(t *testing.T) {
	schema := Schema{Job: "frozen", Run: run, Seed: 5, Lanes: 1, Freeze: &Freeze{Layers: 3, Active: 1, Every: 4}}
	for id := range uint16(4) {
		schema.Dense = append(schema.Dense, DenseTensor{ID: id, Name: fmt.Sprint(id), Size: 1, Layer: int(id),
			Init: random.Init{}, Optimizer: optim.Config{Name: optim.SGD, LearningRate: 1}})
	}
	st := configured(t, schema)
	defer st.Close()
	request := &wire.PullRequest{Run: run, Dense: []uint16{0, 1, 2, 3}}
	before := lookup(t, st, 0, request)
	turns, active := map[int]int{}, 0
	for step := uint64(1); step <= 200; step++ {
		b := wire.NewPush(wire.PushID{Factor: 1, Run: run, Phase: 1, Step: step})
		for id := range uint16(4) {
			b.Dense(id, []float32{-1})
		}
		apply(t, st, b.Chunks()[0], Accepted)
		now := lookup(t, st, step, request)
		var moved []int
		for i := range now {
			if now[i] != before[i] {
				moved = append(moved, i)
			}
		}
		if len(moved) != 2 || moved[0] != 0 {
			t.Fatalf("step %d: tensors %v moved, want 0 and another", step, moved)
		}
		if step%4 != 1 && moved[1] != active {
			t.Fatalf("step %d: layer %d after layer %d, before its steps were over", step, moved[1], active)
		}
		active = moved[1]
		turns[active]++
		before = now
	}
	if len(turns) != 3 {
		t.Errorf("turns of the layers: %v", turns)
	}
}
