package coordinator

import (
	"fmt"
	"slices"
	"strings"
	"time"

	pb "google.golang.org/protobuf/proto"

	"github.com/fathom-train/fathom/proto"
)

// status is what is told of a job now. The caller holds mu.
func (l *leader) status(e *entry, now time.Time, withSpec bool) *proto.JobStatus {
	s := pb.CloneOf(e.plan.status)
	if withSpec {
		s.Spec = e.spec
	}
	if r := l.active(); r != nil && r.entry == e {
		l.measure(r, s, now)
		if r.phase() == proto.Phase_PHASE_TRAINING {
			s.TrainSeconds += seconds(now.Sub(time.Unix(0, r.plan.enteredNano)))
			s.SamplesPerSecond = r.progress.rate(now)
			s.EtaSeconds = 0
			if s.SamplesPerSecond > 0 {
				s.EtaSeconds = float64(r.samples(s.GetSteps())-r.samples(s.GetStep())) / s.SamplesPerSecond
			}
		}
		s.Tables = sumTables(r.newest(l.nodes))
	}
	if r := l.run; r != nil && r.entry == e {
		s.Search = r.searchReport()
	}
	if r := l.active(); r != nil && r.entry == e && r.checkpointError != "" {
		s.CheckpointError = r.checkpointError
	}
	s.Detail = l.detail(e, now)
	return s
}

// measure fills in what reports tell of a run under way. The average speed is
// what remains when training is over.
func (l *leader) measure(r *run, s *proto.JobStatus, now time.Time) {
	s.Step = max(s.GetStep(), r.step())
	s.Loss = r.progress.last
	if s.GetLoss() == 0 {
		s.Loss = r.plan.status.GetLoss()
	}
	if r.phase() == proto.Phase_PHASE_TRAINING {
		spent := s.GetTrainSeconds() + seconds(now.Sub(time.Unix(0, r.plan.enteredNano)))
		if spent > 0 {
			s.SamplesPerSecond = float64(r.samples(s.GetStep())) / spent
		}
	}
	s.Usage = nil
	for _, role := range []string{rolePS, roleWorker} {
		s.Usage = append(s.Usage, &proto.RoleUsage{Role: role,
			Processes: uint32(len(l.live(role, now))), CpuSeconds: r.usage[role]})
	}
}

// detail is one line on what a job does or waits for.
func (l *leader) detail(e *entry, now time.Time) string {
	r := l.active()
	if r == nil || r.entry != e {
		switch {
		case e.ended():
			return e.plan.status.GetError()
		case r != nil:
			return fmt.Sprintf("waits for job %s to end", r.name)
		}
		return "waits to be started"
	}
	s := r.plan.status
	switch r.phase() {
	case proto.Phase_PHASE_STARTING:
		return l.startDetail(r, now)
	case proto.Phase_PHASE_TRAINING:
		if wait := l.trainWait(r, now); wait != "" {
			return wait
		}
		if r.step() >= r.plan.lastStep {
			return fmt.Sprintf("epoch %d of %d: compares the replicas", s.GetEpoch(), s.GetEpochs())
		}
		return fmt.Sprintf("epoch %d of %d", s.GetEpoch(), s.GetEpochs()) + r.place.changes()
	}
	if wait := l.trainWait(r, now); wait != "" {
		return wait
	}
	if r.phase() != proto.Phase_PHASE_EVALUATING {
		return r.searchDetail()
	}
	done := len(r.evaluation.scores) - r.evaluation.share.Left()
	return fmt.Sprintf("epoch %d of %d: scores the %s split, %d of %d blocks", s.GetEpoch(), s.GetEpochs(),
		r.plan.split, done, len(r.evaluation.scores))
}

func (l *leader) startDetail(r *run, now time.Time) string {
	var waits []string
	if servers, drained := l.takers(now); r.place == nil && len(servers) < r.job.Spec.Cluster.PS {
		wait := fmt.Sprintf("waits for parameter servers: %d of %d have joined", len(servers), r.job.Spec.Cluster.PS)
		if len(drained) > 0 {
			slices.Sort(drained)
			wait += fmt.Sprintf(", not counting those that are drained (%s): fathom node undrain NAME takes one back", strings.Join(drained, ", "))
		}
		waits = append(waits, wait)
	}
	if r.plan.digest == "" {
		workers := l.live(roleWorker, now)
		inspecting := 0
		for _, n := range workers {
			if n.worker(r.id()).GetData().GetDigest() == "" {
				inspecting++
			}
		}
		if len(workers) == 0 {
			waits = append(waits, "waits for a worker to join")
		} else {
			waits = append(waits, fmt.Sprintf("inspects the data: %d of %d workers are done", len(workers)-inspecting, len(workers)))
		}
	}
	if r.place != nil && !r.place.Formed {
		formed := 0
		for i, s := range r.place.Shards {
			if len(r.shards[i].ready) == len(s.Members) && r.shards[i].configured {
				formed++
			}
		}
		waits = append(waits, fmt.Sprintf("forms the shards: %d of %d are ready", formed, len(r.place.Shards)))
	}
	return strings.Join(waits, "; ")
}

// changes tells of the replicas that are being replaced.
func (p *place) changes() string {
	n := 0
	for _, s := range p.Shards {
		if s.changing() {
			n++
		}
	}
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("; %d of %d shards replace a replica", n, len(p.Shards))
}

// trainWait says what keeps a run from going on, or "".
func (l *leader) trainWait(r *run, now time.Time) string {
	for _, s := range r.place.Shards {
		serving, voters, missing := 0, 0, []string(nil)
		for _, m := range s.Members {
			n := l.nodes[m.Node]
			if m.Role == learning {
				continue
			}
			voters++
			g := r.reportOf(&s, m, l.nodes)
			switch {
			case n == nil || !n.alive(now):
				missing = append(missing, m.Node+" is gone")
			case g.GetError() != "":
				missing = append(missing, m.Node+": "+g.GetError())
			case m.Role == lost:
				missing = append(missing, m.Node+": replaced")
			default:
				serving++
			}
		}
		if serving <= voters/2 {
			return fmt.Sprintf("waits for shard %d: %d of %d replicas are in service (%s)", s.ID, serving, voters, strings.Join(missing, "; "))
		}
		if r.leaderOf(s, l.nodes, now) == "" {
			return fmt.Sprintf("waits for shard %d to elect a leader", s.ID)
		}
	}
	if len(l.eligible(r, now)) == 0 {
		return "waits for a worker that has the data"
	}
	return ""
}

// holds counts the replicas on a server and the shards it leads.
func (l *leader) holds(node string, now time.Time) (replicas, leaders uint32) {
	if l.run == nil || l.run.place == nil {
		return 0, 0
	}
	for i := range l.run.place.Shards {
		s := &l.run.place.Shards[i]
		if _, ok := s.hosted(node); !ok {
			continue
		}
		replicas++
		if l.run.leaderOf(*s, l.nodes, now) == node {
			leaders++
		}
	}
	return replicas, leaders
}

// nodeStatuses lists the members, the leader itself included.
func (l *leader) nodeStatuses(now time.Time) []*proto.NodeStatus {
	all := []*proto.NodeStatus{{Node: l.self.Node, Role: roleCoordinator, Address: l.self.Address, Alive: true}}
	for _, n := range l.nodes {
		s := &proto.NodeStatus{Node: n.name, Role: n.role, Address: n.address,
			Pool: n.report.GetPool(), MetricsAddress: n.report.GetMetricsAddress(), Alive: n.alive(now), CpuSeconds: n.report.GetCpuSeconds(),
			MemoryBytes: n.report.GetMemoryBytes(), MemoryLimit: n.report.GetMemoryLimit()}
		if n.role == rolePS {
			s.Draining = l.draining[n.name]
			s.Replicas, s.Leaders = l.holds(n.name, now)
		}
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b *proto.NodeStatus) int {
		if a.GetRole() != b.GetRole() {
			return strings.Compare(a.GetRole(), b.GetRole())
		}
		return strings.Compare(a.GetNode(), b.GetNode())
	})
	return all
}
