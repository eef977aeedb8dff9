package coordinator

import (
	"fmt"
	"time"

	pb "google.golang.org/protobuf/proto"

	"github.com/fathom-train/fathom/proto"
)

// eligible lists the living workers that have opened the job's data and found
// what was agreed. Only they get lanes and blocks: opening takes long, and the
// others need not wait for it.
func (l *leader) eligible(r *run, now time.Time) []string {
	var names []string
	for _, n := range l.live(roleWorker, now) {
		if l.ready(r, n) {
			names = append(names, n.name)
		}
	}
	return names
}

func (l *leader) ready(r *run, n *node) bool {
	return r.plan.digest != "" && n.worker(r.id()).GetData().GetDigest() == r.plan.digest
}

// settling tells whether a new leader still waits for the workers of a phase
// that began under the one before.
func (l *leader) settling(r *run, now time.Time) bool {
	return now.Sub(l.elected) < settleTime && r.plan.enteredNano < l.elected.UnixNano()
}

// shareOut gives lanes or blocks to the workers there are.
func (l *leader) shareOut(now time.Time) {
	r := l.active()
	if r == nil || l.settling(r, now) {
		return
	}
	moved := false
	switch r.phase() {
	case proto.Phase_PHASE_TRAINING:
		var late []int
		r.lanes.Reached(r.step(), now)
		if moved, late = r.lanes.Assign(l.eligible(r, now), now); len(late) > 0 {
			l.metrics.overtaken.Add(float64(len(late)))
			l.log.Warn("lanes are late and go to another worker as well", "job", r.name, "step", r.step(), "lanes", late)
		}
	case proto.Phase_PHASE_EVALUATING, proto.Phase_PHASE_SURVEYING, proto.Phase_PHASE_SEARCHING:
		if r.evaluation == nil {
			return
		}
		moved = r.evaluation.share.Rebalance(l.eligible(r, now))
	}
	if moved {
		l.metrics.reassignments.Inc()
	}
}

// refreshOrders gives every living node the order it should have now. A
// revision names one content: it changes exactly when the order does.
func (l *leader) refreshOrders(now time.Time) {
	routes := l.routes(now)
	var leaders []string
	if l.run != nil && l.run.place != nil {
		leaders = l.leaders(l.run, now)
	}
	for _, n := range l.nodes {
		if !n.alive(now) {
			continue
		}
		want := l.wanted(n, routes, leaders, now)
		if want == nil {
			continue
		}
		if n.order != nil {
			want.Revision = n.order.GetRevision()
			if pb.Equal(want, n.order) {
				continue
			}
		}
		l.revision++
		want.Revision = l.revision
		n.order = want
		l.metrics.orders.Inc()
		if n.link != nil {
			n.link.announce()
		}
	}
}

func (k *link) announce() {
	select {
	case k.changed <- struct{}{}:
	default:
	}
}

// wanted is the order a node should have; nil: it may go on with what it has.
func (l *leader) wanted(n *node, routes []*proto.ShardRoute, leaders []string, now time.Time) *proto.NodeOrder {
	if n.role == rolePS {
		return &proto.NodeOrder{Groups: l.groupOrders(n, leaders), Cluster: l.identity}
	}
	r := l.active()
	if r == nil {
		return &proto.NodeOrder{Worker: &proto.WorkerOrder{Task: proto.Task_TASK_IDLE, Ended: l.lastEnded()}}
	}
	if l.settling(r, now) {
		return nil
	}
	return &proto.NodeOrder{Worker: l.workerOrder(r, n, routes)}
}

// lastEnded names the job that ended last; nil: none has.
func (l *leader) lastEnded() *proto.EndedJob {
	var last *entry
	for _, e := range l.entries {
		if e.ended() && (last == nil || e.plan.status.GetEndedUnixNano() >= last.plan.status.GetEndedUnixNano()) {
			last = e
		}
	}
	if last == nil {
		return nil
	}
	return &proto.EndedJob{Job: last.name, Phase: last.phase(), Error: last.plan.status.GetError()}
}

func (l *leader) workerOrder(r *run, n *node, routes []*proto.ShardRoute) *proto.WorkerOrder {
	w := &proto.WorkerOrder{Job: r.id(), Run: r.groupRun(), Spec: r.stageSpec, DataDigest: r.plan.digest, Task: proto.Task_TASK_INSPECT}
	if !l.ready(r, n) {
		return w
	}
	switch r.phase() {
	case proto.Phase_PHASE_TRAINING:
		w.Task, w.Epoch, w.LastStep = proto.Task_TASK_TRAIN, r.plan.status.GetEpoch(), r.plan.lastStep
		w.LearningRateFactor = r.plan.factor
		for _, lane := range r.lanes.Of(n.name) {
			w.Lanes = append(w.Lanes, uint32(lane))
		}
	case proto.Phase_PHASE_EVALUATING:
		w.Task, w.Epoch = proto.Task_TASK_EVALUATE, r.plan.status.GetEpoch()
		w.Split, w.Version = r.plan.split, r.plan.lastStep
		for _, block := range r.evaluation.share.Of(n.name) {
			w.Blocks = append(w.Blocks, uint64(block))
		}
	case proto.Phase_PHASE_SURVEYING, proto.Phase_PHASE_SEARCHING:
		e := r.evaluation
		if e == nil {
			return w
		}
		w.Task, w.Epoch, w.Split, w.Version = proto.Task_TASK_SCORE, e.epoch, e.split, r.plan.lastStep
		if e.surveys != nil {
			w.Task = proto.Task_TASK_SURVEY
		}
		w.Candidates, w.Round = e.order, e.round
		for _, block := range e.share.Of(n.name) {
			w.Blocks = append(w.Blocks, uint64(block))
		}
	default:
		return w
	}
	w.Start = r.plan.start
	w.MapVersion, w.Routes = r.place.MapVersion, routes
	return w
}

// routes tells where the active job's shards are.
func (l *leader) routes(now time.Time) []*proto.ShardRoute {
	r := l.active()
	if r == nil || r.place == nil {
		return nil
	}
	return l.routesOf(r, now)
}

func (l *leader) routesOf(r *run, now time.Time) []*proto.ShardRoute {
	routes := make([]*proto.ShardRoute, len(r.place.Shards))
	for i, s := range r.place.Shards {
		routes[i] = &proto.ShardRoute{Shard: uint32(s.ID), KeyLo: s.Lo, KeyHi: s.Hi,
			Leader: r.leaderOf(s, l.nodes, now)}
		for j, m := range r.members(s, l.nodes) {
			if s.Members[j].votes() {
				routes[i].Members = append(routes[i].Members, &proto.Member{Node: m.GetNode(), Address: m.GetAddress()})
			}
		}
		for _, d := range denseOf(s.ID, r.place.Dense, len(r.layout.dense)) {
			routes[i].Dense = append(routes[i].Dense, r.layout.dense[d].GetId())
		}
	}
	return routes
}

// groupOrders lists the groups a server hosts: those of the active job, or of
// the last one until the next begins.
func (l *leader) groupOrders(n *node, leaders []string) []*proto.GroupOrder {
	r := l.run
	if r == nil || r.place == nil {
		return nil
	}
	var groups []*proto.GroupOrder
	for i := range r.place.Shards {
		s := r.place.Shards[i]
		own, ok := s.hosted(n.name)
		if !ok {
			continue
		}
		order := &proto.GroupOrder{
			Job: r.groupJob(), Shard: uint32(s.ID), KeyLo: s.Lo, KeyHi: s.Hi, Members: r.members(s, l.nodes),
			Bootstrap: !r.place.Formed && !r.ended(), Schema: r.schema(s.ID), NotifyVersion: r.plan.lastStep,
			Replica: own.Replica, Leader: leaders[i], Checkpoint: r.checkpointOrder(i, n.name),
		}
		if r.shards[s.ID].diverged[own.id()] {
			order.Diverged = fmt.Sprintf("the other replicas of shard %d hold other bits", s.ID)
		}
		if from := r.plan.origin; from != nil && order.Bootstrap {
			order.Restore = &proto.RestoreSource{Location: from.Location, Step: from.Step}
		}
		groups = append(groups, order)
	}
	return groups
}
