package coordinator

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

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

// checkpointResult is what a request for a checkpoint gets.
type checkpointResult struct {
	info *proto.CheckpointInfo
	err  error
}

func (a *attempt) finish(r checkpointResult) {
	for _, w := range a.waiters {
		w <- r // capacity 1
	}
	a.waiters = nil
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
	case c.EveryMinutes > 0 && now.Sub(r.lastCheckpoint(l.elected)) >= time.Duration(float64(c.EveryMinutes)*float64(time.Minute)):
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
// this leader began.
func (r *run) lastCheckpoint(elected time.Time) time.Time {
	if all := r.plan.status.GetCheckpoints(); len(all) > 0 {
		return time.Unix(0, all[len(all)-1].GetCreatedUnixNano())
	}
	if started := time.Unix(0, r.plan.status.GetStartedUnixNano()); started.After(elected) {
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

// commitCheckpoint writes the manifest and then records the checkpoint, on the
// side: the store of checkpoints may be slow.
func (l *leader) commitCheckpoint(ctx context.Context, r *run, a *attempt) {
	m, err := r.manifest(a)
	if err != nil {
		l.giveUp(r, a, time.Now(), err)
		return
	}
	base := r.job.Spec.Checkpoint.Dir
	l.side.Go(func() {
		// Once begun it is finished, whoever leads then: the manifest is sound.
		ctx, cancel := context.WithTimeout(ctx, manifestTimeout)
		defer cancel()
		err := withBucket(ctx, base, func(b checkpoint.Bucket) error {
			if a.reuses { // somebody may have deleted them since
				if err := checkpoint.Present(ctx, b, m); err != nil {
					return err
				}
			}
			return checkpoint.Commit(ctx, b, m)
		})
		var kept []uint64
		if err == nil {
			err = l.commit(ctx, func(now time.Time) (*write, error) {
				if r != l.active() || r.attempt != a {
					return nil, errors.New("the job went on without it")
				}
				w := l.recordCheckpoint(r, a, m, now)
				install := w.apply
				w.apply = func() {
					install()
					for _, c := range r.plan.status.GetCheckpoints() {
						if strings.Contains(c.GetLocation(), m.Job+"-"+m.Run) { // of this generation
							kept = append(kept, c.GetStep())
						}
					}
				}
				return w, nil
			})
		}
		if err != nil {
			l.mu.Lock()
			if r.attempt == a {
				l.giveUp(r, a, time.Now(), err)
			}
			l.mu.Unlock()
			return
		}
		run := m.Job + "-" + m.Run
		if err := withBucket(ctx, base, func(b checkpoint.Bucket) error { return checkpoint.Prune(ctx, b, run, kept) }); err != nil {
			l.log.Warn("old checkpoints are not deleted", "job", r.name, "error", err)
		}
	})
}

func withBucket(ctx context.Context, location string, f func(checkpoint.Bucket) error) error {
	b, err := checkpoint.Open(ctx, location)
	if err != nil {
		return err
	}
	return errors.Join(f(b), b.Close())
}

// recordCheckpoint is the write after the manifest's: the job's newest
// checkpoints, as many as are kept.
func (l *leader) recordCheckpoint(r *run, a *attempt, m *checkpoint.Manifest, now time.Time) *write {
	info := &proto.CheckpointInfo{Location: a.location, Step: a.step, StateHash: m.StateHash, Bytes: uint64(m.Bytes()),
		CreatedUnixNano: m.Created.UnixNano(), Seconds: seconds(now.Sub(a.begun))}
	w := l.setPlan(r.entry, now, func(p *plan) {
		all := slices.DeleteFunc(p.status.Checkpoints, func(c *proto.CheckpointInfo) bool { return c.GetLocation() == info.GetLocation() })
		p.status.Checkpoints = r.retained(append(all, info), p.pinned)
	})
	install := w.apply
	w.apply = func() {
		install()
		r.attempt, r.checkpointError, r.written = nil, "", a
		a.finish(checkpointResult{info: info})
		l.metrics.checkpoints.WithLabelValues("done").Inc()
		l.metrics.checkpointSeconds.Observe(info.GetSeconds())
		l.log.Info("checkpoint is complete", "job", r.name, "step", info.GetStep(), "location", info.GetLocation(), "bytes", info.GetBytes())
	}
	return w
}

// retained is which checkpoints are kept: the newest ones of this generation, and
// the pinned ones besides.
func (r *run) retained(all []*proto.CheckpointInfo, pinned []uint64) []*proto.CheckpointInfo {
	keep := r.job.Spec.Checkpoint.Keep
	var kept []*proto.CheckpointInfo
	for i, c := range all {
		if i >= len(all)-keep || slices.Contains(pinned, c.GetStep()) {
			kept = append(kept, c)
		}
	}
	return kept
}

// manifest describes the checkpoint whose files are all written.
func (r *run) manifest(a *attempt) (*checkpoint.Manifest, error) {
	at, search := r.positionAt(a.step)
	position, err := encodePosition(at, search)
	if err != nil {
		return nil, err
	}
	m := &checkpoint.Manifest{
		Program: programVersion(), Created: time.Now().UTC(),
		Job: r.name, Run: fmt.Sprintf("%016x", r.groupRun()), Step: a.step,
		Spec: json.RawMessage(r.spec), SpecDigest: r.plan.status.GetSpecDigest(), DataDigest: r.plan.digest,
		Position: position, Epoch: at.status.GetEpoch(), Schema: r.layout.checkpointSchema(),
	}
	var parts [][hashBytes]byte
	for i, s := range r.place.Shards {
		f := a.files[i]
		file := checkpoint.File{Shard: s.ID, Lo: s.Lo, Hi: s.Hi, Name: f.GetName(), Bytes: int64(f.GetBytes()),
			SHA256: hex.EncodeToString(f.GetSha256()), Rows: f.GetRows()}
		for _, d := range denseOf(s.ID, r.place.Dense, len(r.layout.dense)) {
			file.Dense = append(file.Dense, r.layout.dense[d].GetId())
		}
		var sum [hashBytes]byte
		for j, p := range f.GetParts() {
			if len(p) != hashBytes || len(f.GetParts()) != len(r.layout.tables)+1 {
				return nil, fmt.Errorf("shard %d reports %d hashes of its file, want %d", s.ID, len(f.GetParts()), len(r.layout.tables)+1)
			}
			if j == len(parts) {
				parts = append(parts, [hashBytes]byte{})
			}
			parts[j] = addHash(parts[j], [hashBytes]byte(p))
			sum = addHash(sum, [hashBytes]byte(p))
		}
		file.Hash = hex.EncodeToString(sum[:])
		m.Files = append(m.Files, file)
	}
	var whole [hashBytes]byte
	for j, p := range parts {
		name := "dense"
		if j < len(r.layout.tables) {
			name = r.layout.tables[j].GetName()
		}
		m.Parts = append(m.Parts, checkpoint.Part{Name: name, Hash: hex.EncodeToString(p[:])})
		whole = addHash(whole, p)
	}
	m.StateHash = hex.EncodeToString(whole[:])
	return m, nil
}

// programVersion is the version of fathom that runs.
func programVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}

// checkpointSchema is the layout as manifests have it.
func (l *layout) checkpointSchema() checkpoint.Schema {
	var s checkpoint.Schema
	for _, t := range l.tables {
		w := checkpoint.Table{ID: t.GetId(), Name: t.GetName()}
		for _, c := range t.GetColumns() {
			w.Columns = append(w.Columns, checkpoint.Column{Name: c.GetName(), Width: c.GetWidth(), Optimizer: c.GetOptimizer()})
		}
		s.Tables = append(s.Tables, w)
	}
	for _, d := range l.dense {
		s.Dense = append(s.Dense, checkpoint.Tensor{ID: d.GetId(), Name: d.GetName(), Size: d.GetSize(), Optimizer: d.GetOptimizer()})
	}
	return s
}

// checkpointOrder is what one replica is ordered to write.
func (r *run) checkpointOrder(i int, node string) *proto.CheckpointOrder {
	a := r.attempt
	if a == nil || a.writers[i] != node {
		return nil
	}
	return &proto.CheckpointOrder{Id: a.id, Step: a.step, Location: a.location}
}

// Checkpoint makes a checkpoint of a job and answers when it exists.
func (c *control) Checkpoint(ctx context.Context, r *proto.CheckpointRequest) (*proto.CheckpointInfo, error) {
	l, err := c.service.leading(ctx)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	e, err := l.get(r.GetJob())
	var result <-chan checkpointResult
	if err == nil {
		if result, err = l.requestCheckpoint(e); err != nil {
			err = status.Error(codes.FailedPrecondition, err.Error())
		}
	}
	l.mu.Unlock()
	if err != nil {
		return nil, err
	}
	ended := time.NewTicker(tick)
	defer ended.Stop()
	for {
		select {
		case a := <-result:
			if a.err != nil {
				return nil, status.Error(codes.Internal, a.err.Error())
			}
			return a.info, nil
		case <-ended.C:
			l.mu.Lock()
			over := e.ended()
			l.mu.Unlock()
			if over && len(result) == 0 {
				return nil, status.Errorf(codes.FailedPrecondition, "job %s ended before the checkpoint was complete", e.name)
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-l.done:
			return nil, c.service.refuse(ctx)
		}
	}
}

// Groups tells where the shards of a job are that are hosted now.
func (c *control) Groups(ctx context.Context, r *proto.StatusRequest) (*proto.GroupsReply, error) {
	l, err := c.service.leading(ctx)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	e, err := l.get(r.GetJob())
	if err != nil {
		return nil, err
	}
	if l.run == nil || l.run.entry != e || e.place == nil {
		return nil, status.Errorf(codes.FailedPrecondition, "the servers do not hold job %s any more, or not yet", e.name)
	}
	return &proto.GroupsReply{Job: e.groupJob(), Run: e.groupRun(), Generation: e.plan.generation, Shards: l.routesOf(l.run, time.Now())}, nil
}

// requestCheckpoint asks for a checkpoint as soon as possible; the channel gets
// the one answer.
func (l *leader) requestCheckpoint(e *entry) (<-chan checkpointResult, error) {
	r := l.active()
	switch {
	case r == nil || r.entry != e:
		return nil, fmt.Errorf("job %s is %s: only a job that trains can be checkpointed", e.name, phaseName(e.phase()))
	case r.job.Spec.Checkpoint.Dir == "":
		return nil, errNoPlace
	case r.phase() == proto.Phase_PHASE_STARTING:
		return nil, fmt.Errorf("job %s is still starting", e.name)
	}
	result := make(chan checkpointResult, 1)
	if a := r.attempt; a != nil && !a.reached.IsZero() {
		a.waiters = append(a.waiters, result) // it is as good as done
	} else {
		r.checkpointRequests = append(r.checkpointRequests, result)
	}
	l.poke()
	return result, nil
}
