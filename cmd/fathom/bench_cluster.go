package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/fathom-train/fathom/proto"
)

// benchCluster measures training on a whole local cluster: every process of
// fathom run, with durable logs. The clock covers steps of the training alone,
// in the middle of one epoch; CPU seconds are those of all processes.
func benchCluster(ctx context.Context, b *bencher) error {
	models := b.flags.models
	if models == nil {
		models = []string{"deepfm"}
	}
	for _, name := range models {
		if err := b.trainCluster(ctx, name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func (b *bencher) trainCluster(ctx context.Context, name string) (err error) {
	f := b.flags
	dir, err := os.MkdirTemp("", "fathom-bench-")
	if err != nil {
		return fmt.Errorf("make a working directory: %w", err)
	}
	defer func() {
		if err == nil || ctx.Err() != nil { // else the logs are needed
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	data, err := writeBenchData(dir, f.fields, f.batch, f.batches)
	if err != nil {
		return err
	}
	files, err := data.repeated((f.epochBatches + f.batches - 1) / f.batches)
	if err != nil {
		return err
	}
	lanes, shards := f.lanes, f.shards
	if lanes == 0 {
		lanes = min(4, f.batch)
	}
	if shards == 0 {
		shards = 4
	}
	j, err := f.benchJob(name, data, files, lanes, job.Cluster{Workers: f.workers, PS: f.servers, Replicas: f.replicas, Shards: shards})
	if err != nil {
		return err
	}
	steps := uint64(j.Steps(int64(data.rows * len(files))))
	m := &clusterWatch{job: j, reps: f.reps, steps: steps}
	if err := b.app.measureCluster(ctx, j, filepath.Join(dir, "cluster"), clusterOptions{insecure: f.insecure}, m); err != nil {
		return err
	}
	c := benchCase{unit: "samples/s", threads: runtime.NumCPU(),
		name:  fmt.Sprintf("%s replicas=%d workers=%d ps=%d shards=%d", f.shape(j), f.replicas, f.workers, f.servers, shards),
		extra: map[string]float64{"distinct_rows_per_batch": data.distinct, "steps": m.measuredSteps()}}
	for role, seconds := range m.cpuByRole() {
		c.extra["cpu_seconds_"+role] = seconds
	}
	return b.report(c, m.repeats)
}

// measureCluster runs the job on a new cluster until m has seen enough of it.
func (a *app) measureCluster(ctx context.Context, j *job.Job, dir string, how clusterOptions, m *clusterWatch) (err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make a working directory: %w", err)
	}
	c, err := a.startCluster(ctx, j, dir, how, func(process string, _ int) { m.died.Store(&process) })
	if err != nil {
		return fmt.Errorf("start the cluster: %w", err)
	}
	a.interrupts.onSecond(c.kill)
	defer func() {
		if _, serr := c.stop(); serr != nil {
			err = errors.Join(err, serr)
		}
		if err != nil && !errors.Is(err, context.Canceled) {
			err = a.explainFailure(err, dir)
		}
	}()
	o, ok := c.(observed)
	if !ok {
		return errors.New("the metrics of this cluster cannot be read")
	}
	m.cluster = o
	control, err := a.dial(c.coordinators(), c.identity())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, control.Close()) }()
	watch, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case err := <-c.failed():
			cancel(err)
		case <-watch.Done():
		}
	}()
	name, err := control.Submit(watch, j.JSON())
	if err != nil {
		return err
	}
	err = control.Watch(watch, name, func(s *proto.JobStatus) error { return m.see(watch, s) })
	a.cancelJob(ctx, control, name)
	switch {
	case errors.Is(err, errMeasured):
		return m.check()
	case watch.Err() != nil:
		return context.Cause(watch)
	case err != nil:
		return err
	}
	return errors.New("the coordinator stopped telling before the job had ended")
}
