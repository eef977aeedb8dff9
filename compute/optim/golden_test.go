package optim

import (
	"encoding/json"
	"math"
	"os"
	"slices"
	"testing"
)

// testdata/golden.py computed the values, with PyTorch where it has the
// optimizer.
func TestOptimizersFollowTheirReferences(t *testing.T) {
	text, err := os.ReadFile("testdata/golden.json")
	if err != nil {
		t.Fatal(err)
	}
	var golden struct {
		Start  []float32
		Grads  [][]float32
		Counts []uint32
		Cases  []struct {
			Config Config
			Want   []float64
		}
	}
	if err := json.Unmarshal(text, &golden); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, c := range golden.Cases {
		o := mustNew(t, c.Config)
		w, parts := slices.Clone(golden.Start), slices.Clone(golden.Start)
		slots, first, second := make([]float32, o.Slots(len(w))), make([]float32, o.Slots(2)), make([]float32, o.Slots(len(w)-2))
		layers, _ := o.(Layerwise)
		for i, g := range golden.Grads {
			s := Step{T: uint64(i + 1), Rate: 1, Count: golden.Counts[i]}
			o.Update(w, slots, g, s)
			if layers != nil && (c.Config.Name == LAMB || c.Config.Name == LARS) { // one layer of two rows
				w1, u1 := layers.Norms(parts[:2], first, g[:2], s)
				w2, u2 := layers.Norms(parts[2:], second, g[2:], s)
				s.Trust = layers.Ratio(float64(w1)+float64(w2), float64(u1)+float64(u2))
				o.Update(parts[:2], first, g[:2], s)
				o.Update(parts[2:], second, g[2:], s)
			} else {
				copy(parts, w)
			}
		}
		for i, want := range c.Want {
			for _, v := range []float32{w[i], parts[i]} {
				if math.Abs(float64(v)-want) > 3e-6*(1+math.Abs(want)) {
					t.Errorf("%+v: weight %d is %v, want %v", c.Config, i, v, want)
				}
			}
		}
		seen[c.Config.Name] = true
	}
	for _, name := range Names() {
		if !seen[name] {
			t.Errorf("no reference of %s", name)
		}
	}
}

func TestSchedules(t *testing.T) {
	for _, c := range []struct {
		c    Config
		t    uint64
		want float64
	}{
		{Config{}, 1, 1},
		{Config{WarmupSteps: 10}, 1, 0.1},
		{Config{WarmupSteps: 10}, 10, 1},
		{Config{WarmupSteps: 10}, 11, 1},
		{Config{Schedule: StepDown, DecaySteps: 5, DecayRate: 0.5}, 4, 1},
		{Config{Schedule: StepDown, DecaySteps: 5, DecayRate: 0.5}, 5, 0.5},
		{Config{Schedule: StepDown, DecaySteps: 5, DecayRate: 0.5, WarmupSteps: 2}, 17, 0.125},
		{Config{Schedule: Cosine, DecaySteps: 100}, 50, 0.5},
		{Config{Schedule: Cosine, DecaySteps: 100, LeastRate: 0.1}, 100, 0.1},
		{Config{Schedule: Cosine, DecaySteps: 100, LeastRate: 0.1}, 1 << 40, 0.1},
		{Config{Schedule: Linear, DecaySteps: 4}, 3, 0.25},
		{Config{Schedule: Linear, DecaySteps: 4}, 5, 0},
	} {
		if got := float64(c.c.factor(c.t)); math.Abs(got-c.want) > 1e-7 {
			t.Errorf("%+v: factor %v at step %d, want %v", c.c, got, c.t, c.want)
		}
	}
	for x := 0.0; x <= 1; x += 1.0 / 512 {
		if got, want := cosine(x), math.Cos(math.Pi*x); math.Abs(got-want) > 1e-15 {
			t.Errorf("cos(%v pi) = %v, want %v", x, got, want)
		}
	}
}

// Without clipping, cowclip is adam; and what it clips to grows with the count.
func TestCowClipBoundsByTheCount(t *testing.T) {
	moved := func(count uint32, g float32) float64 {
		o := mustNew(t, Config{Name: CowClip, Epsilon: 1, ClipFloor: 0.01})
		w, slots := []float32{0.03, 0.04}, make([]float32, 4)
		o.Update(w, slots, []float32{g, 0}, Step{T: 1, Rate: 1, Count: count})
		return float64(slots[0]) * 10 // the clipped gradient
	}
	for _, c := range []struct {
		count uint32
		g     float32
		want  float64
	}{{1, 9, 0.05}, {3, 9, 0.15}, {0, 9, 0.05}, {3, 0.1, 0.1}, {3, -9, -0.15}} {
		if got := moved(c.count, c.g); math.Abs(got-c.want) > 1e-6 {
			t.Errorf("count %d, gradient %v: clipped to %v, want %v", c.count, c.g, got, c.want)
		}
	}
}
