package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"

	"github.com/fathom-train/fathom/deploy/local"
	"github.com/fathom-train/fathom/proto"
	"github.com/fathom-train/fathom/proto/identity"
)

const (
	// stepPoll is how often the servers are asked for their step.
	stepPoll = 20 * time.Millisecond
	// stallMin is the least time without a step that counts as an effect.
	stallMin = 200 * time.Millisecond
	// recoveryMax is how long a fault is waited for before the next one is made.
	recoveryMax = time.Minute
)

// victim is a cluster whose processes can be signalled.
type victim interface {
	Signal(process string, s syscall.Signal) error
	// servers are the addresses of the parameter servers by name.
	servers() map[string]string
}

// chaosOutcome is what a fault did.
type chaosOutcome struct {
	Fault string `json:"fault"`
	Made  bool   `json:"made"`
	// Seconds is when, since the first step; Step is the step all shards had.
	Seconds float64 `json:"seconds,omitempty"`
	Step    uint64  `json:"step,omitempty"`
	Effect  string  `json:"effect"`
	// Recovery is how many seconds no step was completed after the fault; 0:
	// training was not held up.
	Recovery float64 `json:"recovery_seconds,omitempty"`
}

func (o chaosOutcome) String() string {
	return fmt.Sprintf("at step %d: %s: %s", o.Step, o.Fault, o.Effect)
}

// faultMaker makes the faults of a plan while a job runs.
type faultMaker struct {
	plan []chaosFault
	told func(chaosOutcome)

	cluster victim
	self    *identity.Source
	dir     string
	conns   map[string]*grpc.ClientConn
	begun   time.Time // the first step

	// mu guards what follows.
	mu    sync.Mutex
	steps uint64 // of the job
	done  []chaosOutcome
}

// start makes the faults in the background until stop is called.
func (m *faultMaker) start(ctx context.Context, c cluster, dir string) (stop func(), err error) {
	v, ok := c.(victim)
	if !ok {
		return func() {}, errors.New("the processes of this cluster cannot be signalled")
	}
	m.cluster, m.self, m.dir, m.conns = v, c.identity(), dir, map[string]*grpc.ClientConn{}
	for name, addr := range v.servers() {
		if m.conns[name], err = grpc.NewClient(addr, grpc.WithTransportCredentials(m.self.Dialer(identity.PS))); err != nil {
			m.hangUp()
			return func() {}, err
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		m.run(ctx)
	}()
	return func() { cancel(); <-ended; m.hangUp() }, nil
}

func (m *faultMaker) hangUp() {
	for _, c := range m.conns {
		_ = c.Close() // nothing is under way
	}
}

// outcomes has one entry per planned fault.
func (m *faultMaker) outcomes() []chaosOutcome {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := append([]chaosOutcome(nil), m.done...)
	for _, f := range m.plan[len(all):] {
		all = append(all, chaosOutcome{Fault: f.String(), Effect: "not made: too late"})
	}
	return all
}

// run makes one fault after the other.
func (m *faultMaker) run(ctx context.Context) {
	for _, f := range m.plan {
		at, ok := m.await(ctx, f)
		if !ok {
			return
		}
		o := m.make(ctx, f, at)
		m.mu.Lock()
		m.done = append(m.done, o)
		m.mu.Unlock()
		m.told(o)
	}
}

// await waits until it is time for a fault; false: the run ended before.
func (m *faultMaker) await(ctx context.Context, f chaosFault) (at shardStep, ok bool) {
	for {
		at = m.step(ctx)
		if at.version > 0 && m.begun.IsZero() {
			m.begun = time.Now()
		}
		m.mu.Lock()
		steps := m.steps
		m.mu.Unlock()
		if at.leader != "" && at.version > 0 && steps > 0 && float64(at.version) >= f.at*float64(steps) {
			return at, true
		}
		if !waitFor(ctx, stepPoll) {
			return at, false
		}
	}
}

// make makes a fault and waits until training goes on.
func (m *faultMaker) make(ctx context.Context, f chaosFault, at shardStep) chaosOutcome {
	names := f.names
	o := chaosOutcome{Fault: f.String(), Made: true, Step: at.version, Seconds: time.Since(m.begun).Seconds()}
	if f.kind == kindLeader {
		names = []string{at.leader}
		o.Fault = fmt.Sprintf("kill -9 %s, leader of shard 0", at.leader)
	}
	signal := syscall.SIGKILL
	if f.kind == kindStop {
		signal = sigStop
	}
	missing := 0
	for _, n := range names {
		if err := m.cluster.Signal(n, signal); err != nil {
			missing++ // it is just being started again
		}
	}
	if missing == len(names) {
		o.Made, o.Effect = false, "not made: it was down"
		return o
	}
	resumed := time.Now()
	if f.kind == kindStop {
		timer := time.AfterFunc(f.lasts, func() {
			for _, n := range names {
				_ = m.cluster.Signal(n, sigContinue) // it may have been killed meanwhile
			}
		})
		defer func() {
			if timer.Stop() { // the run ends: it must be able to
				for _, n := range names {
					_ = m.cluster.Signal(n, sigContinue)
				}
			}
		}()
		resumed = resumed.Add(f.lasts)
	}
	o.Effect, o.Recovery = m.watch(ctx, at.version, resumed)
	return o
}

// watch follows the steps after a fault: what was under way may still be
// completed, so training goes on once three more steps are. until is the end of
// the fault itself.
func (m *faultMaker) watch(ctx context.Context, from uint64, until time.Time) (effect string, seconds float64) {
	begun := time.Now()
	last, lastAt, longest := from, begun, time.Duration(0)
	for time.Since(begun) < recoveryMax {
		if !waitFor(ctx, stepPoll) {
			return "training ended", 0
		}
		at, now := m.step(ctx), time.Now()
		if at.version > last {
			longest = max(longest, now.Sub(lastAt))
			last, lastAt = at.version, now
		}
		// A stop has its effect while it lasts.
		if last >= from+3 && now.After(until) && now.Sub(begun) > stallMin {
			longest = max(longest, now.Sub(lastAt))
			if longest < stallMin {
				return "no pause", 0
			}
			return "paused", longest.Seconds()
		}
	}
	return fmt.Sprintf("no step for %s", recoveryMax), time.Since(lastAt).Seconds()
}

// status learns how many steps the job has.
func (m *faultMaker) status(s *proto.JobStatus) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.steps = max(m.steps, s.GetSteps())
}

// watching is a progress that tells the fault maker, too.
type watching struct {
	progress
	faults *faultMaker
}

func (w watching) status(s *proto.JobStatus) {
	w.faults.status(s)
	w.progress.status(s)
}

// shardStep is how far shard 0 is; the others are never more than the depth of
// the pipeline away from it.
type shardStep struct {
	version uint64
	leader  string // empty: not known
}

// step asks all servers.
func (m *faultMaker) step(ctx context.Context) (at shardStep) {
	ctx, cancel := context.WithTimeout(ctx, 250*time.Millisecond)
	defer cancel()
	replies := make(chan *proto.ShardStatusReply, len(m.conns))
	var asked sync.WaitGroup
	for name, conn := range m.conns {
		found, _ := filepath.Glob(filepath.Join(local.DataDir(m.dir, name), "groups", "*", "0")) // the pattern is sound
		if len(found) != 1 {
			continue // not formed yet
		}
		asked.Go(func() {
			job := filepath.Base(filepath.Dir(found[0]))
			if r, err := proto.NewParameterServerClient(conn).ShardStatus(ctx, &proto.ShardStatusRequest{Job: job}); err == nil {
				replies <- r
			}
		})
	}
	asked.Wait()
	close(replies)
	for r := range replies {
		if r.GetVersion() >= at.version {
			at.version = r.GetVersion()
			if r.GetLeaderNode() != "" {
				at.leader = r.GetLeaderNode()
			}
		}
	}
	return at
}

// waitFor waits and reports whether ctx still lives.
func waitFor(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
