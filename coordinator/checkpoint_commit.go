package coordinator

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/fathom-train/fathom/proto"
	"github.com/fathom-train/fathom/ps/checkpoint"
)

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
	for _, s := range append(slices.Clone(r.plan.stageScores()), r.score()) {
		if s != nil && s.GetVersion() == a.step {
			m.Scores = append(m.Scores, checkpoint.Score{Split: s.GetSplit(), Samples: s.GetSamples(), AUC: s.GetAuc(), LogLoss: s.GetLogLoss(), GAUC: s.GetGauc()})
		}
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
