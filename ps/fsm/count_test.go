package fsm

import (
	"testing"

	"github.com/fathom-train/fathom/compute/optim"
	"github.com/fathom-train/fathom/ps/table"
	"github.com/fathom-train/fathom/ps/wire"
	"github.com/fathom-train/fathom/shard"
)

// cowclip bounds a row's gradient by how often its key is in the global batch: the
// sum of what the lanes count.
func TestCountsOfAllLanesBoundTheGradient(t *testing.T) {
	// Adam alone takes steps of the same size whatever the gradient; an epsilon this
	// large lets the size show.
	c := optim.Config{Name: optim.CowClip, Epsilon: 1, ClipFloor: 0.01, LearningRate: 1}
	s := Schema{Job: "counted", Run: run, Lanes: 3, PreImages: 1,
		Tables: []table.Schema{{ID: 0, Name: "rows", Columns: []table.Column{{Name: "w", Width: 2, Optimizer: c}}}}}
	st := configured(t, s)
	defer st.Close()
	want, slots := make([]float32, 2), make([]float32, 4)
	for step, counts := range [][]uint32{{2, 3, 0}, {1, 0, 0}, {40, 1, 7}} {
		step := uint64(step + 1)
		var sum, all = []float32{0, 0}, uint32(0)
		for lane, n := range counts {
			b := wire.NewPush(wire.PushID{Factor: 1, Run: run, Phase: 1, Step: step, Lane: uint16(lane)})
			if n > 0 {
				b.Rows(0, 2, []shard.Key{9}, []uint32{n}, []float32{9, 4})
				sum, all = add(sum, []float32{9, 4}), all+n
			}
			apply(t, st, b.Chunks()[0], Accepted)
		}
		optimizer(c).Update(want, slots, sum, optim.Step{T: step, Rate: 1, Count: all})
		got := lookup(t, st, step, &wire.PullRequest{Run: run, Tables: []wire.TableKeys{{Table: 0, Keys: []shard.Key{9}}}})
		for i := range want {
			if got[i] != want[i] {
				t.Errorf("step %d: weights %v, want %v", step, got, want)
				break
			}
		}
	}
}
