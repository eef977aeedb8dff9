package coordinator

import (
	"slices"
	"time"

	"github.com/fathom-train/fathom/proto"
)

// Demand is what a leader wants of whoever starts and ends the workers'
// processes, such as a cluster's scheduler. It is a moment's view; nothing in it
// is stored.
type Demand struct {
	// Job is the job under way, or the one that ended last; empty: there was
	// none, or one is about to start. Run tells its runs apart.
	Job, Run string
	// Active: the job is under way and asks for that many Workers.
	Active  bool
	Workers int
	// Ended is when a job that is not active ended.
	Ended time.Time
	// Since is when the leader was elected; it knows nobody from before.
	Since time.Time
	// Seen are the workers that have joined this leader, by name.
	Seen map[string]Seen
}

// Seen is how a worker is.
type Seen struct {
	// Silent is for how long nothing was heard of the worker; 0 while it lives.
	Silent time.Duration
	// Stalled is for how long the worker, though it lives, delivered nothing of
	// its lanes while others did.
	Stalled time.Duration
}

// Demand returns what is wanted now; false while this coordinator does not lead.
func (s *Service) Demand() (Demand, bool) {
	l := s.led.Load()
	if l == nil {
		return Demand{}, false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.demand(time.Now()), true
}

// demand is called with mu held.
func (l *leader) demand(now time.Time) Demand {
	d := Demand{Since: l.elected, Seen: map[string]Seen{}}
	r := l.active()
	for _, n := range l.nodes {
		if n.role != roleWorker {
			continue
		}
		var s Seen
		if !n.alive(now) {
			s.Silent = now.Sub(n.heard)
		} else if r != nil && r.paused.IsZero() && !r.behind[n.name].IsZero() {
			s.Stalled = now.Sub(r.behind[n.name])
		}
		d.Seen[n.name] = s
	}
	if r != nil {
		d.Job, d.Run, d.Active, d.Workers = r.name, r.id(), true, r.job.Spec.Cluster.Workers
		return d
	}
	for _, e := range l.entries {
		if !e.ended() {
			return Demand{Since: l.elected, Seen: d.Seen} // it starts at once
		}
		if at := time.Unix(0, e.plan.status.GetEndedUnixNano()); !at.Before(d.Ended) {
			d.Job, d.Run, d.Ended = e.name, e.id(), at
		}
	}
	return d
}

// noteMoved takes in what a worker delivered since its last report: the others
// that owe lanes are behind from now on, until they deliver, too.
func (r *run) noteMoved(n *node, before *proto.NodeReport, nodes map[string]*node, now time.Time) {
	if delivered(n.report) == delivered(before) {
		return
	}
	delete(r.behind, n.name)
	for _, o := range nodes {
		if r.paused.IsZero() && o != n && o.role == roleWorker && r.behind[o.name].IsZero() && r.owes(o) {
			r.behind[o.name] = now
		}
	}
}

// keepBehind stops and restarts the clock of behind at a change of phase.
func (r *run) keepBehind(now time.Time) {
	if r.behind == nil {
		r.behind = map[string]time.Time{}
	}
	switch training := r.phase() == proto.Phase_PHASE_TRAINING; {
	case !training && r.paused.IsZero():
		r.paused = now
	case training && !r.paused.IsZero():
		for name, since := range r.behind {
			r.behind[name] = since.Add(now.Sub(r.paused))
		}
		r.paused = time.Time{}
	}
}

// delivered grows with every lane that a worker reports as delivered.
func delivered(report *proto.NodeReport) (steps uint64) {
	for _, lane := range report.GetWorker().GetLanes() {
		steps += lane.GetStep()
	}
	return steps
}

// owes tells whether a worker has been given lanes that it has yet to deliver.
func (r *run) owes(n *node) bool {
	if n.order.GetWorker().GetJob() != r.id() {
		return false
	}
	at := map[uint32]uint64{}
	for _, lane := range n.worker(r.id()).GetLanes() {
		at[lane.GetLane()] = lane.GetStep()
	}
	return slices.ContainsFunc(n.order.GetWorker().GetLanes(), func(lane uint32) bool { return at[lane] < r.plan.lastStep })
}
