package coordinator

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/fathom-train/fathom/proto"
	"github.com/fathom-train/fathom/ps/checkpoint"
	"github.com/fathom-train/fathom/shard"
)

const (
	// leadTime is how far ahead of the shards the step of a checkpoint lies that is
	// wanted now: the order must reach every replica before the step does.
	leadTime = 2 * time.Second
	// attemptsMax is how often another step is tried after some shard was past the
	// one before; each time the step lies twice as far ahead.
	attemptsMax = 6
	// attemptTimeout bounds the writing of one checkpoint, from the moment its step
	// is reached; manifestTimeout the writing of its manifest.
	attemptTimeout  = 30 * time.Minute
	manifestTimeout = time.Minute
	// retryPause is between an attempt that failed and the next automatic one.
	retryPause = 10 * time.Second
)

// attempt is one checkpoint under way. It is in memory only: with its leader dies
// the attempt, and what it has written is no checkpoint.
type attempt struct {
	id       string
	step     uint64
	location string // of the checkpoint
	tries    int    // of other steps before this one
	begun    time.Time
	reached  time.Time // when the first shard was there; zero: none is
	// writers are the nodes ordered to write each shard, files what they wrote.
	writers []string
	files   []*proto.CheckpointFile
	// reuses says that the files are those of the attempt before.
	reuses bool
	// committing says that all files are there and the manifest is being written.
	committing bool
	waiters    []chan checkpointResult
}

// errNoPlace says that a job has nowhere to put checkpoints.
var errNoPlace = errors.New("the job has no spec.checkpoint.dir: set it to a directory that all servers reach, or to an s3:// URL")

// checkpointed returns the checkpoint of a step of the present generation, and
// orders one when there is none yet. Its caller must keep the shards from going
// past the step, which is so while the job is not TRAINING beyond it, and ask
// again: decide is called whenever something has changed. A leader that takes over
// begins anew.
func (l *leader) checkpointed(r *run, step uint64) (info *proto.CheckpointInfo, ok bool) {
	if r.job.Spec.Checkpoint.Dir == "" {
		r.fail(true, "%v", errNoPlace)
		return nil, false
	}
	for _, c := range r.plan.status.GetCheckpoints() {
		if c.GetStep() == step && strings.Contains(c.GetLocation(), checkpoint.Name(r.groupJob(), step)) {
			return c, true
		}
	}
	r.wantedStep = step
	return nil, false
}

// tendCheckpoint looks after the checkpoints of the active job: it begins those
// that are due, gives up what cannot be finished, and commits what is complete.
// The caller holds mu.
func (l *leader) tendCheckpoint(ctx context.Context, now time.Time) {
	r := l.active()
	if r == nil || r.place == nil || !r.place.Formed || r.phase() == proto.Phase_PHASE_STARTING {
		return
	}
	if a := r.attempt; a != nil {
		l.tendAttempt(ctx, r, a, now)
	}
	if r.attempt == nil || r.attempt.reached.IsZero() && len(r.checkpointRequests) > 0 {
		l.beginAttempt(r, now)
	}
}

// reached is the newest version any replica of the job has reported.
func (r *run) reached() (newest uint64) {
	for _, s := range r.shards {
		newest = max(newest, s.version)
	}
	return newest
}

// soon is a step that no shard reaches before an order that is sent now, or the
// step where the shards will stand still. In mode async no other step is a cut
// through all shards.
func (r *run) soon(now time.Time, tries int) uint64 {
	if r.job.Async() {
		return r.plan.lastStep
	}
	steps := r.progress.rate(now) / float64(r.job.Spec.Train.BatchSize) * leadTime.Seconds()
	ahead := uint64(math.Ceil(min(steps, 1e9))) + 4
	return min(r.reached()+ahead<<tries, r.plan.lastStep)
}

// beginAttempt begins the checkpoint that is due.
func (l *leader) beginAttempt(r *run, now time.Time) {
	c := r.job.Spec.Checkpoint
	requests := r.checkpointRequests
	r.checkpointRequests = nil
	var step uint64
	switch {
	case len(requests) > 0:
		step = r.soon(now, 0)
	case r.wantedStep > 0 && r.reached() <= r.wantedStep:
		step = r.wantedStep
	case c.Dir == "" || now.Before(r.checkpointAfter):
		return
	case r.phase() == proto.Phase_PHASE_SEARCHING && r.search != nil && (c.EverySteps > 0 || c.EveryMinutes > 0) && r.savedGeneration != r.search.Generation():
		step, r.savedGeneration = r.plan.lastStep, r.search.Generation()
	case c.EveryMinutes > 0 && now.Sub(r.lastCheckpoint(l.elected, now)) >= time.Duration(float64(c.EveryMinutes)*float64(time.Minute)):
		step = r.soon(now, 0)
	case c.EverySteps > 0:
		// Known long before it is reached. One that lies behind the next
		// validation is ordered when the steps that lead to it are.
		step = (r.reached()/uint64(c.EverySteps) + 1) * uint64(c.EverySteps)
		if step > r.plan.lastStep {
			return
		}
		if r.job.Async() {
			step = r.plan.lastStep // the next one that is a cut
		}
	default:
		return
	}
	r.wantedStep = 0
	l.setAttempt(r, step, 0, requests, now)
}

// lastCheckpoint is when the newest checkpoint was made, or else when the job or
// this leader began. A time that is still to come is of a clock that was wrong.
func (r *run) lastCheckpoint(elected, now time.Time) time.Time {
	if all := r.plan.status.GetCheckpoints(); len(all) > 0 {
		if made := time.Unix(0, all[len(all)-1].GetCreatedUnixNano()); !made.After(now) {
			return made
		}
	}
	if started := time.Unix(0, r.plan.status.GetStartedUnixNano()); started.After(elected) && !started.After(now) {
		return started
	}
	return elected
}

// setAttempt replaces the attempt there is; its waiters go with the new one.
func (l *leader) setAttempt(r *run, step uint64, tries int, waiters []chan checkpointResult, now time.Time) {
	if old := r.attempt; old != nil {
		waiters = append(waiters, old.waiters...)
	}
	l.attempts++
	n := len(r.place.Shards)
	r.attempt = &attempt{
		id: fmt.Sprintf("%x-%d", l.rights.Term(), l.attempts), step: step, tries: tries, begun: now,
		location: checkpoint.Join(r.job.Spec.Checkpoint.Dir, checkpoint.Name(r.groupJob(), step)),
		writers:  make([]string, n), files: make([]*proto.CheckpointFile, n), waiters: waiters,
	}
	if w := r.written; w != nil && w.location == r.attempt.location && r.phase() == proto.Phase_PHASE_SEARCHING {
		r.attempt.reuses = true
		copy(r.attempt.files, w.files) // the shards stand still: the manifest alone is written anew
	}
	l.log.Debug("checkpoint is ordered", "job", r.name, "step", step, "at", r.reached(), "id", r.attempt.id)
	l.chooseWriters(r, now)
}

// chooseWriters names, for every shard that is not written yet, a replica in
// service: rather a follower, which has less to do, and rather the one that was
// named before. A replica that died on the way gives way to another, which can
// still take a view if it has not reached the step.
func (l *leader) chooseWriters(r *run, now time.Time) {
	for i, s := range r.place.Shards {
		a := r.attempt
		if a.files[i] != nil || l.serves(r, a.writers[i], s.ID, now) {
			continue
		}
		leader := r.leaderOf(s, l.nodes, now)
		a.writers[i] = ""
		for j := range s.Members {
			m := s.Members[(i+j)%len(s.Members)].Node
			if m != leader && l.serves(r, m, s.ID, now) {
				a.writers[i] = m
				break
			}
		}
		if a.writers[i] == "" {
			a.writers[i] = leader
		}
	}
}

// serves tells whether a node's replica of a shard is up to date enough to be
// asked: alive, in service, and configured.
func (l *leader) serves(r *run, name string, s shard.ID, now time.Time) bool {
	n := l.nodes[name]
	if n == nil || !n.alive(now) {
		return false
	}
	g := n.group(r.groupJob(), uint32(s))
	return g != nil && g.GetError() == "" && g.GetConfigured()
}

// tendAttempt takes in what the writers report.
func (l *leader) tendAttempt(ctx context.Context, r *run, a *attempt, now time.Time) {
	if a.committing {
		return
	}
	if a.reached.IsZero() && r.reached() >= a.step {
		a.reached = now
	}
	l.chooseWriters(r, now)
	missing := 0
	for i, s := range r.place.Shards {
		if a.files[i] != nil {
			continue
		}
		missing++
		n := l.nodes[a.writers[i]]
		if n == nil {
			continue
		}
		c := n.group(r.groupJob(), uint32(s.ID)).GetCheckpoint()
		switch {
		case c.GetId() != a.id:
		case c.GetError() != "":
			l.giveUp(r, a, now, fmt.Errorf("shard %d on %s: %s", s.ID, n.name, c.GetError()))
			return
		case c.GetMissed():
			l.tryAnother(r, a, now, fmt.Errorf("shard %d on %s is past step %d", s.ID, n.name, a.step))
			return
		case c.GetFile() != nil:
			a.files[i] = c.GetFile()
			missing--
		}
	}
	switch {
	case missing == 0:
		a.committing = true
		l.commitCheckpoint(ctx, r, a)
	case !a.reached.IsZero() && now.Sub(a.reached) > attemptTimeout:
		l.giveUp(r, a, now, fmt.Errorf("%d of %d shards are not written after %s", missing, len(a.files), attemptTimeout))
	}
}

// tryAnother orders a step further ahead.
func (l *leader) tryAnother(r *run, a *attempt, now time.Time, why error) {
	step := r.soon(now, a.tries+1)
	if a.tries+1 >= attemptsMax || step <= a.step {
		l.giveUp(r, a, now, why)
		return
	}
	l.log.Info("another step is tried for the checkpoint", "job", r.name, "step", a.step, "next", step, "reason", why)
	l.setAttempt(r, step, a.tries+1, nil, now)
}

// giveUp ends an attempt. Automatic ones are tried again after a pause.
func (l *leader) giveUp(r *run, a *attempt, now time.Time, why error) {
	l.log.Error("checkpoint failed", "job", r.name, "step", a.step, "error", why)
	l.metrics.checkpoints.WithLabelValues("failed").Inc()
	a.finish(checkpointResult{err: fmt.Errorf("checkpoint of job %s at step %d: %w", r.name, a.step, why)})
	r.attempt, r.written, r.checkpointError, r.checkpointAfter = nil, nil, why.Error(), now.Add(retryPause)
}

// checkpointOrder is what one replica is ordered to write.
func (r *run) checkpointOrder(i int, node string) *proto.CheckpointOrder {
	a := r.attempt
	if a == nil || a.writers[i] != node {
		return nil
	}
	return &proto.CheckpointOrder{Id: a.id, Step: a.step, Location: a.location}
}
