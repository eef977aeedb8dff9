package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/fathom-train/fathom/coordinator/client"
	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/fathom-train/fathom/proto"
)

const (
	// pushedLanes counts the lanes a worker has handed over: the exact measure of
	// what was trained until a moment.
	pushedLanes = `fathom_trainer_stage_seconds_count{stage="push"}`
	// clusterWarm is the share of the steps before the first repeat, in which
	// rows are created and caches filled, clusterMeasured that of the repeats.
	clusterWarm, clusterMeasured = 0.15, 0.8
)

// errMeasured ends the watching of a job that has been measured.
var errMeasured = errors.New("measured")

// clusterWatch measures a job from what the coordinator tells, which says when
// to look, and from the metrics of the processes, which say how far they are.
type clusterWatch struct {
	job     *job.Job
	reps    int
	steps   uint64 // of the whole job
	cluster observed
	died    atomic.Pointer[string] // the newest process that did

	// early is an edge before the repeats, for a job that is over too soon.
	early *edge
	edges []edge
	// repeats lie between neighbouring edges.
	repeats []repeat
}

// see is told every status of the job. It returns errMeasured when the
// repeats are complete.
func (m *clusterWatch) see(ctx context.Context, s *proto.JobStatus) error {
	switch {
	case client.Ended(s.GetPhase()):
		if err := outcome(s); err != nil {
			return err
		}
		return m.tooSoon(ctx)
	case s.GetPhase() != proto.Phase_PHASE_TRAINING:
		return nil
	case m.early != nil && s.GetStep() < m.due(len(m.edges)):
		return nil
	}
	e, err := m.look(ctx)
	if err != nil {
		return err
	}
	if s.GetStep() < m.due(0) {
		m.early = &e
		return nil
	}
	if n := len(m.edges); n > 0 {
		m.repeats = append(m.repeats, e.since(m.edges[n-1]))
	}
	m.edges = append(m.edges, e)
	if len(m.repeats) == m.reps {
		return errMeasured
	}
	return nil
}

// due is the step at which an edge is taken.
func (m *clusterWatch) due(edge int) uint64 {
	return uint64(float64(m.steps) * (clusterWarm + clusterMeasured*float64(edge)/float64(m.reps)))
}

// tooSoon ends a job whose repeats were not seen all. Without any, the time
// from the first look to the end is one, a little longer than the training.
func (m *clusterWatch) tooSoon(ctx context.Context) error {
	if len(m.edges) == 0 && m.early != nil {
		m.edges = append(m.edges, *m.early)
	}
	if len(m.repeats) == 0 && len(m.edges) > 0 {
		e, err := m.look(ctx)
		if err != nil {
			return err
		}
		m.repeats = append(m.repeats, e.since(m.edges[0]))
		m.edges = append(m.edges, e)
	}
	return errMeasured
}

// check tells whether the repeats are worth anything.
func (m *clusterWatch) check() error {
	if p := m.died.Load(); p != nil {
		return fmt.Errorf("%s died and was started again while it was measured", *p)
	}
	if len(m.repeats) == 0 {
		return errors.New("the training was over before it could be measured: more --epoch-batches make it longer")
	}
	for _, r := range m.repeats {
		if r.work <= 0 {
			return fmt.Errorf("no samples were trained for %.1f s: the workers' metric %s does not move", r.wall, pushedLanes)
		}
	}
	return nil
}

// measuredSteps is how many steps the repeats took.
func (m *clusterWatch) measuredSteps() float64 {
	return (m.edges[len(m.edges)-1].samples - m.edges[0].samples) / float64(m.job.Spec.Train.BatchSize)
}

// cpuByRole is the CPU time of the repeats.
func (m *clusterWatch) cpuByRole() map[string]float64 {
	used := map[string]float64{}
	for role, s := range m.edges[len(m.edges)-1].cpu {
		used[role] = s - m.edges[0].cpu[role]
	}
	return used
}

// edge is a moment of the training.
type edge struct {
	clock   clock
	samples float64
	cpu     map[string]float64 // seconds used so far, by role
}

// since returns the repeat between two moments.
func (e edge) since(before edge) repeat {
	r := repeat{work: e.samples - before.samples, wall: e.clock.wall.Sub(before.clock.wall).Seconds()}
	for role, s := range e.cpu {
		r.cpu += s - before.cpu[role]
	}
	r.others = othersUsed(e.clock.busy-before.clock.busy, r)
	return r
}

// look reads what all processes have done until now. This process is one of
// them.
func (m *clusterWatch) look(ctx context.Context) (edge, error) {
	e := edge{cpu: map[string]float64{}}
	all, missing := scrapeAll(ctx, m.cluster)
	e.clock = readClock()
	if len(missing) > 0 {
		return e, fmt.Errorf("read metrics: %s did not answer", strings.Join(missing, ", "))
	}
	lane := float64(m.job.Spec.Train.BatchSize) / float64(m.job.Spec.Train.Lanes)
	for _, s := range all {
		e.cpu[s.role()] += s.values[cpuSecondsMetric]
		e.samples += lane * s.values[pushedLanes]
	}
	e.cpu["bench"] = e.clock.cpu
	return e, nil
}
