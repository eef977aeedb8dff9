package coordinator

import (
	"context"
	"slices"
	"sync"
	"testing"

	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/fathom-train/fathom/coordinator/store"
	"github.com/fathom-train/fathom/proto"
)

// writeFault is what happens at one write of all that the coordinators do.
type writeFault struct {
	mu   sync.Mutex
	left int  // writes before it
	done bool // it is carried out, but its coordinator does not learn of it
	kill func(node string)
	// happened is set once it has.
	happened bool
}

// countingStore is a store whose writes a fault counts.
type countingStore struct {
	store.Store
	node  string
	fault *writeFault
}

type countingLeadership struct {
	store.Leadership
	node  string
	fault *writeFault
}

func (s countingStore) Campaign(ctx context.Context, election string, c store.Candidate) (store.Leadership, error) {
	l, err := s.Store.Campaign(ctx, election, c)
	if err != nil {
		return nil, err
	}
	return countingLeadership{l, s.node, s.fault}, nil
}

func (l countingLeadership) Write(ctx context.Context, ops ...store.Op) error {
	f := l.fault
	f.mu.Lock()
	f.left--
	now := f.left == 0
	f.happened = f.happened || now
	f.mu.Unlock()
	if !now {
		return l.Leadership.Write(ctx, ops...)
	}
	if f.done {
		if err := l.Leadership.Write(ctx, ops...); err != nil {
			return err
		}
	}
	f.kill(l.node)
	return errDisk
}

// writeStride is how far the writes are apart that a coordinator dies at: 1, and more
// where the race detector is what looks. firstWrite is the first of them, which is then
// another one for writes that are done and those that are not.
func writeStride() int {
	if testing.Short() {
		return 4
	}
	return 1
}

func firstWrite(n int, done bool) int {
	if done {
		return n
	}
	return n + writeStride()/2
}

// TestEveryWriteMayBeTheLast: a coordinator dies at the n-th of all writes of a
// job that makes checkpoints and of the job that goes on from one, for every n,
// having done the write or not. The other one goes on, and the result is the same.
func TestEveryWriteMayBeTheLast(t *testing.T) {
	var want []string
	for _, done := range []bool{true, false} {
		for n := firstWrite(1, done); ; n += writeStride() {
			fault := &writeFault{left: n, done: done}
			inBubble(t, func(t *testing.T, c *cluster) { want = everyWrite(t, c, fault, want) })
			if t.Failed() {
				t.Fatalf("at write %d, done %t", n, done)
			}
			if !fault.happened {
				if n < 20 {
					t.Fatalf("only %d writes in all", n-1)
				}
				break
			}
		}
	}
}

// everyWrite trains, restores and returns the hashes of the models.
func everyWrite(t *testing.T, c *cluster, fault *writeFault, want []string) []string {
	dir := t.TempDir()
	stops := map[string]func(){}
	var killed sync.WaitGroup
	started := make(chan struct{}) // the first write may be made before
	fault.kill = func(node string) { killed.Go(func() { <-started; stops[node]() }) }
	defer killed.Wait()
	for _, node := range []string{"c0", "c1"} {
		_, stops[node] = c.coordinatorOn(node, countingStore{c.memory.Open(), node, fault})
	}
	close(started)
	c.servers("c0", "c1")
	c.worker("worker-0", simWorker{digest: "d", stepMs: 500}, "c0", "c1")
	ctl := c.control("c0", "c1")
	finish := func(name string, err error) *proto.JobStatus {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		s := await(t, ctl, name, inPhase(proto.Phase_PHASE_DONE))
		if len(s.GetScores()) != 3 || s.GetStep() != 20 {
			t.Errorf("%s ended with %v", name, s)
		}
		return s
	}
	first := finish(ctl.Submit(t.Context(), spec(t, "first", into(dir, func(j *job.Job) { j.Spec.Checkpoint.EverySteps = 6 }))))
	all := manifests(t, dir)
	for _, i := range first.GetCheckpoints() {
		if !slices.Contains(steps(all), i.GetStep()) {
			t.Errorf("the checkpoint of step %d is listed and does not exist", i.GetStep())
		}
	}
	if len(first.GetCheckpoints()) == 0 {
		t.Fatal("no checkpoint was made")
	}
	second := finish(ctl.Restore(t.Context(), spec(t, "second", nil), first.GetCheckpoints()[0].GetLocation()))
	jobs, err := ctl.List(t.Context())
	if err != nil || len(jobs) != 2 {
		t.Errorf("%d jobs, error %v; want the two submitted", len(jobs), err)
	}
	got := []string{first.GetModelHash(), second.GetModelHash()}
	if want != nil && !slices.Equal(got, want) {
		t.Errorf("models %v, want %v", got, want)
	}
	return got
}
