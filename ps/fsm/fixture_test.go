package fsm

import (
	"bytes"
	"math"
	"slices"
	"sort"

	"github.com/fathom-train/fathom/compute/optim"
	"github.com/fathom-train/fathom/compute/random"
	"github.com/fathom-train/fathom/ps/table"
	"github.com/fathom-train/fathom/ps/wire"
	"github.com/fathom-train/fathom/shard"
	"pgregory.net/rapid"
)

const run = 77

// example has two tables and three tensors, one of which takes several chunks.
func example(lanes, images int) Schema {
	lamb, sgd := optim.Config{Name: optim.LAMB, LearningRate: .01}, optim.Config{Name: optim.SGD, LearningRate: .1}
	normal := random.Init{Kind: random.Normal, Scale: .1}
	return Schema{
		Job: "example", Run: run, Seed: 5, Lanes: lanes, PreImages: images,
		Tables: []table.Schema{
			{ID: 0, Name: "rows", Columns: []table.Column{
				{Name: "linear", Width: 1, Optimizer: sgd},
				{Name: "embedding", Width: 4, Init: normal, Optimizer: lamb},
			}},
			{ID: 3, Name: "more", Columns: []table.Column{{Name: "w", Width: 2, Init: normal, Optimizer: optim.Config{Name: optim.Adam}}}},
		},
		Dense: []DenseTensor{
			{ID: 1, Name: "weight", Size: 60, Init: normal, Optimizer: lamb},
			{ID: 4, Name: "mean", Size: 3, Optimizer: optim.Config{Name: optim.EMA}},
			{ID: 5, Name: "bias", Size: 7, Optimizer: sgd},
		},
	}
}

// big makes the first tensor of a schema larger than a chunk.
func big(s Schema) Schema {
	s.Dense = slices.Clone(s.Dense)
	s.Dense[0].Size = 100000
	return s
}

func configure(t rapid.TB, s Schema) []byte {
	t.Helper()
	b, err := MarshalSchema(s)
	if err != nil {
		t.Fatal(err)
	}
	return wire.AppendConfigure(nil, b)
}

// configured returns a state with a schema.
func configured(t rapid.TB, s Schema) *State {
	t.Helper()
	st := New()
	if r := st.Apply(1, configure(t, s)); r.Status != Accepted {
		t.Fatalf("configure: %v", r.Err)
	}
	return st
}

// work is what one lane pushes in one step: by table and by tensor.
type work struct {
	keys  [][]shard.Key
	grads [][]float32
	dense [][]float32
}

// labour makes up the work of a lane, from few keys so that lanes and steps
// share rows. Lane 0 has no samples in every fifth step, no lane has any in
// every seventh.
func labour(s Schema, step uint64, lane int) work {
	var w work
	stream := random.Stream(9, random.Synth, step, uint64(lane), 0)
	idle := step%5 == 0 && lane == 0 || step%7 == 0
	for i, t := range s.Tables {
		seen := map[shard.Key]bool{}
		if !idle {
			for j := range random.Below(stream, uint64(i), 30) {
				// Spread over the key space, so that every shard has some.
				k := shard.Key(random.Below(stream, 100+j, 40)) * (math.MaxUint64 / 39)
				seen[k] = true
			}
		}
		var keys []shard.Key
		for k := range seen {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		w.keys = append(w.keys, keys)
		w.grads = append(w.grads, noise(len(keys)*t.Width(), stream+uint64(i)+1))
	}
	for i, d := range s.Dense {
		if idle {
			w.dense = append(w.dense, nil)
		} else {
			w.dense = append(w.dense, noise(d.Size, stream+50+uint64(i)))
		}
	}
	return w
}

func noise(n int, stream uint64) []float32 {
	v := make([]float32, n)
	random.Init{Kind: random.Normal, Scale: 1}.Fill(v, stream)
	for i := range v {
		// The distribution has few bits, so that sums of it are exact in any
		// order; thirds of different sizes are not.
		v[i] *= float32(1+i%7*50) / 3
	}
	return v
}

// commands returns the commands of a lane for one shard of a map: the rows in
// its range and the tensors placed on it.
func (w work) commands(s Schema, step uint64, lane int, m shard.Map, at int, placed []shard.ID) [][]byte {
	return w.attempt(s, step, lane, 0, m, at, placed)
}

// attempt is commands with the number of an attempt, which mode async has.
func (w work) attempt(s Schema, step uint64, lane int, attempt uint32, m shard.Map, at int, placed []shard.ID) [][]byte {
	b := wire.NewPush(wire.PushID{Factor: factorAt(step), Run: run, Phase: 1, Step: step, Lane: uint16(lane), Attempt: attempt})
	for i, t := range s.Tables {
		cut := m.Cut(w.keys[i])
		lo, hi := cut[at], cut[at+1]
		b.Rows(t.ID, t.Width(), w.keys[i][lo:hi], make([]uint32, hi-lo), w.grads[i][lo*t.Width():hi*t.Width()])
	}
	for i, d := range s.Dense {
		if w.dense[i] != nil && int(placed[i]) == at {
			b.Dense(d.ID, w.dense[i])
		}
	}
	var out [][]byte
	for _, c := range b.Chunks() {
		out = append(out, bytes.Clone(c))
	}
	return out
}

// factorAt is the factor of the learning rates at a step.
func factorAt(step uint64) float32 { return 1 / float32(1+step%3) }

// whole is commands for a single shard.
func whole(s Schema, step uint64, lane int) [][]byte {
	return labour(s, step, lane).commands(s, step, lane, shard.Even(1), 0, make([]shard.ID, len(s.Dense)))
}

// reference is the model computed in the plainest way: the lanes of each row
// summed in order, updated by the optimizers directly.
type reference struct {
	schema Schema
	rows   []map[shard.Key][]float32 // weights and slots by table
	init   []*table.Table
	dense  [][]float32
}

func newReference(t interface {
	rapid.TB
	Cleanup(func())
}, s Schema) *reference {
	r := &reference{schema: s}
	for _, ts := range s.Tables {
		tab, err := table.New(ts, s.Seed)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(tab.Close)
		r.init = append(r.init, tab)
		r.rows = append(r.rows, map[shard.Key][]float32{})
	}
	for _, d := range s.Dense {
		v := make([]float32, d.Size+optimizer(d.Optimizer).Slots(d.Size))
		d.Init.Fill(v[:d.Size], random.Stream(s.Seed, random.InitDense, uint64(d.ID), 0, 0))
		r.dense = append(r.dense, v)
	}
	return r
}

func optimizer(c optim.Config) optim.Optimizer {
	o, err := optim.New(c)
	if err != nil {
		panic(err)
	}
	return o
}

func (r *reference) step(step uint64) {
	for i, ts := range r.schema.Tables {
		sum := map[shard.Key][]float32{}
		for lane := range r.schema.Lanes {
			w := labour(r.schema, step, lane)
			for j, k := range w.keys[i] {
				accumulate(sum, k, w.grads[i][j*ts.Width():(j+1)*ts.Width()])
			}
		}
		for k, g := range sum {
			r.row(i, k, g, optim.Step{T: step, Rate: factorAt(step), Count: 1})
		}
	}
	for i, d := range r.schema.Dense {
		var sum []float32
		for lane := range r.schema.Lanes {
			if g := labour(r.schema, step, lane).dense[i]; g != nil {
				sum = add(sum, g)
			}
		}
		if sum != nil {
			optimizer(d.Optimizer).Update(r.dense[i][:d.Size], r.dense[i][d.Size:], sum, optim.Step{T: step, Rate: factorAt(step)})
		}
	}
}

func accumulate(sum map[shard.Key][]float32, k shard.Key, g []float32) { sum[k] = add(sum[k], g) }

func add(sum, g []float32) []float32 {
	if sum == nil {
		return slices.Clone(g)
	}
	for i := range sum {
		sum[i] += g[i]
	}
	return sum
}

func (r *reference) row(i int, k shard.Key, g []float32, step optim.Step) {
	row, ok := r.rows[i][k]
	if !ok {
		row = make([]float32, r.init[i].RowFloats())
		r.init[i].Init(row, k)
		r.rows[i][k] = row
	}
	at, slots := 0, r.init[i].Width()
	for _, c := range r.schema.Tables[i].Columns {
		o := optimizer(c.Optimizer)
		n := o.Slots(c.Width)
		o.Update(row[at:at+c.Width], row[slots:slots+n], g[at:at+c.Width], step)
		at, slots = at+c.Width, slots+n
	}
}

// everything asks for all tensors and all keys labour can make up, and some
// that no push names.
func everything(s Schema) *wire.PullRequest {
	req := &wire.PullRequest{Run: run}
	for _, t := range s.Tables {
		var keys []shard.Key
		for j := range shard.Key(40) {
			keys = append(keys, j*(math.MaxUint64/39), j+1000)
		}
		sort.Slice(keys, func(a, b int) bool { return keys[a] < keys[b] })
		// Not all ascending: a request may name keys in any order.
		keys[3], keys[70] = keys[70], keys[3]
		req.Tables = append(req.Tables, wire.TableKeys{Table: t.ID, Keys: keys})
	}
	for _, d := range s.Dense {
		req.Dense = append(req.Dense, d.ID)
	}
	return req
}

// read is what a lookup of the request should find.
func (r *reference) read(req *wire.PullRequest) []float32 {
	var out []float32
	for i, t := range req.Tables {
		width := r.init[i].Width()
		for _, k := range t.Keys {
			row, ok := r.rows[i][k]
			if !ok {
				row = make([]float32, width)
				r.init[i].Init(row, k)
			}
			out = append(out, row[:width]...)
		}
	}
	for i, d := range r.schema.Dense {
		out = append(out, r.dense[i][:d.Size]...)
	}
	return out
}

// lookup reads a request or fails.
func lookup(t rapid.TB, s *State, version uint64, req *wire.PullRequest) []float32 {
	t.Helper()
	n, err := s.Floats(req)
	if err != nil {
		t.Fatal(err)
	}
	dst := make([]float32, n)
	if err := s.Lookup(version, req, dst); err != nil {
		t.Fatal(err)
	}
	return dst
}
