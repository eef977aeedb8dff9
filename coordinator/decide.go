package coordinator

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/fathom-train/fathom/coordinator/placement"
	"github.com/fathom-train/fathom/coordinator/recipe"
	"github.com/fathom-train/fathom/coordinator/store"
	"github.com/fathom-train/fathom/proto"
	"github.com/fathom-train/fathom/shard"
)

// decide returns the one phase change that is due now, or nil. It changes
// nothing that is stored; the caller holds mu.
func (l *leader) decide(now time.Time) *write {
	l.expire(now)
	r := l.active()
	if r == nil {
		return l.startNext(now)
	}
	if r.fault != nil {
		return l.end(r, now, proto.Phase_PHASE_FAILED, func(p *plan) {
			p.status.Error, p.status.ErrorIsInput = r.fault.message, r.fault.input
		})
	}
	if w := l.replan(r, now); w != nil {
		return w
	}
	switch r.phase() {
	case proto.Phase_PHASE_STARTING:
		return l.start(r, now)
	case proto.Phase_PHASE_TRAINING:
		if r.step() < r.plan.lastStep {
			return nil
		}
		return l.next(r, now, nil)
	case proto.Phase_PHASE_EVALUATING:
		return l.evaluated(r, now)
	case proto.Phase_PHASE_SURVEYING:
		return l.surveyed(r, now)
	case proto.Phase_PHASE_SEARCHING:
		return l.searching(r, now)
	case proto.Phase_PHASE_RESHAPING:
		return l.reshaped(r, now)
	}
	panic(fmt.Sprintf("coordinator: BUG: active job in phase %s", r.phase()))
}

// startNext takes the job that waits longest.
func (l *leader) startNext(now time.Time) *write {
	for _, e := range l.entries {
		if e.phase() != proto.Phase_PHASE_PENDING {
			continue
		}
		r, err := newRun(e)
		if err != nil {
			// Accepted by an earlier version of this program.
			return l.setPlan(e, now, func(p *plan) {
				p.status.Phase, p.status.EndedUnixNano = proto.Phase_PHASE_FAILED, now.UnixNano()
				p.status.Error, p.status.ErrorIsInput = err.Error(), true
			})
		}
		w := l.setPlan(e, now, func(p *plan) {
			p.status.Phase, p.status.StartedUnixNano = proto.Phase_PHASE_STARTING, now.UnixNano()
		})
		install := w.apply
		w.apply = func() { install(); l.run = r }
		return w
	}
	return nil
}

// start does what is possible of placing, inspecting and forming, one write at
// a time, and begins the first epoch when all is done.
func (l *leader) start(r *run, now time.Time) *write {
	if r.place == nil {
		return l.placeShards(r, now)
	}
	if r.plan.digest == "" {
		if w := l.inspected(r, now); w != nil || r.fault != nil {
			return w
		}
	}
	if !r.place.Formed {
		if node := r.lostMember(l.nodes); node != "" {
			return l.formAnew(r, now, node)
		}
		if !r.allFormed(l.nodes, now) || !r.checkOrigin(l.nodes) {
			return nil
		}
		formed := *r.place
		formed.Formed = true
		return l.setPlace(r, &formed)
	}
	if r.plan.digest == "" {
		return nil
	}
	return l.move(r, now, r.begin)
}

// takers names the servers that may be given replicas, and those that may not
// because they are drained.
func (l *leader) takers(now time.Time) (names, drained []string) {
	for _, n := range l.live(rolePS, now) {
		if l.draining[n.name] {
			drained = append(drained, n.name)
		} else {
			names = append(names, n.name)
		}
	}
	return names, drained
}

func (l *leader) placeShards(r *run, now time.Time) *write {
	cluster := r.job.Spec.Cluster
	names, _ := l.takers(now)
	if len(names) < cluster.PS {
		return nil
	}
	pools := map[string][]string{}
	for _, name := range names {
		pool := l.nodes[name].report.GetPool()
		pools[pool] = append(pools[pool], name)
	}
	placed, err := placement.Place(pools, cluster.Shards, cluster.Replicas)
	if err != nil {
		r.fail(true, "%v", err)
		return nil
	}
	p := &place{MapVersion: 1, Dense: shard.PlaceDense(r.layout.sizes, cluster.Shards)}
	for i, s := range shard.Even(cluster.Shards).Shards {
		sp := shardPlace{ID: s.ID, Lo: uint64(s.Range.Lo), Hi: uint64(s.Range.Hi)}
		for _, name := range placed[i] {
			sp.Members = append(sp.Members, member{Node: name, Address: l.nodes[name].address, Pool: l.nodes[name].report.GetPool()})
		}
		p.Shards = append(p.Shards, sp)
	}
	return l.setPlace(r, p)
}

func (l *leader) setPlace(r *run, p *place) *write {
	b, err := json.Marshal(p)
	if err != nil {
		panic(fmt.Sprintf("coordinator: BUG: encode place: %v", err))
	}
	return &write{ops: []store.Op{store.Put(l.keys.place(r.number), b)}, apply: func() {
		r.entry.place = p
		l.log.Info("shards are placed", "job", r.name, "shards", len(p.Shards), "formed", p.Formed)
	}}
}

// inspected stores what the workers found in the data once all living ones
// have found the same.
func (l *leader) inspected(r *run, now time.Time) *write {
	workers := l.live(roleWorker, now)
	if len(workers) == 0 {
		return nil
	}
	var agreed *proto.DataReport
	for _, n := range workers {
		data := n.worker(r.id()).GetData()
		if data.GetDigest() == "" {
			return nil
		}
		if agreed == nil {
			agreed = data
		}
		if data.GetDigest() != agreed.GetDigest() {
			r.fail(true, "the workers see different data: %s has digest %s, %s has %s; data.root must name the same files on every machine",
				workers[0].name, agreed.GetDigest(), n.name, data.GetDigest())
			return nil
		}
	}
	if from := r.plan.origin; from != nil && from.DataDigest != "" && from.DataDigest != agreed.GetDigest() {
		r.fail(true, "the data are not those of the checkpoint %s: they have digest %s, it was made with %s", from.Location, agreed.GetDigest(), from.DataDigest)
		return nil
	}
	return l.setPlan(r.entry, now, func(p *plan) {
		p.digest = agreed.GetDigest()
		p.status.Splits, p.status.TeacherAuc = agreed.GetSplits(), agreed.GetTeacherAuc()
		for _, s := range agreed.GetSplits() {
			if s.GetSplit() == splitTrain {
				p.status.Steps = p.start + uint64(r.job.Steps(int64(s.GetRows())))
			}
		}
		if p.status.Steps == 0 {
			r.fail(true, "the training split has no rows")
		}
	})
}

// allFormed tells whether every group has its log on every member and a leader.
func (r *run) allFormed(nodes map[string]*node, now time.Time) bool {
	for i, s := range r.place.Shards {
		if !r.shards[i].configured || r.leaderOf(s, nodes, now) == "" {
			return false
		}
		for _, m := range s.Members {
			if !r.shards[i].ready[m.Node] {
				return false
			}
		}
	}
	return true
}

// next leaves a training or evaluation that is complete. score is what the
// evaluation found, nil after training.
func (l *leader) next(r *run, now time.Time, score *proto.Score) *write {
	training := r.phase() == proto.Phase_PHASE_TRAINING
	more := r.plan.lastStep < r.plan.status.GetSteps()
	keep := func(p *plan) {
		if score != nil {
			p.status.Scores = append(p.status.Scores, score)
		}
	}
	if score.GetSplit() == splitValid {
		verdict := recipe.Judge(&r.job.Spec.Train, append(r.plan.stageScores(), score))
		score.Best = verdict.Best == score
		if score.Best && r.restoresBest() {
			if _, ok := l.checkpointed(r, r.plan.lastStep); !ok {
				return nil // the shards stand still until it is there
			}
		}
		more = more && verdict.Stop == ""
		add := keep
		keep = func(p *plan) {
			add(p)
			p.factor, p.status.Stopped = verdict.Factor, verdict.Stop
			if score.Best && r.restoresBest() {
				p.pin(score.GetVersion())
			}
		}
	}
	switch {
	case training && r.rows(splitValid) > 0:
		return l.move(r, now, keep, func(p *plan) { r.evaluate(p, splitValid) })
	case r.plan.split != splitTest && more:
		return l.move(r, now, keep, r.train)
	case r.plan.stage == stageSupernet:
		if r.job.Spec.Search.KeepSupernet {
			if _, ok := l.checkpointed(r, r.plan.lastStep); !ok {
				return nil
			}
			return l.move(r, now, keep, func(p *plan) { p.pin(p.lastStep) }, r.surveyRows)
		}
		return l.move(r, now, keep, r.surveyRows)
	case r.plan.split != splitTest && r.rows(splitTest) > 0:
		if best := r.best(); best != nil && best.GetStep() != r.plan.lastStep {
			return l.reform(r, now, originOf(best), target{Phase: proto.Phase_PHASE_EVALUATING, Split: splitTest, LastStep: best.GetStep()}, keep)
		}
		return l.move(r, now, keep, func(p *plan) { r.evaluate(p, splitTest) })
	}
	if a := r.attempt; a != nil && !a.reached.IsZero() {
		return nil // it is about to be complete
	}
	groups, ok := r.final(l.nodes, now)
	if !ok {
		return nil
	}
	return l.end(r, now, proto.Phase_PHASE_DONE, keep, func(p *plan) {
		p.status.ModelHash, p.status.Tables = modelHash(groups), sumTables(groups)
	})
}

// restoresBest tells whether the job goes back to its best validation. In a job
// with a search the model that is trained last does.
func (r *run) restoresBest() bool {
	return r.job.Spec.Train.RestoreBest && (r.job.Spec.Search == nil || r.plan.stage == stageRetrain)
}

// best is the checkpoint of the best validation, which is pinned; nil: there is
// none to go back to.
func (r *run) best() *proto.CheckpointInfo {
	if !r.restoresBest() {
		return nil
	}
	return r.pinned(func(step uint64) bool { return step >= r.plan.start })
}

// pinned is the pinned checkpoint of a step that belongs; nil: there is none.
func (r *run) pinned(belongs func(step uint64) bool) *proto.CheckpointInfo {
	for _, c := range r.plan.status.GetCheckpoints() {
		if slices.Contains(r.plan.pinned, c.GetStep()) && belongs(c.GetStep()) {
			return c
		}
	}
	return nil
}

// pin keeps the checkpoint of a step, in the place of that of the same stage.
func (p *plan) pin(step uint64) {
	p.pinned = append(slices.DeleteFunc(slices.Clone(p.pinned), func(s uint64) bool { return s >= p.start }), step)
}

// train begins the steps up to the next validation.
func (r *run) train(p *plan) {
	p.status.Phase, p.split = proto.Phase_PHASE_TRAINING, ""
	p.lastStep = p.start + uint64(r.job.NextValidation(r.rows(splitTrain), int64(p.lastStep-p.start)))
	p.status.Epoch = (p.lastStep-p.start-1)/r.stepsPerEpoch() + 1
	p.status.LearningRateFactor = p.factor
}

func (r *run) evaluate(p *plan, split string) {
	p.status.Phase, p.split = proto.Phase_PHASE_EVALUATING, split
}

// move is setPlan for the active job: it keeps what was measured and prepares
// the new phase's memory.
func (l *leader) move(r *run, now time.Time, changes ...func(p *plan)) *write {
	w := l.setPlan(r.entry, now, func(p *plan) {
		l.measure(r, p.status, now)
		for _, change := range changes {
			change(p)
		}
	})
	install := w.apply
	w.apply = func() {
		install()
		r.beginPhase()
		r.progress.restart(time.Now(), r.samples(r.step()))
	}
	return w
}

// end is the move into a last phase.
func (l *leader) end(r *run, now time.Time, phase proto.Phase, changes ...func(p *plan)) *write {
	return l.move(r, now, append(changes, func(p *plan) {
		if len(p.status.GetTables()) == 0 {
			p.status.Tables = sumTables(r.newest(l.nodes))
		}
		p.status.Phase, p.split, p.status.EndedUnixNano = phase, "", now.UnixNano()
	})...)
}
