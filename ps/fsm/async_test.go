package fsm

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/fathom-train/fathom/compute/optim"
	"github.com/fathom-train/fathom/ps/wire"
	"github.com/fathom-train/fathom/shard"
	"pgregory.net/rapid"
)

// loose is the example in mode async.
func loose(lanes, staleness int) Schema {
	s := example(lanes, 0)
	s.Async, s.PipelineDepth = true, staleness
	return s
}

// attempt is what a worker pushes in one attempt at a lane: attempts at the same
// lane differ.
func attempt(s Schema, step uint64, lane int, n uint32) (work, [][]byte) {
	w := labour(s, step, lane)
	for _, g := range append(slices.Clone(w.grads), w.dense...) {
		for i := range g {
			g[i] *= 1 + float32(n)/8
		}
	}
	return w, w.attempt(s, step, lane, n, shard.Even(1), 0, make([]shard.ID, len(s.Dense)))
}

// lane updates the reference by one lane alone.
func (r *reference) lane(w work, step uint64) {
	s := optim.Step{T: step, Rate: factorAt(step) / float32(r.schema.Lanes)}
	for i, ts := range r.schema.Tables {
		for j, k := range w.keys[i] {
			r.row(i, k, w.grads[i][j*ts.Width():(j+1)*ts.Width()], s)
		}
	}
	for i, d := range r.schema.Dense {
		if g := w.dense[i]; g != nil {
			optimizer(d.Optimizer).Update(r.dense[i][:d.Size], r.dense[i][d.Size:], g, s)
		}
	}
}

// network delivers pushes of several workers in mode async: some send a lane
// again, some compute it anew, parts of two attempts mix, pushes overtake each
// other, and the state machine is replaced by its snapshot. naive is what the
// lanes give that the state machine said are complete, in that order.
type network struct {
	t       *rapid.T
	schema  Schema
	st      *State
	naive   *reference
	index   uint64
	version uint64
	applied map[[2]uint64]bool // (step, lane)
	tried   map[[2]uint64]uint32
	sent    [][]byte
}

func (n *network) apply(cmd []byte) Result {
	n.index++
	n.sent = append(n.sent, cmd)
	return n.st.Apply(n.index, bytes.Clone(cmd))
}

// push delivers an attempt at a lane, or only some of its chunks.
func (n *network) push(step uint64, lane int) {
	id := [2]uint64{step, uint64(lane)}
	n.tried[id]++
	w, cmds := attempt(n.schema, step, lane, n.tried[id])
	order := rapid.Permutation(cmds).Draw(n.t, "order")
	if rapid.IntRange(0, 3).Draw(n.t, "lost") == 0 {
		order = order[:rapid.IntRange(0, len(order)-1).Draw(n.t, "chunks")] // the worker died
	}
	for i, cmd := range order {
		want := Accepted
		if n.applied[id] {
			want = Duplicate
		}
		if r := n.apply(cmd); r.Status != want || r.Complete != (n.applied[id] || i == len(cmds)-1) {
			n.t.Fatalf("attempt %d at step %d lane %d, chunk %d of %d, applied %v: %v complete %v (%v)",
				n.tried[id], step, lane, i, len(cmds), n.applied[id], r.Status, r.Complete, r.Err)
		} else if want == Accepted && r.Complete {
			n.done(id, w)
		}
	}
}

// again delivers an old command, as a worker does that was believed dead.
func (n *network) again() {
	var p wire.Push
	cmd := rapid.SampledFrom(n.sent).Draw(n.t, "again")
	if err := wire.ParsePush(cmd, &p); err != nil {
		n.t.Fatal(err)
	}
	id := [2]uint64{p.ID.Step, uint64(p.ID.Lane)}
	r := n.apply(cmd)
	switch {
	case n.applied[id] && (r.Status != Duplicate || !r.Complete), r.Err != nil:
		n.t.Fatalf("a push again, applied %v: %v %v", n.applied[id], r.Status, r.Err)
	case !n.applied[id] && r.Complete: // the chunk that its attempt lacked
		w, _ := attempt(n.schema, p.ID.Step, int(p.ID.Lane), p.ID.Attempt)
		n.done(id, w)
	}
}

// done notes that a lane is complete.
func (n *network) done(id [2]uint64, w work) {
	n.applied[id] = true
	n.naive.lane(w, id[0])
	for n.complete(n.version + 1) {
		n.version++
	}
}

func (n *network) complete(step uint64) bool {
	for lane := range n.schema.Lanes {
		if !n.applied[[2]uint64{step, uint64(lane)}] {
			return false
		}
	}
	return true
}

func (n *network) check(req *wire.PullRequest) {
	if v, _ := n.st.Version(); v != n.version {
		n.t.Fatalf("version %d, want %d", v, n.version)
	}
	want := n.naive.read(req)
	oldest := n.version - min(n.version, uint64(1+2*n.schema.PipelineDepth))
	for v := oldest; v <= n.version; v++ {
		if !slices.Equal(lookup(n.t, n.st, v, req), want) {
			n.t.Fatalf("at version %d, asked for %d: the state is not what the lanes in their order give", n.version, v)
		}
	}
	if oldest > 0 {
		if err := n.st.Lookup(oldest-1, req, make([]float32, len(want))); !errors.Is(err, ErrVersionGone) {
			n.t.Fatalf("version %d at version %d: %v", oldest-1, n.version, err)
		}
	}
	if err := n.st.Lookup(n.version+1, req, make([]float32, len(want))); !errors.Is(err, ErrNotReached) {
		n.t.Fatalf("version %d at version %d: %v", n.version+1, n.version, err)
	}
}

func TestAsyncLanesAreAppliedOnceWhateverTheNetworkDoes(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		schema := loose(rapid.IntRange(1, 3).Draw(t, "lanes"), rapid.IntRange(0, 3).Draw(t, "staleness"))
		if rapid.IntRange(0, 9).Draw(t, "big") == 0 {
			schema = big(schema)
		}
		n := &network{t: t, schema: schema, st: configured(t, schema), naive: newReference(t, schema),
			applied: map[[2]uint64]bool{}, tried: map[[2]uint64]uint32{}}
		defer func() { n.st.Close() }()
		req := everything(schema)
		for range rapid.IntRange(5, 30).Draw(t, "events") {
			step := n.version + rapid.Uint64Range(0, uint64(schema.PipelineDepth)+1).Draw(t, "step")
			lane := rapid.IntRange(0, schema.Lanes-1).Draw(t, "lane")
			switch event := rapid.IntRange(0, 9).Draw(t, "event"); {
			case event == 0:
				n.st = reopened(t, n.st)
			case event == 1 && len(n.sent) > 0:
				n.again()
			case event == 2: // further ahead than the staleness allows
				_, cmds := attempt(schema, n.version+uint64(schema.PipelineDepth)+2, lane, 1)
				if r := n.st.Apply(n.index, cmds[0]); r.Status != Ahead || !errors.Is(r.Err, ErrAhead) {
					t.Fatalf("a push beyond the staleness: %v %v", r.Status, r.Err)
				}
			case step > 0:
				n.push(step, lane)
			}
			n.check(req)
		}
	})
}

func TestAsyncRefusals(t *testing.T) {
	t.Parallel()
	st := configured(t, loose(2, 2))
	defer st.Close()
	id := wire.PushID{Run: run, Phase: 1, Step: 1, Factor: 1}
	if r := st.Apply(2, one(id, func(*wire.PushBuilder) {})); r.Status != Invalid || !strings.Contains(r.Err.Error(), "attempt 0") {
		t.Errorf("a push without attempt: %v %v", r.Status, r.Err)
	}
	sync := configured(t, example(2, 1))
	defer sync.Close()
	id.Attempt = 3
	if r := sync.Apply(2, one(id, func(*wire.PushBuilder) {})); r.Status != Invalid || !strings.Contains(r.Err.Error(), "attempt 3") {
		t.Errorf("an attempt in mode sync: %v %v", r.Status, r.Err)
	}
	for name, change := range map[string]func(*Schema){
		"pre-images": func(s *Schema) { s.PreImages = 1 },
		"clip norm":  func(s *Schema) { s.ClipNorm = 1 },
		"every row": func(s *Schema) {
			s.Tables = slices.Clone(s.Tables)
			s.Tables[0].Columns = slices.Clone(s.Tables[0].Columns)
			s.Tables[0].Columns[0].Optimizer = optim.Config{Name: optim.SGD, LearningRate: .1, EveryRow: true}
		},
		"product": func(s *Schema) { s.Lanes, s.PipelineDepth = MaxLanes, MaxPipelineDepth },
	} {
		s := loose(2, 2)
		if change(&s); s.Validate() == nil {
			t.Errorf("%s: the schema is accepted", name)
		}
	}
}

// TestAsyncHashDoesNotDependOnItsShards cuts the same pushes into two shards.
func TestAsyncHashDoesNotDependOnItsShards(t *testing.T) {
	t.Parallel()
	schema := loose(2, 1)
	placed := make([]shard.ID, len(schema.Dense))
	hash := func(shards int) [16]byte {
		var sums [][16]byte
		for at := range shards {
			part := schema
			if at > 0 {
				part.Dense = nil
			}
			st := configured(t, part)
			defer st.Close()
			for step := uint64(1); step <= 4; step++ {
				for _, lane := range []int{1, 0} {
					w := labour(schema, step, lane)
					for _, cmd := range w.attempt(schema, step, lane, 1, shard.Even(shards), at, placed) {
						if r := st.Apply(1, cmd); r.Status != Accepted {
							t.Fatal(r.Err)
						}
					}
				}
			}
			sums = append(sums, st.Hash())
		}
		return SumHashes(sums...)
	}
	if hash(1) != hash(2) {
		t.Error("two shards have another model than one")
	}
}

// TestAsyncCheckpointIsACut: a view with lanes behind its version makes no
// checkpoint; one without restores into other shards and goes on to the same model.
func TestAsyncCheckpointIsACut(t *testing.T) {
	t.Parallel()
	schema := loose(2, 1)
	c := newCut(schema, 1)
	c.states = []*State{configured(t, c.part(0))}
	defer c.close()
	c.train(t, 1, 3)
	files := c.files(t)
	restored := load(t, schema, 3, files, 2)
	defer restored.close()
	if restored.hash() != c.hash() {
		t.Error("the restored model is another one")
	}
	c.train(t, 4, 5)
	restored.train(t, 4, 5)
	if restored.hash() != c.hash() {
		t.Error("the restored model went on to another one")
	}
	for _, cmd := range labour(schema, 6, 1).attempt(schema, 6, 1, 1, c.m, 0, c.placed) {
		if r := c.states[0].Apply(c.states[0].Applied()+1, cmd); r.Status != Accepted {
			t.Fatal(r.Err)
		}
	}
	v := c.states[0].View()
	defer v.Release()
	if _, err := v.WriteCheckpoint(io.Discard); !errors.Is(err, ErrOpenLanes) {
		t.Errorf("with a lane of step 6 applied: error %v", err)
	}
}
