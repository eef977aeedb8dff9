package coordinator

import (
	"fmt"
	"time"

	"github.com/fathom-train/fathom/coordinator/store"
	"github.com/fathom-train/fathom/proto"
)

// The groups of a job belong to a generation. It grows whenever the tables are
// formed anew in other groups: a job that goes on from a checkpoint is in
// generation 1, and reform makes another. Every generation has a run number of
// its own, which is in the names of its groups and in every push and pull: no
// worker, message or disk of an earlier generation can be mistaken for one of
// the present.
//
// The workers know a job by its first run number in all generations, so that
// they keep their data open.

// origin is the checkpoint from which a generation was formed.
type origin struct {
	Location string `json:"location"`
	Step     uint64 `json:"step"`
	// Hash is the state hash of the whole model: the groups are checked against it.
	Hash string `json:"state_hash"`
	// DataDigest is that of the data the checkpoint was made with; empty when the
	// checkpoint is of this very job.
	DataDigest string `json:"data_digest,omitempty"`
}

// originOf is a checkpoint of the job as an origin.
func originOf(c *proto.CheckpointInfo) *origin {
	return &origin{Location: c.GetLocation(), Step: c.GetStep(), Hash: c.GetStateHash()}
}

// target is the phase a job enters once its groups are formed.
type target struct {
	Phase    proto.Phase `json:"phase"`
	Split    string      `json:"split,omitempty"`
	LastStep uint64      `json:"last_step"`
}

// groupRun is the run number of the present generation.
func (e *entry) groupRun() uint64 {
	if e.plan.generation == 0 {
		return e.run
	}
	// SplitMix64: different for all generations of all runs, but for chance.
	x := e.run + e.plan.generation*0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// groupJob names the job in orders to servers and their reports.
func (e *entry) groupJob() string { return fmt.Sprintf("%s-%016x", e.name, e.groupRun()) }

// reform is the write that forms a running job's tables anew: in a new generation
// of groups, on the servers there are then, beginning from the checkpoint from
// (nil: from version 0). When they are formed and hold what the checkpoint says,
// the job goes on as then tells; changes are made to the plan in the same write.
// A leader that takes over on the way goes on with it.
//
// To score the test split with the model of an earlier validation:
//
//	info, ok := l.checkpointed(r, best.GetVersion(), now) // see checkpoint.go
//	l.reform(r, now, originOf(info), target{Phase: proto.Phase_PHASE_EVALUATING,
//		Split: splitTest, LastStep: info.GetStep()})
func (l *leader) reform(r *run, now time.Time, from *origin, then target, changes ...func(p *plan)) *write {
	w := l.move(r, now, append(changes, func(p *plan) {
		p.status.Phase, p.split, p.lastStep = proto.Phase_PHASE_STARTING, "", then.LastStep
		p.generation++
		p.origin, p.then = from, &then
	})...)
	w.ops = append(w.ops, store.Delete(l.keys.place(r.number)))
	install := w.apply
	w.apply = func() {
		r.entry.place = nil
		r.forgetShards()
		install()
		l.log.Info("the tables are formed anew", "job", r.name, "generation", r.plan.generation, "from", from)
	}
	return w
}

// lostMember names a server whose replica was damaged or wiped before the groups
// were formed; empty: there is none. There is nobody to take its data from yet, and
// it must not vote with what it has left.
func (r *run) lostMember(nodes map[string]*node) string {
	for i := range r.place.Shards {
		s := &r.place.Shards[i]
		for _, m := range s.Members {
			if r.reportOf(s, m, nodes).GetLost() {
				return m.Node
			}
		}
	}
	return ""
}

// formAnew gives up groups that are not formed yet, in which nothing is trained,
// and begins again with others.
func (l *leader) formAnew(r *run, now time.Time, node string) *write {
	w := l.move(r, now, func(p *plan) { p.generation++ })
	w.ops = append(w.ops, store.Delete(l.keys.place(r.number)))
	install := w.apply
	w.apply = func() {
		r.entry.place = nil
		r.forgetShards()
		install()
		l.log.Warn("a replica lost its data before its group was formed: all groups begin anew", "job", r.name, "node", node, "generation", r.plan.generation)
	}
	return w
}

// forgetShards drops what is known of the groups, of an earlier generation or of
// none.
func (r *run) forgetShards() {
	for i := range r.shards {
		r.shards[i] = shardState{ready: make(map[string]bool), rounds: make(map[string]round), diverged: make(map[string]bool)}
	}
	r.finalSince, r.attempt, r.written = time.Time{}, nil, nil
}

// begin leaves STARTING: for what the job was formed for, or the first step.
func (r *run) begin(p *plan) {
	if p.then == nil {
		p.factor = 1
		if r.job.Spec.Search != nil {
			p.stage, p.status.Stage, p.status.Epochs = stageSupernet, stageSupernet, uint64(r.job.Spec.Train.Epochs)
		}
		r.train(p)
		return
	}
	p.status.Phase, p.split, p.lastStep = p.then.Phase, p.then.Split, p.then.LastStep
	p.status.Epochs = uint64(r.job.Spec.Train.Epochs) // of the stage
	p.then = nil
}

// checkOrigin compares groups that were formed from a checkpoint with it; it
// notes a fault when they hold something else.
func (r *run) checkOrigin(nodes map[string]*node) (ok bool) {
	from := r.plan.origin
	if from == nil {
		return true
	}
	groups := r.newest(nodes)
	if len(groups) != len(r.place.Shards) {
		return false
	}
	for _, g := range groups {
		if g.GetVersion() != from.Step || len(g.GetHash()) != hashBytes {
			return false
		}
	}
	if got := modelHash(groups); got != from.Hash {
		r.fail(false, "the model restored from %s has the state hash %s, the checkpoint says %s", from.Location, got, from.Hash)
		return false
	}
	return true
}
