package trainer_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/bits"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/fathom-train/fathom/compute/eval"
	"github.com/fathom-train/fathom/compute/kernel"
	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/fathom-train/fathom/ps/client"
	"github.com/fathom-train/fathom/ps/fsm"
	"github.com/fathom-train/fathom/ps/table"
	"github.com/fathom-train/fathom/ps/wire"
	"github.com/fathom-train/fathom/shard"
	"github.com/fathom-train/fathom/worker/dataset"
	"github.com/fathom-train/fathom/worker/trainer"
)

const smallJob = `
apiVersion: fathom.dev/v1alpha1
kind: TrainingJob
metadata: {name: small}
spec:
  data:
    format: synthetic
    synthetic: {train_rows: 3000, valid_rows: 600, test_rows: 600, numeric: 2, categorical: 4, vocabulary: 500, seed: 3}
  model: {name: deepfm, embedding_dim: 4, hidden: [16, 8], dropout: 0.1, batch_norm: true}
  train:
    epochs: 2
    batch_size: 512
    lanes: 4
    seed: 11
    optimizer: {name: lamb, learning_rate: 0.01, trust_floor: 0.1}
    embedding_init: {kind: normal, scale: 0.01}
`

func parse(t *testing.T, sets ...string) *job.Job {
	t.Helper()
	j, err := job.Parse("small.yaml", []byte(smallJob), sets)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

// cluster is a set of state machines in this process.
type cluster struct {
	job    *job.Job
	states []*fsm.State
	client *client.Client
	data   *dataset.Set
}

var discard = slog.New(slog.DiscardHandler)

const run = 77

func newCluster(t *testing.T, j *job.Job, shards int) *cluster {
	t.Helper()
	data, err := dataset.Open(context.Background(), j.Spec.Data, discard)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { data.Close() })
	tables, err := j.Tables()
	if err != nil {
		t.Fatal(err)
	}
	dense, err := j.Dense()
	if err != nil {
		t.Fatal(err)
	}
	sizes := make([]int, len(dense))
	for i, d := range dense {
		sizes[i] = d.Size
	}
	homes := shard.PlaceDense(sizes, shards)
	c := &cluster{job: j, data: data}
	var routes []client.Route
	for i, s := range shard.Even(shards).Shards {
		schema := fsm.Schema{Job: "small", Run: run, Seed: j.Spec.Train.Seed, Lanes: j.Spec.Train.Lanes,
			PreImages: j.PreImages(), PipelineDepth: j.Depth(), Async: j.Async(), ClipNorm: j.Spec.Train.ClipNorm, NoiseScale: j.Spec.Train.NoiseScale}
		if schema.NoiseScale > 0 {
			for _, d := range dense {
				if !d.Running {
					schema.NoiseDense = append(schema.NoiseDense, d.ID)
				}
			}
		}
		for _, tb := range tables {
			st := table.Schema{ID: tb.ID, Name: tb.Name}
			for _, col := range tb.Columns {
				st.Columns = append(st.Columns, table.Column{Name: col.Name, Width: col.Width, Init: col.Init, Optimizer: col.Optimizer})
			}
			schema.Tables = append(schema.Tables, st)
		}
		route := client.Route{Shard: s.ID, Range: s.Range}
		for k, d := range dense {
			if homes[k] == s.ID {
				schema.Dense = append(schema.Dense, fsm.DenseTensor{ID: d.ID, Name: d.Name, Size: d.Size, Init: d.Init, Optimizer: d.Optimizer, Values: mask(j, d.Name, d.Size)})
				route.Dense = append(route.Dense, d.ID)
			}
		}
		body, err := fsm.MarshalSchema(schema)
		if err != nil {
			t.Fatal(err)
		}
		state := fsm.New()
		if r := state.Apply(1, wire.AppendConfigure(nil, body)); r.Err != nil {
			t.Fatalf("configure shard %d: %v", i, r.Err)
		}
		t.Cleanup(state.Close)
		c.states = append(c.states, state)
		routes = append(routes, route)
	}
	c.client = client.NewLocal(run, routes, c.states)
	return c
}

func (c *cluster) trainer(t *testing.T) *trainer.Trainer {
	t.Helper()
	tr, err := trainer.New(trainer.Config{Job: c.job, Run: run, Data: c.data, Client: c.client, Factor: 1})
	if err != nil {
		t.Fatal(err)
	}
	return tr
}

// hash is the model hash: the sum of the shards' state hashes.
func (c *cluster) hash() string {
	var lo, hi uint64
	for _, s := range c.states {
		h := s.Hash()
		var carry uint64
		lo, carry = bits.Add64(lo, binary.LittleEndian.Uint64(h[:8]), 0)
		hi, _ = bits.Add64(hi, binary.LittleEndian.Uint64(h[8:]), carry)
	}
	return fmt.Sprintf("%016x%016x", hi, lo)
}

func (c *cluster) steps() uint64 {
	split, _ := c.data.Split("train")
	return uint64(c.job.StepsPerEpoch(split.Rows())) * uint64(c.job.Spec.Train.Epochs)
}

// trainAll runs one trainer for every list of lanes, at once.
func (c *cluster) trainAll(t *testing.T, lanes [][]int, last uint64) {
	t.Helper()
	var g errgroup.Group
	for _, own := range lanes {
		tr := c.trainer(t)
		g.Go(func() error { return tr.Train(context.Background(), own, last, nil) })
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	for i, s := range c.states {
		if v, _ := s.Version(); v != last {
			t.Fatalf("shard %d ended at version %d, want %d", i, v, last)
		}
	}
}

func TestModelIsTheSameForAnyNumberOfWorkersAndShards(t *testing.T) {
	models := map[string]int{}
	for depth := range 4 {
		set := fmt.Sprintf("spec.train.pipeline_depth=%d", depth)
		models[sameModel(t, set)] = depth
		if depth == 1 {
			models[sameModel(t)] = depth
		}
	}
	if len(models) != 4 {
		t.Errorf("4 depths of the pipeline gave %d models: %v", len(models), models)
	}
	other := newCluster(t, parse(t, "spec.train.seed=12"), 2)
	other.trainAll(t, [][]int{{0, 1, 2, 3}}, other.steps())
	if _, same := models[other.hash()]; same {
		t.Error("another seed gave the same model hash")
	}
}

// sameModel trains in several ways, compares the models and returns the hash.
func sameModel(t *testing.T, sets ...string) (want string) {
	t.Helper()
	for _, c := range []struct {
		shards int
		lanes  [][]int
	}{
		{1, [][]int{{0, 1, 2, 3}}},
		{3, [][]int{{0, 1, 2, 3}}},
		{2, [][]int{{0, 1}, {2, 3}}},
		{5, [][]int{{3}, {1, 2}, {0}}},
		// Two workers that believe they own the same lanes: duplicates change nothing.
		{2, [][]int{{0, 1, 2}, {2, 3, 1}}},
	} {
		cl := newCluster(t, parse(t, sets...), c.shards)
		cl.trainAll(t, c.lanes, cl.steps())
		got := cl.hash()
		if want == "" {
			want = got
		}
		if got != want {
			t.Errorf("%v, %d shards, lanes %v: model hash %s, want %s", sets, c.shards, c.lanes, got, want)
		}
	}
	return want
}

// A model put together in every way there is depends on the cluster as little as
// one of plain rows.
func TestEveryWayToEmbedIsTheSameForAnyCluster(t *testing.T) {
	const mixed = `spec.embedding={buckets: 60, remainders: 7, shared_tables: 2, chunk_width: 2, tables: per_field, fields: [
		{name: c1, width: 2}, {name: c2, method: hash, width: 3}, {name: c3, method: unified}, {name: c4, method: qr},
		{name: i1, method: qr, combine: concat}, {name: i2, method: qr, combine: add, width: 1}]}`
	want := ""
	for _, shards := range []int{1, 3} {
		cl := newCluster(t, parse(t, mixed, "spec.train.epochs=4"), shards)
		lanes := [][]int{{0, 1, 2, 3}}
		if shards > 1 {
			lanes = [][]int{{3, 1}, {0, 2}}
		}
		cl.trainAll(t, lanes, cl.steps())
		if want == "" {
			want = cl.hash()
			if auc := cl.score(t).AUC; auc < 0.6 {
				t.Errorf("test AUC %.4f: nothing was learnt", auc)
			}
			for _, table := range cl.states[0].Stats().Tables {
				if table.Name == "unified0" && table.Rows > 60 || table.Name == "c2.3" && table.Rows > 60 {
					t.Errorf("table %s has %d rows, at most 60 were asked for", table.Name, table.Rows)
				}
			}
		}
		if got := cl.hash(); got != want {
			t.Errorf("%d shards: model hash %s, want %s", shards, got, want)
		}
	}
}

// Sums over all shards, for a bound of all gradients and for layers that are a
// field's rows, depend on the cluster as little.
func TestSumsOverShardsAreTheSameForAnyCluster(t *testing.T) {
	sets := []string{"spec.train.clip_norm=0.02", "spec.train.noise_scale=1e-4", "spec.train.optimizer.granularity=field", "spec.embedding.tables=per_field"}
	want := ""
	for _, c := range []struct {
		shards int
		lanes  [][]int
	}{
		{1, [][]int{{0, 1, 2, 3}}},
		{3, [][]int{{1, 2}, {3, 0}}},
		{4, [][]int{{0, 1, 2, 3}, {0, 3}}}, // two that sum
	} {
		cl := newCluster(t, parse(t, sets...), c.shards)
		cl.trainAll(t, c.lanes, cl.steps())
		if want == "" {
			want = cl.hash()
		}
		if got := cl.hash(); got != want {
			t.Errorf("%d shards, lanes %v: model hash %s, want %s", c.shards, c.lanes, got, want)
		}
	}
	// The worker that sums is lost with its lane's push acknowledged.
	c := newCluster(t, parse(t, sets...), 3)
	ctx, cancel := context.WithCancel(context.Background())
	var once sync.Once
	if err := c.trainer(t).Train(ctx, []int{0}, c.steps(), func(step uint64, lane int, _ float64, _ int) { once.Do(cancel) }); err == nil {
		t.Fatal("training ended without error although it was interrupted")
	}
	c.trainAll(t, [][]int{{1, 3}, {2, 0}}, c.steps())
	if got := c.hash(); got != want {
		t.Errorf("model hash after the interruption is %s, want %s", got, want)
	}
	for _, set := range sets[:3] {
		other := newCluster(t, parse(t, append(sets, strings.Split(set, "=")[0]+"="+map[string]string{sets[0]: "0.5", sets[1]: "0", sets[2]: "row"}[set])...), 1)
		other.trainAll(t, [][]int{{0, 1, 2, 3}}, other.steps())
		if other.hash() == want {
			t.Errorf("without %s the model is the same", set)
		}
	}
}

// The cut of rows into tables changes where they are kept, not what they hold.
func TestTablesPerFieldScoreLikeOneTable(t *testing.T) {
	shared, apart := newCluster(t, parse(t), 2), newCluster(t, parse(t, "spec.embedding.tables=per_field"), 3)
	shared.trainAll(t, [][]int{{0, 1, 2, 3}}, shared.steps())
	apart.trainAll(t, [][]int{{0, 1, 2, 3}}, apart.steps())
	if a, b := shared.score(t), apart.score(t); a != b {
		t.Errorf("scores %+v with one table, %+v with one per field", a, b)
	}
	if n := len(apart.states[0].Stats().Tables); n < 2 {
		t.Errorf("%d tables", n)
	}
}

// score is that of the test split at the end.
func (c *cluster) score(t *testing.T) eval.Result {
	t.Helper()
	split, _ := c.data.Split("test")
	acc, err := c.trainer(t).Evaluate(context.Background(), "test", c.steps(), 0, split.Rows())
	if err != nil {
		t.Fatal(err)
	}
	return eval.Merge([]*eval.Accumulator{acc})
}

func TestBF16ModelIsTheSameOnEveryProcessor(t *testing.T) {
	want := ""
	for _, path := range kernel.Paths() {
		restore, err := kernel.SetPath(path)
		if err != nil {
			t.Fatal(err)
		}
		// Layers with whole tiles and with edges of them.
		cl := newCluster(t, parse(t, "spec.train.compute=bf16", "spec.model.hidden=[48, 21]", "spec.train.epochs=1"), 2)
		cl.trainAll(t, [][]int{{0, 1}, {2, 3}}, cl.steps())
		restore()
		got := cl.hash()
		if want == "" {
			want = got
		}
		if got != want {
			t.Errorf("%s: model hash %s, want %s", path, got, want)
		}
	}
	exact := newCluster(t, parse(t, "spec.model.hidden=[48, 21]", "spec.train.epochs=1"), 2)
	exact.trainAll(t, [][]int{{0, 1, 2, 3}}, exact.steps())
	if exact.hash() == want {
		t.Error("f32 gave the model of bf16")
	}
}

// TestAsyncLearnsAndSurvivesItsWorkers has two workers in mode async that share
// lanes, so that attempts at the same lanes differ, one of which is interrupted.
func TestAsyncLearnsAndSurvivesItsWorkers(t *testing.T) {
	strict := newCluster(t, parse(t, "spec.train.epochs=6"), 1)
	strict.trainAll(t, [][]int{{0, 1, 2, 3}}, strict.steps())
	want := auc(t, strict)
	for _, staleness := range []int{0, 3} {
		c := newCluster(t, parse(t, "spec.train.epochs=6", "spec.train.mode=async", fmt.Sprintf("spec.train.staleness=%d", staleness)), 3)
		ctx, cancel := context.WithCancel(context.Background())
		var once sync.Once
		interrupted := make(chan error, 1)
		go func() {
			interrupted <- c.trainer(t).Train(ctx, []int{0, 1, 2}, c.steps(), func(step uint64, lane int, _ float64, _ int) {
				if step == 4 {
					once.Do(cancel)
				}
			})
		}()
		c.trainAll(t, [][]int{{0, 1}, {1, 2, 3}}, c.steps())
		cancel()
		<-interrupted
		if got := auc(t, c); got < want-0.03 {
			t.Errorf("staleness %d: test AUC %.4f, sync has %.4f", staleness, got, want)
		}
	}
}

// auc is that of the test split after the last step.
func auc(t *testing.T, c *cluster) float64 {
	t.Helper()
	split, _ := c.data.Split("test")
	acc, err := c.trainer(t).Evaluate(context.Background(), "test", c.steps(), 0, split.Rows())
	if err != nil {
		t.Fatal(err)
	}
	return eval.Merge([]*eval.Accumulator{acc}).AUC
}

// TestRefusedPushEndsTheTraining trains on shards of another depth.
func TestRefusedPushEndsTheTraining(t *testing.T) {
	c := newCluster(t, parse(t, "spec.train.pipeline_depth=3"), 2)
	shallow := newCluster(t, parse(t, "spec.train.pipeline_depth=0"), 2)
	c.client = shallow.client // whose shards take no push ahead of the next step
	err := c.trainer(t).Train(context.Background(), []int{0}, c.steps(), nil)
	if err == nil || !strings.Contains(err.Error(), "ahead") {
		t.Errorf("training ended with %v, want the shard's refusal", err)
	}
}

func TestInterruptedWorkerIsContinuedByAnother(t *testing.T) {
	plain := newCluster(t, parse(t), 3)
	plain.trainAll(t, [][]int{{0, 1, 2, 3}}, plain.steps())

	c := newCluster(t, parse(t), 3)
	ctx, cancel := context.WithCancel(context.Background())
	var once sync.Once
	err := c.trainer(t).Train(ctx, []int{0, 1, 2, 3}, c.steps(), func(step uint64, lane int, _ float64, _ int) {
		if step == 4 && lane == 2 {
			once.Do(cancel) // in the middle of a step
		}
	})
	if err == nil {
		t.Fatal("training ended without error although it was interrupted")
	}
	c.trainAll(t, [][]int{{1, 0}, {3, 2}}, c.steps())
	if got, want := c.hash(), plain.hash(); got != want {
		t.Errorf("model hash after the interruption is %s, want %s", got, want)
	}
}

func TestTrainingLearnsAndEvaluationMergesBlocks(t *testing.T) {
	c := newCluster(t, parse(t, "spec.train.epochs=6"), 2)
	c.trainAll(t, [][]int{{0, 1}, {2, 3}}, c.steps())
	tr := c.trainer(t)
	split, _ := c.data.Split("test")
	whole, err := tr.Evaluate(context.Background(), "test", c.steps(), 0, split.Rows())
	if err != nil {
		t.Fatal(err)
	}
	var blocks []*eval.Accumulator
	for lo := int64(0); lo < split.Rows(); lo += 250 {
		b, err := tr.Evaluate(context.Background(), "test", c.steps(), lo, min(lo+250, split.Rows()))
		if err != nil {
			t.Fatal(err)
		}
		blocks = append(blocks, b)
	}
	one, many := eval.Merge([]*eval.Accumulator{whole}), eval.Merge(blocks)
	if one.AUC != many.AUC || one.Samples != many.Samples {
		t.Errorf("scores of the whole split %+v differ from those of its blocks %+v", one, many)
	}
	if one.AUC < 0.6 {
		t.Errorf("test AUC is %.4f: nothing was learnt", one.AUC)
	}
}
