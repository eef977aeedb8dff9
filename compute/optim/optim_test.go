package optim

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"github.com/fathom-train/fathom/compute/kernel"
	"github.com/google/go-cmp/cmp"
)

func mustNew(t testing.TB, c Config) Optimizer {
	t.Helper()
	o, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func normals(r *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(r.NormFloat64())
	}
	return x
}

// reference is LAMB and Adam once more, in float64, straight from the papers.
type reference struct {
	c       Config
	w, m, v []float64
}

func (r *reference) update(g []float32, t uint64) {
	c := r.c
	b1, b2 := float64(c.Beta1), float64(c.Beta2)
	u := make([]float64, len(g))
	var ww, uu float64
	for i := range g {
		gi := float64(g[i])
		if c.Name == Adam {
			gi += float64(c.WeightDecay) * r.w[i]
		}
		r.m[i] = b1*r.m[i] + (1-b1)*gi
		r.v[i] = b2*r.v[i] + (1-b2)*gi*gi
		mh, vh := r.m[i]/(1-math.Pow(b1, float64(t))), r.v[i]/(1-math.Pow(b2, float64(t)))
		u[i] = mh / (math.Sqrt(vh) + float64(c.Epsilon))
		if c.Name == LAMB {
			u[i] += float64(c.WeightDecay) * r.w[i]
		}
		ww += r.w[i] * r.w[i]
		uu += u[i] * u[i]
	}
	ratio := 1.0
	if c.Name == LAMB {
		weight := max(math.Sqrt(ww), float64(c.TrustFloor))
		if weight > 0 && uu > 0 {
			ratio = max(weight/math.Sqrt(uu), float64(c.TrustMin))
			if c.TrustMax > 0 {
				ratio = min(ratio, float64(c.TrustMax))
			}
		}
	}
	for i := range u {
		r.w[i] -= float64(c.LearningRate) * ratio * u[i]
	}
}

func wide(x []float32) []float64 {
	y := make([]float64, len(x))
	for i, v := range x {
		y[i] = float64(v)
	}
	return y
}

func TestMomentsFollowThePapers(t *testing.T) {
	for _, c := range []Config{
		{Name: LAMB},
		{Name: LAMB, LearningRate: 0.1, WeightDecay: 0.01},
		{Name: LAMB, LearningRate: 0.1, TrustFloor: 20, TrustMax: 3},
		{Name: LAMB, LearningRate: 0.1, TrustMin: 2},
		{Name: Adam},
		{Name: Adam, LearningRate: 0.05, Beta1: 0.8, Beta2: 0.99, Epsilon: 1e-5, WeightDecay: 0.1},
	} {
		c = c.WithDefaults()
		for _, n := range []int{1, 2, 8, 10, 16, 17, 64, 65, 1000} {
			r := rand.New(rand.NewPCG(uint64(n), 1))
			o, w := mustNew(t, c), normals(r, n)
			slots := make([]float32, o.Slots(n))
			ref := reference{c, wide(w), make([]float64, n), make([]float64, n)}
			for step := uint64(1); step <= 30; step++ {
				g := normals(r, n)
				o.Update(w, slots, g, At(step))
				ref.update(g, step)
			}
			for i := range w {
				if d := math.Abs(float64(w[i]) - ref.w[i]); d > 2e-5*(1+math.Abs(ref.w[i])) {
					t.Fatalf("%+v, %d weights: weight %d is %v after 30 steps, want %v", c, n, i, w[i], ref.w[i])
				}
				if d := math.Abs(float64(slots[i]) - ref.m[i]); d > 1e-5 {
					t.Fatalf("%+v, %d weights: moment %d is %v, want %v", c, n, i, slots[i], ref.m[i])
				}
				if d := math.Abs(float64(slots[n+i]) - ref.v[i]); d > 1e-5 {
					t.Fatalf("%+v, %d weights: second moment %d is %v, want %v", c, n, i, slots[n+i], ref.v[i])
				}
			}
		}
	}
}

// One step of LAMB from zero moments moves along sign(g) by lr*|w|/sqrt(n),
// whatever the size of g: worked out by hand.
func TestLAMBFirstStepByHand(t *testing.T) {
	o := mustNew(t, Config{Name: LAMB, LearningRate: 0.1})
	w, slots := []float32{3, 4}, make([]float32, 4)
	o.Update(w, slots, []float32{10, -0.5}, At(1))
	step := 0.1 * 5 / math.Sqrt2
	for i, want := range []float64{3 - step, 4 + step} {
		if math.Abs(float64(w[i])-want) > 1e-5 {
			t.Errorf("weight %d is %v, want %v", i, w[i], want)
		}
	}
}

func TestTrustRatio(t *testing.T) {
	for _, c := range []struct {
		name    string
		config  Config
		w, u    float32 // norms
		want    float32
		problem string
	}{
		{name: "plain", w: 6, u: 2, want: 3},
		{name: "zero weights", w: 0, u: 2, want: 1},
		{name: "zero direction", w: 6, u: 0, want: 1},
		{name: "both zero", w: 0, u: 0, want: 1},
		{name: "floor lifts zero weights", config: Config{TrustFloor: 1}, w: 0, u: 2, want: 0.5},
		{name: "floor below the norm", config: Config{TrustFloor: 1}, w: 6, u: 2, want: 3},
		{name: "floor, zero direction", config: Config{TrustFloor: 1}, w: 6, u: 0, want: 1},
		{name: "clipped above", config: Config{TrustMax: 2}, w: 6, u: 2, want: 2},
		{name: "clipped below", config: Config{TrustMin: 4}, w: 6, u: 2, want: 4},
		{name: "inside", config: Config{TrustMin: 1, TrustMax: 5}, w: 6, u: 2, want: 3},
		{name: "broken direction", w: 6, u: float32(math.NaN()), want: 1},
	} {
		c.config.Name = LAMB
		o := mustNew(t, c.config).(*moments)
		if got := o.trust(c.w*c.w, c.u*c.u); got != c.want {
			t.Errorf("%s: ratio %v, want %v", c.name, got, c.want)
		}
	}
}

// A vector that lamb leaves out moves as by adam without decay, one of lars as by
// momentum; everything else as if nothing was said.
func TestExcludedVectors(t *testing.T) {
	update := func(c Config) []float32 {
		o := mustNew(t, c)
		w, g := []float32{3, -0.2, 0}, []float32{0.5, -2, 0.1}
		slots := make([]float32, o.Slots(len(w)))
		for step := range uint64(5) {
			o.Update(w, slots, g, At(step+1))
		}
		return w
	}
	for _, c := range []struct{ said, vector Config }{
		{Config{Name: LAMB, WeightDecay: 0.1, TrustFloor: 2}, Config{Name: Adam, Epsilon: 1e-6}},
		{Config{Name: LARS, WeightDecay: 0.1, Momentum: 0.8, LearningRate: 0.1}, Config{Name: SGD, Momentum: 0.8, LearningRate: 0.1}},
	} {
		excluding := c.said
		excluding.ExcludeVectors = true
		for _, of := range []struct{ got, want Config }{
			{excluding.ForTensor(1), c.vector}, {excluding.ForTensor(2), c.said}, {c.said.ForTensor(1), c.said},
		} {
			got, want := update(of.got), update(of.want)
			for i := range want {
				if math.Abs(float64(got[i]-want[i])) > 1e-6 {
					t.Errorf("%+v: weights %v, want %v", of.got, got, want)
					break
				}
			}
		}
	}
}

func TestZeroWeightsLearn(t *testing.T) {
	o := mustNew(t, Config{Name: LAMB, LearningRate: 0.1})
	w, slots := make([]float32, 3), make([]float32, 6)
	o.Update(w, slots, []float32{1, 0, -1}, At(1))
	if want := []float32{-0.1, 0, 0.1}; math.Abs(float64(w[0]-want[0])) > 1e-6 || w[1] != 0 || w[2] != -w[0] {
		t.Errorf("weights %v, want about %v", w, want)
	}
	before := append([]float32(nil), w...)
	o.Update(w, make([]float32, 6), make([]float32, 3), At(2))
	if diff := cmp.Diff(before, w); diff != "" {
		t.Errorf("a zero gradient without history moved the weights (-before +after)\n%s", diff)
	}
}

func TestSGD(t *testing.T) {
	f := func(c Config, steps int, want float32) {
		t.Helper()
		o := mustNew(t, c)
		w, slots := []float32{1}, make([]float32, o.Slots(1))
		for i := range steps {
			o.Update(w, slots, []float32{2}, At(uint64(i+1)))
		}
		if math.Abs(float64(w[0]-want)) > 1e-6 {
			t.Errorf("%+v: %v after %d steps, want %v", c, w[0], steps, want)
		}
	}
	f(Config{Name: SGD, LearningRate: 0.1}, 2, 0.6)
	f(Config{Name: SGD, LearningRate: 0.1, WeightDecay: 0.5}, 1, 0.75)                // 1 - 0.1*(2+0.5*1)
	f(Config{Name: SGD, LearningRate: 0.1, Momentum: 0.5}, 2, 0.5)                    // b = 2, 3
	f(Config{Name: SGD, LearningRate: 0.1, Momentum: 0.5, WeightDecay: 0.5}, 1, 0.75) // b = 2.5
	f(Config{Name: EMA}, 1, 1.1)
	f(Config{Name: EMA, Momentum: 0.5}, 2, 1.75)
	f(Config{Name: EMA, Momentum: 1}, 1, 2)
}

// everyOptimizer covers each code path of Update.
var everyOptimizer = []Config{
	{Name: LAMB, WeightDecay: 0.01, TrustFloor: 0.1, TrustMax: 10}, {Name: Adam, WeightDecay: 0.01}, {Name: SGD},
	{Name: SGD, Momentum: 0.9, WeightDecay: 0.01}, {Name: SGD, WeightDecay: 0.01}, {Name: EMA},
	{Name: AdamW}, {Name: LAMB, Convention: Apex, Coupled: true, SumGradients: true, WeightDecay: 0.01},
	{Name: LARS, WeightDecay: 0.01, TrustFloor: 0.1}, {Name: CowClip, WeightDecay: 0.01, ClipRatio: 0.1},
	{Name: SGD, Momentum: 0.9, Nesterov: true, WeightDecay: 0.01}, {Name: AdaGrad}, {Name: RowAdaGrad, Accumulator: 0.1}, {Name: FTRL, L1: 0.01},
	{Name: Adam, WarmupSteps: 100, Schedule: Cosine, DecaySteps: 500},
}

func TestUpdateHasTheSameBitsOnEveryPath(t *testing.T) {
	special := []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1)), 1e-45, 3e38, -3e38, 0, math.Float32frombits(0xffc12345)}
	for _, c := range append(everyOptimizer, Config{Name: LAMB}, Config{Name: LAMB, TrustMin: 2}, Config{Name: LAMB, TrustFloor: 3e38, TrustMax: 3e38}) {
		for n := range 80 {
			var want []float32
			for _, path := range kernel.Paths() {
				restore, err := kernel.SetPath(path)
				if err != nil {
					t.Fatal(err)
				}
				r := rand.New(rand.NewPCG(uint64(n), 3))
				o, w := mustNew(t, c), normals(r, n)
				slots := make([]float32, o.Slots(n))
				for step := range uint64(4) {
					g := normals(r, n)
					if n%4 == 3 && step > 0 {
						g[r.IntN(n)] = special[r.IntN(len(special))]
					}
					o.Update(w, slots, g, At(step+1))
				}
				restore()
				got := append(w, slots...)
				if want == nil {
					want = got
				}
				for i := range got {
					if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
						t.Fatalf("%+v, %d weights: float %d is %v on %s, %v on %s", c, n, i, got[i], path, want[i], kernel.Portable)
					}
				}
			}
		}
	}
}

// The bits after some steps are a golden value: a change is a change of every
// model.
func TestUpdateKeepsItsBits(t *testing.T) {
	var got []string
	for _, c := range everyOptimizer {
		o := mustNew(t, c)
		w, g := make([]float32, 10), make([]float32, 10)
		slots := make([]float32, o.Slots(10))
		for i := range w {
			w[i], g[i] = float32(i)/8-0.5, float32(i*i%7)/16-0.2
		}
		for step := range uint64(1000) {
			o.Update(w, slots, g, At(step+1))
		}
		h := uint64(14695981039346656037)
		for _, v := range append(w, slots...) {
			h = (h ^ uint64(math.Float32bits(v))) * 1099511628211
		}
		got = append(got, fmt.Sprintf("%s %016x", c.Name, h))
	}
	want := []string{
		"lamb 9540477173f7b7bb", "adam 036bbcbce73ba022", "sgd 112b7b67d2fe4a41",
		"sgd 8cf5147755439e6c", "sgd 3b98aa29e1118692", "ema 476f284d17f38edf",
		"adamw a045b2af17ff6b31", "lamb 42c682804bd3955c", "lars 270fa48fd485bb1e", "cowclip 12e5b81be99c93bf",
		"sgd 24e6e2e9d237e8f7", "adagrad cbf70fb43a15a165", "row_adagrad 853f15396ba38495", "ftrl 572b6087e6e4aa5d",
		"adam 8ab5638290ea4087",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// A layer of one weight has a way of its own; it must not show.
func TestOneWeightIsALayerLikeAnyOther(t *testing.T) {
	for _, c := range []Config{everyOptimizer[0], everyOptimizer[1], {Name: AdamW}} {
		o := mustNew(t, c).(*moments)
		r := rand.New(rand.NewPCG(4, 4))
		w, slots := normals(r, 1), make([]float32, 2)
		v, other := []float32{w[0]}, make([]float32, 2)
		for step := uint64(1); step < 200; step++ {
			g := normals(r, 1)
			o.Update(w, slots, g, At(step))
			o.apply(o.factors(At(step)), v, other[:1], other[1:], g, make([]float32, 1))
			if diff := cmp.Diff(append(v, other...), append(w, slots...)); diff != "" {
				t.Fatalf("%s, step %d (-general +one)\n%s", c.Name, step, diff)
			}
		}
	}
}

func TestConcurrentUpdatesOfDistinctRows(t *testing.T) {
	o := mustNew(t, Config{})
	const rows, n = 8, 100
	run := func(row int) []float32 {
		r := rand.New(rand.NewPCG(uint64(row), 9))
		w, slots := normals(r, n), make([]float32, 2*n)
		for step := uint64(1); step < 50; step++ {
			o.Update(w, slots, normals(r, n), At(step))
		}
		return w
	}
	var wg sync.WaitGroup
	var got [rows][]float32
	for row := range rows {
		wg.Go(func() { got[row] = run(row) })
	}
	wg.Wait()
	for row := range rows {
		if diff := cmp.Diff(run(row), got[row]); diff != "" {
			t.Errorf("row %d (-alone +together)\n%s", row, diff)
		}
	}
}

func TestPower(t *testing.T) {
	for _, c := range []struct {
		base float64
		n    uint64
	}{{0.9, 0}, {0.9, 1}, {0.999, 7}, {0.999, 100_000}, {0.9, math.MaxUint64}, {0.5, 10}} {
		if got, want := power(c.base, c.n), math.Pow(c.base, float64(c.n)); math.Abs(got-want) > 1e-12*want {
			t.Errorf("%v^%d = %v, want %v", c.base, c.n, got, want)
		}
	}
}

func TestUpdateDoesNotAllocate(t *testing.T) {
	for _, c := range everyOptimizer {
		for _, n := range []int{1, 16, 64, 5000} {
			o := mustNew(t, c)
			w, g := make([]float32, n), make([]float32, n)
			slots := make([]float32, o.Slots(n))
			if a := testing.AllocsPerRun(20, func() { o.Update(w, slots, g, At(5)) }); a > 0 {
				t.Errorf("%+v, %d weights: %v allocations per update, want 0", c, n, a)
			}
		}
	}
}

func TestMisuseIsABug(t *testing.T) {
	x := make([]float32, 4)
	for name, f := range map[string]func(){
		"short gradient": func() { mustNew(t, Config{}).Update(x, make([]float32, 8), x[:3], At(1)) },
		"short slots":    func() { mustNew(t, Config{}).Update(x, make([]float32, 7), x, At(1)) },
		"sgd slots":      func() { mustNew(t, Config{Name: SGD}).Update(x, x, x, At(1)) },
		"step 0":         func() { mustNew(t, Config{}).Update(x, make([]float32, 8), x, At(0)) },
	} {
		func() {
			defer func() {
				if r := fmt.Sprint(recover()); !strings.Contains(r, "BUG") {
					t.Errorf("%s: recovered %q, want a BUG", name, r)
				}
			}()
			f()
		}()
	}
	mustNew(t, Config{}).Update(nil, nil, nil, At(1))
}

func TestValidateReportsAllFaults(t *testing.T) {
	if err := (Config{Name: "lion"}).Validate(); err == nil || !strings.Contains(err.Error(), `unknown optimizer "lion"`) {
		t.Errorf("unknown name: %v", err)
	}
	bad := Config{Name: LAMB, LearningRate: -1, Beta1: 1, Epsilon: float32(math.NaN()), Momentum: 0.5, TrustMin: 3, TrustMax: 2}
	_, err := New(bad)
	if err == nil {
		t.Fatal("a configuration with six faults was accepted")
	}
	for _, want := range []string{"learning_rate: -1", "beta1: 1", "epsilon: NaN", "momentum: not a setting of lamb", "trust_min: 3"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no word of %q in %v", want, err)
		}
	}
	for want, c := range map[string]Config{
		"granularity: \"all\" is not accepted": {Granularity: "all"},
		"convention: not a setting of adam":    {Name: Adam, Convention: Apex},
		"nesterov: needs a momentum":           {Name: SGD, Nesterov: true},
		"exclude_vectors: not a setting of":    {Name: Adam, ExcludeVectors: true},
		"decay_steps: is required by schedule": {Schedule: Cosine},
		"decay_steps: needs a schedule":        {DecaySteps: 3},
		"decay_rate: is a setting":             {Schedule: Linear, DecaySteps: 3, DecayRate: 0.5},
		"least_rate: is a setting":             {Schedule: StepDown, DecaySteps: 3, LeastRate: 0.5},
		"warmup_steps: -1":                     {WarmupSteps: -1},
		"schedule: not a setting of ema":       {Name: EMA, Schedule: Cosine},
	} {
		if err := c.WithDefaults().Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want a word of %q", c, err, want)
		}
	}
	var joined interface{ Unwrap() []error }
	if !errors.As(err, &joined) || len(joined.Unwrap()) != 5 {
		t.Errorf("faults are not joined one by one: %v", err)
	}
	for _, c := range everyOptimizer {
		if err := c.WithDefaults().Validate(); err != nil {
			t.Errorf("%+v: %v", c, err)
		}
	}
	if c := (Config{}).WithDefaults(); c.Name != LAMB || c.Epsilon != 1e-6 || c.Beta2 != 0.999 {
		t.Errorf("defaults are %+v", c)
	}
}

func BenchmarkUpdate(b *testing.B) {
	for _, name := range []string{LAMB, Adam, SGD} {
		for _, n := range []int{1, 10, 16, 64, 160_000} {
			for _, path := range kernel.Paths()[max(0, len(kernel.Paths())-2):] {
				b.Run(fmt.Sprintf("%s/%d/%s", name, n, path), func(b *testing.B) {
					restore, _ := kernel.SetPath(path)
					defer restore()
					o := mustNew(b, Config{Name: name})
					r := rand.New(rand.NewPCG(1, 1))
					w, g := normals(r, n), normals(r, n)
					slots := make([]float32, o.Slots(n))
					for b.Loop() {
						o.Update(w, slots, g, At(9))
					}
					b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(n), "ns/weight")
				})
			}
		}
	}
}

// A factor of the rate from outside is the same as another learning rate.
func TestRateIsAFactorOfTheLearningRate(t *testing.T) {
	for _, c := range everyOptimizer {
		c = c.WithDefaults()
		half := c
		half.LearningRate *= 0.5
		r := rand.New(rand.NewPCG(7, 7))
		w := normals(r, 10)
		v := append([]float32(nil), w...)
		a, b := mustNew(t, c), mustNew(t, half)
		slots, other := make([]float32, a.Slots(10)), make([]float32, a.Slots(10))
		for step := uint64(1); step < 20; step++ {
			g := normals(r, 10)
			a.Update(w, slots, g, Step{T: step, Rate: 0.5})
			b.Update(v, other, g, At(step))
		}
		if diff := cmp.Diff(append(v, other...), append(w, slots...)); diff != "" {
			t.Errorf("%+v (-half the rate +rate of one half)\n%s", c, diff)
		}
	}
}
