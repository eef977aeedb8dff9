// Package scale keeps the workers of a cluster on Kubernetes as the coordinator
// that leads wants them: it sizes the Indexed Job of the workers to the job under
// way, takes the workers away when the job is over, and has a worker replaced
// that its pod's own probes hold for well but that is silent, or holds the others
// up.
//
// It keeps no state that matters: what was done is read back from the Job and its
// pods, so the next leader goes on where one was killed. What people decide stays:
// a run of a job is sized once, a Job that is suspended is left alone.
package scale

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"
)

const (
	// lookEvery is how often the Job and its pods are looked at.
	lookEvery = 15 * time.Second
	// lookTimeout bounds one look and what follows from it.
	lookTimeout = 30 * time.Second
	// endGrace is how long workers have to end by themselves when a job is over.
	endGrace = 2 * time.Minute
	// silentMax is how long a worker whose pod runs may be silent, also at its
	// start, before the pod is replaced. No worker is replaced twice in it.
	silentMax = 3 * time.Minute
	// stalledMax is how long a worker may live and deliver nothing while others
	// do. Others have long taken its lanes over by then.
	stalledMax = 10 * time.Minute
	// repeatAfter is when a line that still holds is logged again.
	repeatAfter = 10 * time.Minute
)

// Demand is what the leading coordinator wants of the workers.
type Demand struct {
	// Job is under way or ended last, Run tells its runs apart; empty: unknown.
	Job, Run string
	// Active: the job is under way and asks for that many Workers.
	Active  bool
	Workers int
	Ended   time.Time
	// Since is when the leader was elected.
	Since time.Time
	// Seen are the workers that have joined it, by name.
	Seen map[string]Seen
}

// Seen is for how long a worker has been silent, and for how long it delivered
// nothing while others did; both 0 for one that is well.
type Seen struct{ Silent, Stalled time.Duration }

// Set is the Job of the workers and its pods.
type Set struct {
	// Parallelism is how many pods are wanted.
	Parallelism int
	// Run is which run of a job it was sized for last; empty: none yet.
	Run string
	// Suspended: a person or a queue wants no pods now.
	Suspended bool
	// Finished is why the Job never makes pods again; empty: it does.
	Finished string
	Pods     []Pod

	version, uid string
}

// Pod is one worker's pod.
type Pod struct {
	Name string
	// Node is the worker's name in fathom.
	Node string
	// Running since Started; a pod that is Leaving is being taken away.
	Running, Leaving bool
	Started          time.Time
}

// API is what is asked of the cluster.
type API interface {
	// Look reads the Job and its pods.
	Look(ctx context.Context) (*Set, error)
	// Resize makes the Job one of n workers for a run, unless it has changed since
	// the look. With n = 0 its pods go; the number of its indexes stays.
	Resize(ctx context.Context, of *Set, n int, run string) error
	// Evict has a pod taken away and made anew.
	Evict(ctx context.Context, pod string) error
	// Tell notes an event at the Job, where people look for such things.
	Tell(ctx context.Context, of *Set, reason, message string) error
}

// Scaler does it all. It is used by one goroutine.
type Scaler struct {
	api    API
	demand func() (Demand, bool)
	log    *slog.Logger
	acted  func(action, job, target, detail string)
	// evicted is when this process had pods replaced; it only paces.
	evicted []time.Time
	// said is when a line was logged last.
	said map[string]time.Time
}

// New returns a Scaler. demand says what is wanted; false while another
// coordinator leads. acted is told what was done to the workers of a job, for the
// audit trail.
func New(api API, demand func() (Demand, bool), log *slog.Logger, acted func(action, job, target, detail string)) *Scaler {
	return &Scaler{api: api, demand: demand, log: log, acted: acted, said: map[string]time.Time{}}
}

// Run works until ctx ends.
func (s *Scaler) Run(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		if err := s.once(ctx); err != nil && ctx.Err() == nil {
			s.say(time.Now(), "the workers' Job cannot be kept", "error", err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

// say logs a warning that may hold for long.
func (s *Scaler) say(now time.Time, text string, attrs ...any) {
	if last, ok := s.said[text]; ok && now.Sub(last) < repeatAfter {
		return
	}
	s.said[text] = now
	s.log.Warn(text, attrs...)
}

// once looks and does what is due.
func (s *Scaler) once(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	d, leads := s.demand()
	if !leads || d.Run == "" {
		return nil
	}
	set, err := s.api.Look(ctx)
	if err != nil {
		return err
	}
	// Looking took time: whoever leads now may want something else.
	d, leads = s.demand()
	if !leads || d.Run == "" {
		return nil
	}
	now := time.Now()
	if n, due := size(d, set, now); due {
		return s.resize(ctx, d, set, n)
	}
	switch {
	case !d.Active:
		return nil
	case set.Finished != "":
		s.say(now, "the workers' Job is over, the job under way gets no workers from it", "job", d.Job, "reason", set.Finished)
		return nil
	case set.Suspended || set.Parallelism == 0:
		s.say(now, "the workers' Job is suspended, the job under way waits", "job", d.Job)
		return nil
	}
	return s.replace(ctx, d, set, now)
}

// size returns how many workers the Job should be made for, if that is due. Each
// run is sized once, so that nobody's later decision is taken back.
func size(d Demand, set *Set, now time.Time) (n int, due bool) {
	switch {
	case set.Finished != "" || set.Suspended:
		return 0, false
	case !d.Active:
		return 0, set.Parallelism > 0 && now.Sub(d.Ended) > endGrace
	case set.Run == d.Run:
		return 0, false
	case set.Run == "" && set.Parallelism > 0: // as it was made for this, the first job
		return set.Parallelism, true
	}
	return d.Workers, true
}

func (s *Scaler) resize(ctx context.Context, d Demand, set *Set, n int) error {
	if err := s.api.Resize(ctx, set, n, d.Run); err != nil {
		return fmt.Errorf("resize to %d workers for %s: %w", n, d.Run, err)
	}
	if n == set.Parallelism {
		return nil // only noted whose they are
	}
	what := fmt.Sprintf("from %d to %d workers for %s", set.Parallelism, n, d.Run)
	s.acted("resize workers", d.Job, "", what)
	return s.api.Tell(ctx, set, "WorkersResized", what)
}

// victim is a worker to be replaced.
type victim struct {
	pod Pod
	why string
}

// replace has the workers replaced that will not come back by themselves, a few
// at a time.
func (s *Scaler) replace(ctx context.Context, d Demand, set *Set, now time.Time) error {
	s.evicted = slices.DeleteFunc(s.evicted, func(at time.Time) bool { return now.Sub(at) > silentMax })
	victims, running := victims(d, set, now)
	if len(victims) > max(1, running/2) {
		// The pods are the smaller part of what could be wrong then.
		s.say(now, "most workers are out of reach, none is replaced: look at the network and at the coordinator", "silent", len(victims), "running", running)
		return nil
	}
	for _, v := range victims[:min(len(victims), max(0, max(1, running/4)-len(s.evicted)))] {
		if err := s.api.Evict(ctx, v.pod.Name); err != nil {
			return fmt.Errorf("replace worker %s: %w", v.pod.Node, err)
		}
		s.evicted = append(s.evicted, now)
		s.acted("replace worker", d.Job, v.pod.Node, v.why)
		if err := s.api.Tell(ctx, set, "WorkerReplaced", fmt.Sprintf("pod %s of %s: %s", v.pod.Name, v.pod.Node, v.why)); err != nil {
			return err
		}
	}
	return nil
}

// victims lists the workers that should be replaced, by name, and counts the
// pods that run.
func victims(d Demand, set *Set, now time.Time) (all []victim, running int) {
	for _, p := range set.Pods {
		if !p.Running || p.Leaving {
			continue // the Job sees to it
		}
		running++
		since := p.Started
		if d.Since.After(since) {
			since = d.Since
		}
		seen, joined := d.Seen[p.Node]
		known := now.Sub(since) // nobody was seen for longer than this
		switch {
		case known <= silentMax:
		case !joined:
			all = append(all, victim{p, fmt.Sprintf("it has not joined for %s", known.Round(time.Second))})
		case seen.Silent > silentMax:
			all = append(all, victim{p, fmt.Sprintf("it is silent for %s", seen.Silent.Round(time.Second))})
		case min(seen.Stalled, known) > stalledMax:
			all = append(all, victim{p, fmt.Sprintf("it delivered nothing for %s while others did", seen.Stalled.Round(time.Second))})
		}
	}
	return all, running
}
