package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"sync"

	"github.com/fathom-train/fathom/compute/gemm"
	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/fathom-train/fathom/ps/client"
	"github.com/fathom-train/fathom/ps/fsm"
	"github.com/fathom-train/fathom/ps/table"
	"github.com/fathom-train/fathom/ps/wire"
	"github.com/fathom-train/fathom/shard"
	"github.com/fathom-train/fathom/worker/dataset"
	"github.com/fathom-train/fathom/worker/trainer"
)

// benchRun is the run that one-process training names in its pushes.
const benchRun = 1

// benchStep measures whole training steps in this process: samples taken from
// decoded blocks, keys sorted and made unique, pull, forward, backward, push and
// LAMB, with the encoding and checksums of pulls and pushes, without network,
// log and replicas. Data are generated and decoded, and all rows exist, before
// the clock starts.
func benchStep(ctx context.Context, b *bencher) error {
	dir, err := os.MkdirTemp("", "fathom-bench-")
	if err != nil {
		return fmt.Errorf("make a directory for the samples: %w", err)
	}
	defer os.RemoveAll(dir) // it holds nothing of value
	f := b.flags
	data, err := writeBenchData(dir, f.fields, f.batch, f.batches)
	if err != nil {
		return err
	}
	models := f.models
	if models == nil {
		models = []string{"lr", "fm", "deepfm"}
	}
	for _, name := range models {
		j, err := f.benchJob(name, data, []string{data.file}, max(1, f.lanes), job.Cluster{})
		if err != nil {
			return err
		}
		for _, threads := range f.threads {
			if err := b.trainHere(ctx, j, data, threads); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return nil
}

// trainHere measures the steps of one job.
func (b *bencher) trainHere(ctx context.Context, j *job.Job, data *benchData, threads int) error {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(threads))
	gemm.SetThreads(threads)
	defer gemm.SetThreads(1)
	ps, states, err := localShards(j, max(1, b.flags.shards))
	defer func() {
		for _, s := range states {
			s.Close()
		}
	}()
	if err != nil {
		return err
	}
	set, err := dataset.Open(ctx, j.Spec.Data, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer set.Close() // it was only read
	t, err := trainer.New(trainer.Config{Job: j, Run: benchRun, Data: set, Client: ps, Factor: 1})
	if err != nil {
		return err
	}
	w := stepWatch{lanes: j.Spec.Train.Lanes}
	for i := range j.Spec.Train.Lanes {
		w.all = append(w.all, i)
	}
	// One epoch creates all rows; the steps of a second one are timed to know how
	// many fill a repeat.
	epoch := uint64(b.flags.batches)
	if _, err := w.train(ctx, t, 0, epoch); err != nil {
		return err
	}
	if _, err := w.train(ctx, t, epoch, epoch); err != nil {
		return err
	}
	took := w.marks[0].since(1).worked(threads)
	perRepeat := uint64(roundsFor(b.flags.repTime, took, int(epoch)))
	repeats, err := w.train(ctx, t, perRepeat, perRepeat*uint64(b.flags.reps))
	if err != nil {
		return err
	}
	for i := range repeats {
		repeats[i].work *= float64(j.Spec.Train.BatchSize)
	}
	extra := map[string]float64{"distinct_rows_per_batch": data.distinct, "steps_per_repeat": float64(perRepeat)}
	c := benchCase{name: b.flags.shape(j), threads: threads, unit: "samples/s", extra: extra}
	if shards := len(states); shards > 1 {
		c.name += fmt.Sprintf(" shards=%d", shards)
	}
	return b.report(c, repeats)
}

// stepWatch times the steps of a trainer while it goes on.
type stepWatch struct {
	lanes int
	all   []int  // every lane
	done  uint64 // steps so far

	// mu guards what follows: lanes end on several goroutines.
	mu     sync.Mutex
	pushed uint64 // lanes of this call
	marks  []clock
}

// settleSteps go by before the first repeat, so that the buffers of the
// pipeline are there.
const settleSteps = 2

// train takes settleSteps and then steps more, and returns the repeats of every
// steps each, counted in steps; every 0 wants none.
func (w *stepWatch) train(ctx context.Context, t *trainer.Trainer, every, steps uint64) ([]repeat, error) {
	w.pushed, w.marks = 0, nil
	var repeats []repeat
	progress := func(uint64, int, float64, int) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.pushed++
		step := w.pushed / uint64(w.lanes)
		if every == 0 || w.pushed%uint64(w.lanes) > 0 || step < settleSteps || (step-settleSteps)%every > 0 {
			return
		}
		if n := len(w.marks); n > 0 {
			repeats = append(repeats, w.marks[n-1].since(float64(every)))
		}
		w.marks = append(w.marks, readClock())
	}
	last := w.done + settleSteps + steps
	if err := t.Train(ctx, w.all, last, progress); err != nil {
		return nil, err
	}
	w.done = last
	return repeats, nil
}

// localShards makes the state machines of a job in this process, and the client
// that reaches them.
func localShards(j *job.Job, shards int) (*client.Client, []*fsm.State, error) {
	tables, err := j.Tables()
	if err != nil {
		return nil, nil, err
	}
	dense, err := j.Dense()
	if err != nil {
		return nil, nil, err
	}
	sizes := make([]int, len(dense))
	for i, d := range dense {
		sizes[i] = d.Size
	}
	homes := shard.PlaceDense(sizes, shards)
	var routes []client.Route
	var states []*fsm.State
	for _, s := range shard.Even(shards).Shards {
		schema := fsm.Schema{Job: j.Metadata.Name, Run: benchRun, Seed: j.Spec.Train.Seed, Lanes: j.Spec.Train.Lanes,
			PreImages: j.PreImages(), PipelineDepth: j.Depth(), Async: j.Async()}
		for _, t := range tables {
			columns := make([]table.Column, len(t.Columns))
			for i, c := range t.Columns {
				columns[i] = table.Column{Name: c.Name, Width: c.Width, Init: c.Init, Optimizer: c.Optimizer}
			}
			schema.Tables = append(schema.Tables, table.Schema{ID: t.ID, Name: t.Name, Columns: columns})
		}
		route := client.Route{Shard: s.ID, Range: s.Range}
		for i, d := range dense {
			if homes[i] == s.ID {
				schema.Dense = append(schema.Dense, fsm.DenseTensor{ID: d.ID, Name: d.Name, Size: d.Size, Init: d.Init, Optimizer: d.Optimizer})
				route.Dense = append(route.Dense, d.ID)
			}
		}
		body, err := fsm.MarshalSchema(schema)
		if err != nil {
			return nil, states, err
		}
		state := fsm.New()
		states, routes = append(states, state), append(routes, route)
		if r := state.Apply(1, wire.AppendConfigure(nil, body)); r.Err != nil {
			return nil, states, r.Err
		}
	}
	return client.NewLocal(benchRun, routes, states), states, nil
}
