package fsm

import (
	"bytes"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/fathom-train/fathom/compute/optim"
	"github.com/fathom-train/fathom/compute/random"
	"github.com/fathom-train/fathom/ps/table"
	"github.com/fathom-train/fathom/ps/wire"
	"github.com/fathom-train/fathom/shard"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func TestStepsAreWhatThePlainComputationGives(t *testing.T) {
	t.Parallel()
	const lanes, images, steps = 3, 2, 12
	schema := example(lanes, images)
	st, ref := configured(t, schema), newReference(t, schema)
	defer st.Close()
	req := everything(schema)
	history := [][]float32{ref.read(req)} // by version
	for step := uint64(1); step <= steps; step++ {
		for lane := lanes - 1; lane >= 0; lane-- { // not the order of summing
			for _, cmd := range whole(schema, step, lane) {
				if r := st.Apply(step, cmd); r.Status != Accepted {
					t.Fatalf("step %d lane %d: %v %v", step, lane, r.Status, r.Err)
				}
			}
		}
		ref.step(step)
		history = append(history, ref.read(req))
		for v := max(images, step) - images; v <= step; v++ {
			if got := lookup(t, st, v, req); !slices.Equal(got, history[v]) {
				t.Fatalf("at version %d, version %d differs from the plain computation", step, v)
			}
		}
		if step > images {
			if err := st.Lookup(step-images-1, req, history[0]); !errors.Is(err, ErrVersionGone) {
				t.Fatalf("a version before the pre-images: %v", err)
			}
		}
	}
	if v, ok := st.Version(); v != steps || !ok {
		t.Errorf("version %d %v, want %d", v, ok, steps)
	}
}

// TestModelDoesNotDependOnItsShards applies the same work to 1, 2 and 5 shards.
func TestModelDoesNotDependOnItsShards(t *testing.T) {
	t.Parallel()
	const lanes, steps = 3, 7
	schema := example(lanes, 1)
	var first [16]byte
	for _, n := range []int{1, 2, 5} {
		m := shard.Even(n)
		placed := shard.PlaceDense([]int{60, 3, 7}, n)
		var hashes [][16]byte
		for at := range n {
			part := schema
			part.Dense = nil
			for i, d := range schema.Dense {
				if int(placed[i]) == at {
					part.Dense = append(part.Dense, d)
				}
			}
			st := configured(t, part)
			defer st.Close()
			for step := uint64(1); step <= steps; step++ {
				for lane := range lanes {
					for _, cmd := range labour(schema, step, lane).commands(schema, step, lane, m, at, placed) {
						if r := st.Apply(1, cmd); r.Status != Accepted {
							t.Fatalf("%d shards, shard %d step %d lane %d: %v", n, at, step, lane, r.Err)
						}
					}
				}
			}
			if n > 1 && len(hashes) > 0 && st.Hash() == hashes[0] {
				t.Error("two shards of a model have the same hash")
			}
			hashes = append(hashes, st.Hash())
		}
		sum := SumHashes(hashes...)
		if n == 1 {
			first = sum
		}
		if sum != first {
			t.Errorf("%d shards: the model hashes to %x, in one shard to %x", n, sum, first)
		}
	}
	if first == ([16]byte{}) {
		t.Error("the model hashes to zero")
	}
}

// TestAnyInterleavingGivesTheSameModel delivers the pushes of all open steps in
// random order with duplicates, stale and early ones, replaces the state by a
// restored snapshot now and then, and compares hash and reads with the plain run.
func TestAnyInterleavingGivesTheSameModel(t *testing.T) {
	t.Parallel()
	const lanes, steps = 3, 7
	small, large := newPlain(t, example(lanes, 0), steps), newPlain(t, big(example(lanes, 0)), steps)
	rapid.Check(t, func(t *rapid.T) {
		p := small
		if rapid.IntRange(0, 9).Draw(t, "size") == 0 { // rarely, as it takes long
			p = large
		}
		schema := p.schema
		schema.PipelineDepth = rapid.IntRange(0, 3).Draw(t, "depth")
		schema.PreImages = rapid.IntRange(0, 4).Draw(t, "images")
		w := &shuffled{t: t, plain: p, depth: uint64(schema.PipelineDepth), images: uint64(schema.PreImages), st: configured(t, schema)}
		defer func() { w.st.Close() }()
		w.run(steps)
	})
}

// plain is a run in order, without duplicates or restores.
type plain struct {
	schema Schema
	req    *wire.PullRequest
	cmds   [][][]byte // by step, all lanes and chunks, one step more than is run
	hashes [][16]byte // by version
	reads  [][]float32
}

func newPlain(t testing.TB, schema Schema, steps uint64) *plain {
	p := &plain{schema: schema, req: everything(schema), cmds: make([][][]byte, steps+2)}
	st := configured(t, schema)
	defer st.Close()
	for step := uint64(0); step <= steps+1; step++ {
		for lane := 0; lane < schema.Lanes && step > 0; lane++ {
			p.cmds[step] = append(p.cmds[step], whole(schema, step, lane)...)
		}
		for _, cmd := range p.cmds[step] {
			st.Apply(step, cmd)
		}
		p.hashes = append(p.hashes, st.Hash())
		p.reads = append(p.reads, lookup(t, st, step, p.req))
	}
	return p
}

// shuffled delivers commands as a network of retrying workers would.
type shuffled struct {
	t             *rapid.T
	plain         *plain
	depth, images uint64
	st            *State
	index         uint64
	version       uint64
	left          [][][]byte // by step, what was not delivered yet
	sent          [][][]byte
}

func (w *shuffled) apply(cmd []byte) Result {
	w.index++
	own := bytes.Clone(cmd)
	r := w.st.Apply(w.index, own)
	if !bytes.Equal(own, cmd) { // it is the log's too
		w.t.Fatal("applying a command changed it")
	}
	if w.st.Applied() != w.index {
		w.t.Fatalf("applied index %d, want %d", w.st.Applied(), w.index)
	}
	return r
}

// run delivers all commands of the steps, any open step's at any time.
func (w *shuffled) run(steps uint64) {
	w.sent = make([][][]byte, steps+1)
	for step := range w.plain.cmds {
		w.left = append(w.left, slices.Clone(w.plain.cmds[step]))
	}
	for w.version < steps {
		var open []uint64
		for step := w.version + 1; step <= min(steps, w.version+1+w.depth); step++ {
			if len(w.left[step]) > 0 {
				open = append(open, step)
			}
		}
		w.deliver(rapid.SampledFrom(open).Draw(w.t, "step"))
		w.check()
		for rapid.IntRange(0, 2).Draw(w.t, "more") == 0 {
			w.disturb(steps)
			w.check()
		}
	}
}

func (w *shuffled) deliver(step uint64) {
	i := rapid.IntRange(0, len(w.left[step])-1).Draw(w.t, "command")
	cmd := w.left[step][i]
	w.left[step] = slices.Delete(w.left[step], i, i+1)
	w.sent[step] = append(w.sent[step], cmd)
	r := w.apply(cmd)
	if r.Status != Accepted || r.Err != nil {
		w.t.Fatalf("step %d command %d at version %d: %v %v", step, i, w.version, r.Status, r.Err)
	}
	// Steps are applied in their order, as many as are complete.
	for len(w.left[w.version+1]) == 0 && w.version+1 < uint64(len(w.sent)) {
		w.version++
	}
	if r.Version != w.version {
		w.t.Fatalf("the answer says version %d, want %d", r.Version, w.version)
	}
}

// disturb does what must not change anything.
func (w *shuffled) disturb(steps uint64) {
	step := rapid.Uint64Range(1, steps+1).Draw(w.t, "any step")
	switch {
	case rapid.Bool().Draw(w.t, "restart"):
		w.st = reopened(w.t, w.st)
	case step > w.version+1+w.depth:
		if r := w.apply(w.plain.cmds[step][0]); r.Status != Ahead || !errors.Is(r.Err, ErrAhead) {
			w.t.Fatalf("a push of step %d at %d: %v %v", step, w.version, r.Status, r.Err)
		}
	case step <= steps && len(w.sent[step]) > 0:
		again := rapid.SampledFrom(w.sent[step]).Draw(w.t, "again")
		if r := w.apply(again); r.Status != Duplicate || r.Err != nil || step <= w.version && !r.Complete {
			w.t.Fatalf("a push of step %d again at %d: %v %v", step, w.version, r.Status, r.Err)
		}
	}
}

func (w *shuffled) check() {
	if got, _ := w.st.Version(); got != w.version {
		w.t.Fatalf("version %d, want %d", got, w.version)
	}
	if w.st.Hash() != w.plain.hashes[w.version] {
		w.t.Fatalf("at version %d the hash is %x, want %x", w.version, w.st.Hash(), w.plain.hashes[w.version])
	}
	for v := max(w.images, w.version) - w.images; v <= w.version; v++ {
		if !slices.Equal(lookup(w.t, w.st, v, w.plain.req), w.plain.reads[v]) {
			w.t.Fatalf("at version %d version %d reads differently", w.version, v)
		}
	}
}

func TestImageFindsEveryKeyFromAnyHint(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var img imageTable
		for k := range shard.Key(40) {
			if rapid.Bool().Draw(t, "has") {
				img.keys = append(img.keys, k)
			}
		}
		for hint := range len(img.keys) + 1 {
			for k := range shard.Key(41) {
				want, found := slices.BinarySearch(img.keys, k)
				if at, ok := img.seek(hint, k); ok != found || at != want {
					t.Fatalf("key %d of %v from hint %d: %d %v, want %d %v", k, img.keys, hint, at, ok, want, found)
				}
			}
		}
	})
}

func TestConfigureTwice(t *testing.T) {
	t.Parallel()
	schema := example(2, 1)
	st := New()
	defer st.Close()
	if _, ok := st.Version(); ok || st.Hash() != ([16]byte{}) || st.Stats().Configured {
		t.Error("a new state says it is configured")
	}
	changed := st.Changed()
	for i, want := range []Status{Accepted, Duplicate} {
		if r := st.Apply(uint64(i), configure(t, schema)); r.Status != want || r.Err != nil {
			t.Errorf("configure %d: %v %v", i, r.Status, r.Err)
		}
	}
	select {
	case <-changed:
	default:
		t.Error("Changed was not closed by the configuration")
	}
	swapped := schema
	swapped.Dense = slices.Clone(schema.Dense)
	slices.Reverse(swapped.Dense)
	if r := st.Apply(3, configure(t, swapped)); r.Status != Duplicate {
		t.Errorf("the same schema in another order: %v %v", r.Status, r.Err)
	}
	other := schema
	other.Seed++
	r := st.Apply(4, configure(t, other))
	if r.Status != Mismatch || !errors.Is(r.Err, ErrMismatch) || !strings.Contains(r.Err.Error(), `"seed":6`) {
		t.Errorf("another schema: %v %v", r.Status, r.Err)
	}
	for _, bad := range []string{"", "{}", `{"lanes":1,"odd":2}`, `{"lanes":1} x`, `{"lanes":1}{}`} {
		r := New().Apply(1, wire.AppendConfigure(nil, []byte(bad)))
		if r.Status != Invalid || !errors.Is(r.Err, ErrInvalid) {
			t.Errorf("schema %q: %v %v", bad, r.Status, r.Err)
		}
	}
}

// one returns a single-chunk push made by hand.
func one(id wire.PushID, fill func(b *wire.PushBuilder)) []byte {
	b := wire.NewPush(id)
	fill(b)
	return b.Chunks()[0]
}

func rows(table uint16, g []float32, keys ...shard.Key) func(b *wire.PushBuilder) {
	return func(b *wire.PushBuilder) { b.Rows(table, len(g)/len(keys), keys, make([]uint32, len(keys)), g) }
}

func dense(id uint16, n int) func(b *wire.PushBuilder) {
	return func(b *wire.PushBuilder) { b.Dense(id, make([]float32, n)) }
}

func TestWrongPushesAreRefusedAndChangeNothing(t *testing.T) {
	t.Parallel()
	st := configured(t, example(2, 1))
	defer st.Close()
	id := wire.PushID{Factor: 1, Run: run, Phase: 1, Step: 1}
	if r := st.Apply(2, one(id, rows(0, make([]float32, 5), 8))); r.Status != Accepted || !r.Complete {
		t.Fatalf("the first lane: %v %v", r.Status, r.Err)
	}
	var before bytes.Buffer
	write(t, st, &before)
	f := func(name string, want Status, cause error, text string, change func(*wire.PushID), fill func(b *wire.PushBuilder)) {
		t.Helper()
		id := wire.PushID{Factor: 1, Run: run, Phase: 1, Step: 1, Lane: 1}
		change(&id)
		r := st.Apply(2, one(id, fill))
		if r.Status != want || !errors.Is(r.Err, cause) || !strings.Contains(r.Err.Error(), text) || r.Version != 0 {
			t.Errorf("%s: got %v %v at version %d, want %v %q", name, r.Status, r.Err, r.Version, want, text)
		}
	}
	same, none := func(*wire.PushID) {}, func(*wire.PushBuilder) {}
	g := make([]float32, 5)
	f("another run", Mismatch, ErrMismatch, "run 0x1", func(id *wire.PushID) { id.Run = 1 }, none)
	f("another phase", Mismatch, ErrMismatch, "phase 2", func(id *wire.PushID) { id.Phase = 2 }, none)
	f("another factor", Mismatch, ErrMismatch, "learning-rate factor 0.1, others have 1", func(id *wire.PushID) { id.Factor = 0.1 }, none)
	f("other content", Mismatch, ErrMismatch, "different content", func(id *wire.PushID) { id.Lane = 0 }, none)
	f("ahead", Ahead, ErrAhead, "step 3", func(id *wire.PushID) { id.Step = 3 }, none)
	f("lane", Invalid, ErrInvalid, "lane 2 of 2", func(id *wire.PushID) { id.Lane = 2 }, none)
	f("table", Invalid, ErrUnknownTable, "table 1", same, rows(1, g, 1))
	f("width", Invalid, ErrInvalid, "width 5, want 2", same, rows(3, g, 1))
	f("tensor", Invalid, ErrUnknownTensor, "tensor 2", same, dense(2, 1))
	f("size", Invalid, ErrInvalid, "elements 0 to 61 of 60", same, dense(1, 61))
	f("part", Invalid, ErrInvalid, "59 of 60 elements of dense tensor 1", same, dense(1, 59))
	f("tensor left out", Invalid, ErrInvalid, "0 of 3 elements of dense tensor 4", same, dense(1, 60))
	for _, bad := range []float64{math.NaN(), math.Inf(1), math.Inf(-1), 1 << 51, -(1 << 51)} {
		f("row", Invalid, ErrNotFinite, `table 0 "rows" key 0x7 element 2`, same,
			rows(0, []float32{0, 0, 0, 0, 0, 0, 0, float32(bad), 0, 0}, 6, 7))
		f("tensor", Invalid, ErrNotFinite, `dense tensor 5 "bias" element 6`, same,
			func(b *wire.PushBuilder) { b.Dense(5, []float32{0, 0, 0, 0, 0, 0, float32(bad)}) })
	}
	var after bytes.Buffer
	write(t, st, &after)
	if !bytes.Equal(before.Bytes(), after.Bytes()) {
		t.Error("refused pushes changed the state")
	}
	last := math.Nextafter32(1<<51, 0)
	if r := st.Apply(3, one(wire.PushID{Factor: 1, Run: run, Phase: 1, Step: 1, Lane: 1}, rows(3, []float32{last, -last}, 1))); r.Status != Accepted || r.Version != 1 {
		t.Errorf("the largest gradient: %v %v", r.Status, r.Err)
	}
	for _, x := range lookup(t, st, 1, everything(example(2, 1))) {
		if math.IsNaN(float64(x)) || math.IsInf(float64(x), 0) {
			t.Fatal("the largest gradient made a weight that is not finite")
		}
	}
}

func TestPushBeforeConfigureIsRefused(t *testing.T) {
	t.Parallel()
	st := New()
	r := st.Apply(9, one(wire.PushID{Factor: 1}, func(*wire.PushBuilder) {}))
	if r.Status != Unconfigured || !errors.Is(r.Err, ErrUnconfigured) || st.Applied() != 9 {
		t.Errorf("got %v %v at index %d", r.Status, r.Err, st.Applied())
	}
	if _, err := st.Floats(&wire.PullRequest{}); !errors.Is(err, ErrUnconfigured) {
		t.Errorf("Floats: %v", err)
	}
	if err := st.Lookup(0, &wire.PullRequest{}, nil); !errors.Is(err, ErrUnconfigured) {
		t.Errorf("Lookup: %v", err)
	}
}

// TestChunksOfALaneMustFitTogether mixes chunks of pushes that differ.
func TestChunksOfALaneMustFitTogether(t *testing.T) {
	t.Parallel()
	schema := big(example(1, 0))
	push := func(keys ...shard.Key) [][]byte {
		b := wire.NewPush(wire.PushID{Factor: 1, Run: run, Step: 1})
		b.Rows(0, 5, keys, make([]uint32, len(keys)), make([]float32, 5*len(keys)))
		b.Dense(1, make([]float32, 100000))
		b.Dense(4, make([]float32, 3))
		b.Dense(5, make([]float32, 7))
		var out [][]byte
		for _, c := range b.Chunks() {
			out = append(out, bytes.Clone(c))
		}
		return out
	}
	var many []shard.Key // enough for two chunks
	for k := range shard.Key(9000) {
		many = append(many, k)
	}
	var short []shard.Key
	for k := range shard.Key(8000) {
		short = append(short, 2*k)
	}
	a, b := push(many...), push(short...)
	if len(a) != 3 || len(b) != 3 {
		t.Fatalf("%d and %d chunks, want 3", len(a), len(b))
	}
	f := func(want string, cmds ...[]byte) {
		t.Helper()
		st := configured(t, schema)
		defer st.Close()
		var r Result
		for i, c := range cmds {
			if r = st.Apply(1, c); i < len(cmds)-1 && r.Status != Accepted {
				t.Fatalf("chunk %d: %v", i, r.Err)
			}
		}
		if want == "" && r.Status == Accepted && r.Version == 1 {
			return
		}
		if r.Err == nil || !strings.Contains(r.Err.Error(), want) || want == "" {
			t.Errorf("got %v %v, want %q", r.Status, r.Err, want)
		}
	}
	f("", a[2], a[0], a[1])
	f("", b[1], b[2], b[0])
	f("behind the end of chunk 0", b[0], a[1])
	f("before the start of chunk 1", a[1], b[0])
	f("different content", a[0], b[0])
	f("chunks, was sent with 3 before", a[0], push(1)[0])
	f("elements of dense tensor 1", a[0], a[1], b[2])
}

func TestBoundOfChunks(t *testing.T) {
	t.Parallel()
	schema := example(MaxLanes, 0)
	schema.Dense = []DenseTensor{{ID: 1, Size: 17 << 16, Optimizer: optim.Config{Name: optim.EMA}}}
	st := configured(t, schema)
	defer st.Close()
	b := wire.NewPush(wire.PushID{Factor: 1, Run: run, Step: 1})
	b.Dense(1, make([]float32, 17<<16))
	r := st.Apply(2, b.Chunks()[0])
	if r.Status != Invalid || !strings.Contains(r.Err.Error(), "at most 15 for each of 4096 lanes") {
		t.Errorf("a push of %d chunks: %v %v", len(b.Chunks()), r.Status, r.Err)
	}
}

func TestDamagedCommandPanicsWithItsIndex(t *testing.T) {
	t.Parallel()
	st := configured(t, example(1, 0))
	defer st.Close()
	cmd := one(wire.PushID{Factor: 1, Run: run, Step: 1}, func(*wire.PushBuilder) {})
	for _, bad := range [][]byte{cmd[:len(cmd)-1], nil, append(bytes.Clone(cmd[:20]), bytes.Repeat([]byte{1}, len(cmd)-20)...)} {
		func() {
			defer func() {
				if r := recover(); r == nil || !strings.Contains(r.(string), "BUG: committed command at index 4711") {
					t.Errorf("got panic %v", r)
				}
			}()
			st.Apply(4711, bad)
		}()
	}
	// A sound envelope around nonsense is somebody else's mistake.
	if r := st.Apply(5, wire.AppendPushBody(nil, wire.PushHeader{}, nil)[:32]); r.Status != Invalid {
		t.Errorf("a message that is no command: %v %v", r.Status, r.Err)
	}
}

func TestGoldenHash(t *testing.T) {
	t.Parallel()
	sgd := optim.Config{Name: optim.SGD, LearningRate: .5}
	st := configured(t, Schema{
		Run: run, Lanes: 2,
		Tables: []table.Schema{{ID: 1, Columns: []table.Column{{Width: 2, Init: random.Init{Kind: random.Constant, Scale: 1}, Optimizer: sgd}}}},
		Dense:  []DenseTensor{{ID: 2, Size: 3, Optimizer: sgd}},
	})
	defer st.Close()
	for lane := range uint16(2) {
		b := wire.NewPush(wire.PushID{Factor: 1, Run: run, Step: 1, Lane: lane})
		b.Rows(1, 2, []shard.Key{3, 4}, []uint32{1, 1}, []float32{1, 2, 3, 4})
		b.Dense(2, []float32{1, 2, 3})
		st.Apply(1, b.Chunks()[0])
	}
	got := lookup(t, st, 1, &wire.PullRequest{Run: run, Dense: []uint16{2}, Tables: []wire.TableKeys{{Table: 1, Keys: []shard.Key{4, 5, 3}}}})
	if want := []float32{-2, -3, 1, 1, 0, -1, -1, -2, -3}; !slices.Equal(got, want) {
		t.Fatalf("read %v, want %v", got, want)
	}
	if d := cmp.Diff(goldenHash, hexOf(st.Hash())); d != "" {
		t.Errorf("the state hash changed, which names models for ever (-want +got):\n%s", d)
	}
}
