package trainer

import (
	"context"
	"fmt"
	"math"
	"sort"
	"syscall"
	"testing"

	"github.com/fathom-train/fathom/compute/embedding"
	"github.com/fathom-train/fathom/compute/model"
	"github.com/fathom-train/fathom/compute/random"
	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/fathom-train/fathom/ps/client"
	"github.com/fathom-train/fathom/ps/fsm"
	"github.com/fathom-train/fathom/ps/table"
	"github.com/fathom-train/fathom/ps/wire"
	"github.com/fathom-train/fathom/shard"
	"github.com/fathom-train/fathom/worker/dataset"
)

// benchJob has the shape of the public comparison: 39 fields, a million ids,
// batches of 4096, embeddings of 16, no dropout and no normalisation.
const benchJob = `
apiVersion: fathom.dev/v1alpha1
kind: TrainingJob
metadata: {name: bench}
spec:
  data:
    format: synthetic
    synthetic: {train_rows: 40960, valid_rows: 100, test_rows: 100, numeric: 13, categorical: 26, vocabulary: 1000, seed: 3}
  model: {name: deepfm, embedding_dim: 16, hidden: [400, 400, 400]}
  train:
    epochs: 1
    batch_size: 4096
    lanes: 4
    seed: 11
    optimizer: {name: lamb, learning_rate: 0.001, trust_floor: 0.1}
    embedding_init: {kind: normal, scale: 0.01}
`

// benchVocabulary is the number of ids of every field: a million together.
func benchVocabulary() []int {
	sizes := make([]int, 13, 39)
	for i := range sizes {
		sizes[i] = 64
	}
	sizes = append(sizes, 300000, 250000, 150000, 100000, 80000, 40000, 30000, 15000, 10000, 8000, 5000, 4000, 2000,
		1000, 600, 300, 100, 100, 50, 30, 20, 15, 10, 5, 4, 3)
	for _, n := range sizes {
		sizes[13] -= n
	}
	sizes[13] += 1000000
	return sizes
}

// zipf draws from 1, 2, ... n with a probability falling as the power 1.05.
type zipf []float64

func newZipf(n int) zipf {
	z := make(zipf, n)
	sum := 0.0
	for i := range z {
		sum += math.Pow(float64(i+1), -1.05)
		z[i] = sum
	}
	for i := range z {
		z[i] /= sum
	}
	return z
}

func (z zipf) draw(u float64) int { return min(sort.SearchFloat64s(z, u), len(z)-1) }

// benchBatches draws lanes of n samples each.
func benchBatches(count, n int) []dataset.Batch {
	sizes := benchVocabulary()
	batches := make([]dataset.Batch, count)
	for i := range batches {
		b := &batches[i]
		b.N, b.Fields = n, len(sizes)
		b.Keys, b.Labels = make([]shard.Key, n*b.Fields), make([]float32, n)
		b.Offsets = make([]int32, n*b.Fields+1)
		for o := range b.Offsets {
			b.Offsets[o] = int32(o)
		}
		b.Weights = make([]float32, n*b.Fields)
		for o := range b.Weights {
			b.Weights[o] = 1
		}
		for s := range b.Labels {
			if random.Unit(random.Word(uint64(i), uint64(s))) < 0.25 {
				b.Labels[s] = 1
			}
		}
	}
	for f, size := range sizes {
		z, h := newZipf(size), shard.NewHasher(fmt.Sprint("field", f))
		for i := range batches {
			b := &batches[i]
			stream := random.Stream(1, random.Synth, uint64(f), uint64(i), uint64(n))
			for s := range n {
				b.Keys[s*b.Fields+f] = h.Int(int64(z.draw(random.Unit64(random.Word(stream, uint64(s))))))
			}
		}
	}
	return batches
}

// benchCluster is one shard in this process that holds the whole model of j.
func benchCluster(b testing.TB, j *job.Job) *client.Client {
	b.Helper()
	tables, err := j.Tables()
	if err != nil {
		b.Fatal(err)
	}
	dense, err := j.Dense()
	if err != nil {
		b.Fatal(err)
	}
	whole := shard.Even(1).Shards[0]
	schema := fsm.Schema{Job: "bench", Run: 1, Seed: 7, Lanes: j.Spec.Train.Lanes,
		PreImages: j.PreImages(), PipelineDepth: j.Depth(), Async: j.Async()}
	for _, tb := range tables {
		st := table.Schema{ID: tb.ID, Name: tb.Name}
		for _, col := range tb.Columns {
			st.Columns = append(st.Columns, table.Column{Name: col.Name, Width: col.Width, Init: col.Init, Optimizer: col.Optimizer})
		}
		schema.Tables = append(schema.Tables, st)
	}
	route := client.Route{Shard: whole.ID, Range: whole.Range}
	for _, d := range dense {
		schema.Dense = append(schema.Dense, fsm.DenseTensor{ID: d.ID, Name: d.Name, Size: d.Size, Init: d.Init, Optimizer: d.Optimizer})
		route.Dense = append(route.Dense, d.ID)
	}
	body, err := fsm.MarshalSchema(schema)
	if err != nil {
		b.Fatal(err)
	}
	state := fsm.New()
	b.Cleanup(state.Close)
	if r := state.Apply(1, wire.AppendConfigure(nil, body)); r.Err != nil {
		b.Fatal(r.Err)
	}
	return client.NewLocal(1, []client.Route{route}, []*fsm.State{state})
}

// cpuSeconds is the processor time of this process.
func cpuSeconds() float64 {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		panic(err)
	}
	seconds := func(t syscall.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)/1e6 }
	return seconds(r.Utime) + seconds(r.Stime)
}

// benchTrainer makes a trainer that is given its samples.
func benchTrainer(b testing.TB, j *job.Job) *Trainer {
	b.Helper()
	net, err := model.New(j.Spec.Model, len(benchVocabulary()))
	if err != nil {
		b.Fatal(err)
	}
	if err := model.SetCompute(net, j.Spec.Model.Name, j.Spec.Train.Compute); err != nil {
		b.Fatal(err)
	}
	names := make([]embedding.FieldName, len(benchVocabulary()))
	plan, err := embedding.New(j.Spec.Embedding, net.Columns(), names)
	if err != nil {
		b.Fatal(err)
	}
	t := &Trainer{cfg: Config{Job: j, Run: 1, Client: benchCluster(b, j), Factor: 1}, net: net, columns: net.Columns(), plan: plan, plain: plan.Plain()}
	for _, p := range net.Params() {
		t.sizes = append(t.sizes, p.Size())
	}
	t.separate, _ = net.(model.Separate)
	t.input, t.dInput = make([][]float32, len(t.columns)), make([][]float32, len(t.columns))
	return t
}

// BenchmarkStep trains whole steps in this process, parameter server included:
// find the different keys, pull, forward, backward, push, update.
// samples/cpu-s counts the processor time of everything.
func BenchmarkStep(b *testing.B) {
	for _, c := range []struct {
		name  string
		lanes int
		sets  []string
	}{
		{"deepfm", 1, nil},
		{"deepfm", 4, nil},
		{"deepfm-bf16", 1, []string{"spec.train.compute=bf16"}},
		{"deepfm-bf16", 4, []string{"spec.train.compute=bf16"}},
		{"deepfm-bn-dropout", 4, []string{"spec.model.batch_norm=true", "spec.model.dropout=0.2"}},
		{"autoint", 4, []string{"spec.model={name: autoint, embedding_dim: 16, attention_layers: 3, attention_dim: 64, heads: 2, residual: true, wide: true}"}},
		{"dcnv2", 4, []string{"spec.model={name: dcnv2, embedding_dim: 16, hidden: [400, 400, 400]}"}},
		{"fm", 1, []string{"spec.model={name: fm, embedding_dim: 16}"}},
		{"fm", 4, []string{"spec.model={name: fm, embedding_dim: 16}"}},
	} {
		b.Run(fmt.Sprintf("%s/lanes=%d", c.name, c.lanes), func(b *testing.B) {
			benchStep(b, append(c.sets, fmt.Sprintf("spec.train.lanes=%d", c.lanes)), c.lanes)
		})
	}
}

func TestComputeDoesNotAllocateOnceWarm(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	for _, m := range []string{
		"{name: deepfm, embedding_dim: 16, hidden: [32, 32], batch_norm: true, dropout: 0.2}", "{name: fm, embedding_dim: 16}",
		"{name: autoint, embedding_dim: 16, attention_layers: 2, attention_dim: 16, heads: 2, layer_norm: true, wide: true}",
	} {
		j, err := job.Parse("bench.yaml", []byte(benchJob), []string{"spec.model=" + m})
		if err != nil {
			t.Fatal(err)
		}
		tr := benchTrainer(t, j)
		batches := benchBatches(2, 50)
		s := &slot{ddense: tr.newDense(), dense: &denseSet{values: tr.newDense(), ready: make(chan struct{})}, step: 1, batch: 50}
		s.data = batches[0]
		tr.find(s)
		if err := tr.pullRows(context.Background(), s, true); err != nil {
			t.Fatal(err)
		}
		step := func() {
			tr.find(s)
			if err := tr.compute(context.Background(), s); err != nil {
				t.Fatal(err)
			}
		}
		step()
		if n := testing.AllocsPerRun(10, step); n != 0 {
			t.Errorf("%s: %v allocations per lane, want 0", m, n)
		}
	}
}

func benchStep(b *testing.B, sets []string, lanes int) {
	const batch, distinct = 4096, 8
	j, err := job.Parse("bench.yaml", []byte(benchJob), sets)
	if err != nil {
		b.Fatal(err)
	}
	t := benchTrainer(b, j)
	batches := benchBatches(distinct*lanes, batch/lanes)
	ctx := context.Background()
	s := &slot{ddense: t.newDense(), dense: &denseSet{}}
	values := t.newDense()
	version := uint64(0)
	step := func() {
		version++
		for lane := range lanes {
			s.step, s.lane, s.batch = version, lane, batch
			s.data = batches[int(version)%distinct*lanes+lane]
			t.find(s)
			s.dense.values, s.dense.ready = values, make(chan struct{})
			if err := t.pullRows(ctx, s, lane == 0); err != nil {
				b.Fatal(err)
			}
			if err := t.compute(b.Context(), s); err != nil {
				b.Fatal(err)
			}
			if err := t.push(ctx, s); err != nil {
				b.Fatal(err)
			}
		}
	}
	for range distinct {
		step() // rows exist, buffers have grown
	}
	b.ResetTimer()
	start := cpuSeconds()
	for b.Loop() {
		step()
	}
	b.ReportMetric(float64(b.N)*batch/(cpuSeconds()-start), "samples/cpu-s")
}
