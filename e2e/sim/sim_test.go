// Package sim runs the whole system in one process, on simulated time, network
// and disks: the real coordinators, parameter servers with raft and raft-wal,
// workers and their clients, under faults drawn from a seed. Whatever happens,
// every state of a shard that is ever seen, every answer to a pull and the
// trained model must be those of the undisturbed run.
//
// A seed fixes the faults and their times. The order of goroutines stays free,
// so a failing seed is run many times to be seen again; the failure says how.
package sim

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/fathom-train/fathom/compute/model"
	"github.com/fathom-train/fathom/coordinator/client"
	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/fathom-train/fathom/proto"
)

var (
	seeds  = flag.Int("sim.seeds", 0, "schedules to run (default 100, with -short 20)")
	first  = flag.Uint64("sim.first", 1, "seed of the first schedule")
	repeat = flag.Int("sim.repeat", 1, "run every schedule so often")
	logs   = flag.Bool("sim.log", false, "print what every process logs")
)

// progressLimit is how long, in simulated time, a job may take to end after the
// last fault.
const progressLimit = 3 * time.Minute

// lanes of every step, shards of the tables, and steps of the job.
const lanes, shards, steps = 2, 2, 30

// scratch is a folder in memory if there is one.
var scratch = sync.OnceValues(func() (string, error) {
	if dir, err := os.MkdirTemp("/dev/shm", "fathom-sim-"); err == nil {
		return dir, nil
	}
	return os.MkdirTemp("", "fathom-sim-")
})

// samples are the files of the job's data, which cost less to read than synthetic
// data to make up: two workers open them in every run, and again after every kill.
var samples = sync.OnceValues(func() (dir string, err error) {
	if dir, err = scratch(); err != nil {
		return "", err
	}
	rng := rand.New(rand.NewPCG(3, 3))
	for name, rows := range map[string]int{"train.csv": 240, "valid.csv": 40, "test.csv": 40} {
		b := []byte("label,size,user,item\n")
		for range rows {
			user, item := rng.IntN(40), rng.IntN(40)
			b = fmt.Appendf(b, "%d,%.2f,%d,%d\n", (user*item+rng.IntN(3))%2, rng.Float64(), user, item)
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			return "", err
		}
	}
	return dir, nil
})

func TestMain(m *testing.M) {
	flag.Parse()
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400) // what is alive is little
	}
	code := m.Run()
	if dir, err := scratch(); err == nil {
		os.RemoveAll(dir)
	}
	os.Exit(code)
}

// small is the job of every run; change, unless nil, makes another one of it.
func small(checkpoints string, shards int, change func(*job.Job)) []byte {
	root, err := samples()
	if err != nil {
		panic(err)
	}
	j := job.Job{APIVersion: job.APIVersion, Kind: job.Kind, Metadata: job.Metadata{Name: "small"}, Spec: job.Spec{
		Data: job.Data{Root: root, Format: "csv", Train: []string{"train.csv"}, Valid: []string{"valid.csv"}, Test: []string{"test.csv"},
			Fields: []job.Field{{Name: "size", Type: "numeric"}, {Name: "user"}, {Name: "item"}}},
		Model:      model.Spec{Name: "deepfm", EmbeddingDim: 2, Hidden: []int{3}},
		Train:      job.Train{Epochs: 2, BatchSize: 16, Lanes: lanes, Seed: 7},
		Cluster:    job.Cluster{Workers: 2, PS: 3, Replicas: 3, Shards: shards},
		Checkpoint: job.Checkpoint{Dir: checkpoints},
	}}
	if change != nil {
		change(&j)
	}
	j = j.WithDefaults()
	if err := j.Validate(); err != nil {
		panic(err)
	}
	return j.JSON()
}

// outcome is what a run left to look at.
type outcome struct {
	ops    []operation
	status *proto.JobStatus
	took   time.Duration // simulated
}

// simulate runs the job under a schedule in a bubble and checks all that was
// seen against the known truth.
func simulate(t *testing.T, name string, random uint64, s schedule, known *truth, alter func(*cluster)) (o outcome) {
	t.Helper()
	o, found := trySimulate(t, name, random, s, known, alter)
	for _, f := range found {
		t.Error(f)
	}
	switch linearizable(o.ops, 10*time.Second) {
	case porcupine.Ok:
		seen.add(historyOk, 1)
	case porcupine.Unknown:
		seen.add(historyOpen, 1)
	case porcupine.Illegal:
		t.Error("the pulls and pushes could not have happened one after the other")
	}
	return o
}

// trySimulate is simulate for runs that are expected to fail: it returns what
// is wrong.
func trySimulate(t *testing.T, name string, random uint64, s schedule, known *truth, alter func(*cluster)) (o outcome, found []string) {
	root, err := scratch()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp(root, name)
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	synctest.Test(t, func(t *testing.T) {
		var to slog.Handler = slog.DiscardHandler
		if *logs {
			to = slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})
		}
		log := slog.New(counting{to})
		rng := rand.New(&lockedSource{src: rand.NewPCG(random, 0xfa)})
		v := &verdict{}
		c := newCluster(v, rng, filepath.Join(dir, "files"), log, known)
		c.calls.twice, c.calls.late, c.calls.lost = s.twice, s.late, s.lost
		if alter != nil {
			alter(c)
		}
		defer c.stop()
		o = c.train(s)
		found = v.all()
	})
	return o, found
}

// verdict collects what is wrong with a run.
type verdict struct {
	mu    sync.Mutex
	found []string
}

func (v *verdict) Errorf(format string, args ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.found = append(v.found, fmt.Sprintf(format, args...))
}

func (v *verdict) all() []string {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.found
}

// train submits the job, lets the schedule happen, and waits for the end.
func (c *cluster) train(s schedule) (o outcome) {
	ctl, err := c.control()
	if err != nil {
		c.wrong.Errorf("%v", err)
		return o
	}
	defer ctl.Close()
	c.ctl = ctl
	begin := time.Now()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	name, err := ctl.Submit(ctx, small(c.checkpoints(), shards, c.change))
	cancel()
	if err != nil {
		c.wrong.Errorf("%v", err)
		return o
	}
	// Faults begin while the job starts, or once it trains.
	if len(s.faults) > 0 && s.faults[0].draw%4 != 0 {
		c.await(ctl, name, time.Minute, func(s *proto.JobStatus) bool { return s.GetStep() > 0 })
	}
	s.run(c)
	o.status = c.await(ctl, name, progressLimit, func(s *proto.JobStatus) bool { return client.Ended(s.GetPhase()) })
	o.took = time.Since(begin)
	if o.status.GetPhase() != proto.Phase_PHASE_DONE {
		c.wrong.Errorf("the job is in %s at step %d: %s", o.status.GetPhase(), o.status.GetStep(), o.status.GetDetail())
		return o
	}
	c.settle(o.status.GetStep())
	c.calls.mu.Lock()
	o.ops = c.calls.ops
	c.calls.mu.Unlock()
	o.count()
	if made := c.checkpoint.Load(); made != nil {
		c.restore(made)
	}
	return o
}

// count adds the run to the census.
func (o *outcome) count() {
	seen.add(runDone, 1)
	seen.add(stepDone, int(o.status.GetStep()))
	seen.add(simulatedTime, int(o.took/time.Second))
	for _, op := range o.ops {
		switch {
		case op.ok && op.push:
			seen.add(pushDone, 1)
		case op.ok:
			seen.add(pullDone, 1)
		}
	}
}

// restore goes on from a checkpoint, in another number of shards, and wants the
// same model.
func (c *cluster) restore(from *proto.CheckpointInfo) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	name, err := c.ctl.Restore(ctx, small(c.checkpoints(), shards+1, c.change), from.GetLocation())
	cancel()
	if err != nil {
		c.wrong.Errorf("restore the checkpoint of step %d: %v", from.GetStep(), err)
		return
	}
	s := c.await(c.ctl, name, progressLimit, func(s *proto.JobStatus) bool { return client.Ended(s.GetPhase()) })
	if s.GetPhase() != proto.Phase_PHASE_DONE || c.calls.ledger == nil && s.GetModelHash() != c.calls.truth.model {
		c.wrong.Errorf("the job from the checkpoint of step %d is in %s at step %d with the model %s, want %s: %s %s",
			from.GetStep(), s.GetPhase(), s.GetStep(), s.GetModelHash(), c.calls.truth.model, s.GetDetail(), s.GetError())
		return
	}
	seen.add(restored, 1)
}

// await watches the job until the condition holds, it ended, or time is up.
func (c *cluster) await(ctl *client.Control, name string, limit time.Duration, holds func(*proto.JobStatus) bool) (last *proto.JobStatus) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	for ctx.Err() == nil {
		_ = ctl.Watch(ctx, name, func(s *proto.JobStatus) error {
			if last = s; holds(s) || client.Ended(s.GetPhase()) {
				cancel()
			}
			return nil
		}) // an error is of a coordinator that is down for long: ask again
		select {
		case <-ctx.Done():
		case <-time.After(100 * time.Millisecond):
		}
	}
	return last
}

// settle waits until every replica in service has the last version; their
// states are checked as they are reported.
func (c *cluster) settle(version uint64) {
	const limit = 30 * time.Second
	begin := time.Now()
	for {
		behind := ""
		served := map[uint32]int{}
		for k, g := range c.calls.replicas(version) {
			switch {
			case g.GetLost():
				continue // it stays out of service
			case g.GetError() != "" || g.GetVersion() != version:
				behind = fmt.Sprintf("shard %d on %s is at version %d, want %d (%s)", k.shard, k.node, g.GetVersion(), version, g.GetError())
			default:
				served[k.shard]++
			}
		}
		if behind == "" && served[0] >= 2 && served[1] >= 2 {
			return
		}
		if time.Since(begin) > limit {
			c.wrong.Errorf("not settled %v after the end: %s; %v", limit, behind, served)
			return
		}
		<-time.After(100 * time.Millisecond)
	}
}

// lockedSource is a source of random numbers for several goroutines.
type lockedSource struct {
	mu  sync.Mutex
	src rand.Source
}

func (s *lockedSource) Uint64() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.src.Uint64()
}

func baseline(t *testing.T) *truth {
	t.Helper()
	known := newTruth()
	o := simulate(t, "undisturbed", 0, schedule{}, known, nil)
	known.model = o.status.GetModelHash()
	if t.Failed() || known.model == "" || o.status.GetStep() != steps {
		t.Fatalf("the undisturbed run: %v", o.status)
	}
	t.Logf("undisturbed: model %s after %d steps, %d calls, %v of simulated time", known.model, o.status.GetStep(), len(o.ops), o.took)
	return known
}

// seriesOf is how many schedules are to be run.
func seriesOf(t *testing.T) int {
	t.Helper()
	switch {
	case *seeds > 0:
		return *seeds
	case testing.Short():
		return 20
	}
	return 100
}

func TestSimulation(t *testing.T) {
	n := seriesOf(t)
	known := baseline(t)
	began := time.Now()
	t.Cleanup(func() { summary(t, began, n) }) // when the parallel runs have ended
	for i := range uint64(n) {
		seed := *first + i
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			s := plan(seed)
			defer func() {
				seen.add(runEnded, 1)
				progress(began, n)
				if t.Failed() {
					t.Logf("%v\nreplay: go test ./e2e/sim -run TestSimulation -sim.first=%d -sim.seeds=1 -sim.repeat=20 -sim.log -v", s, seed)
				}
			}()
			for k := range *repeat {
				o := simulate(t, fmt.Sprint("seed-", seed, "-"), seed<<16+uint64(k), s, known, nil)
				if got := o.status.GetModelHash(); got != known.model {
					t.Errorf("model hash %q, want that of the undisturbed run, %q", got, known.model)
				}
			}
		})
	}
}
