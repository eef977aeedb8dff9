package replica

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft"
)

// start checks the disk and starts raft. It owns d and trans, also when it fails.
func (g *Group) start(d Disk, trans *transport) (err error) {
	g.trans = trans
	if g.store, err = newStore(d, filepath.Join(g.cfg.Dir, walFolder), filepath.Join(g.cfg.Dir, tailName), g.failWhenReady); err != nil {
		return errors.Join(err, d.Close(), trans.Close())
	}
	defer func() {
		if err != nil {
			if errors.Is(err, ErrDamaged) {
				g.cfg.Metrics.CRCErrors.Inc()
			}
			err = errors.Join(err, g.store.Close(), trans.Close())
			g.end()
			g.adapter.stop()
			g.adapter.wait()
			g.state.Close()
		}
	}()
	if g.snaps, err = openSnapshots(g.cfg.Dir, raftLogger(g.cfg.Logger), g.failWhenReady, g.setConfiguration); err != nil {
		return err
	}
	first, last, err := g.store.verify()
	if err != nil {
		return err
	}
	if err := g.store.verifyTerm(last); err != nil {
		return err
	}
	if err := g.snaps.check(first, last, func(err error) {
		g.cfg.Logger.Error("damaged snapshot", "group", g.cfg.Group, "error", err)
	}); err != nil {
		return err
	}
	if err := g.dropStaleLog(first, last); err != nil {
		return err
	}
	if n := g.snaps.newest; n.Index > 0 {
		g.setConfiguration(n.ConfigurationIndex, n.Configuration)
	}
	conf := g.raftConfig()
	logs, err := raft.NewLogCache(g.cfg.CachedEntries, g.store)
	if err != nil {
		return fmt.Errorf("cache log: %w", err)
	}
	formed, err := g.form(conf, logs)
	if err != nil {
		return err
	}
	trans.held = g
	// From here on errors meet raft's goroutines, which answer with a panic.
	trans.onStart = func() {
		g.store.serving.Store(true)
		g.snaps.serving.Store(true)
	}
	if g.raft, err = newRaft(g.cfg.Dir, conf, g.adapter, logs, g.store, g.snaps, trans); err != nil {
		if failed := g.store.failed.Load(); failed != nil {
			return *failed // a full disk, mostly: nothing is damaged
		}
		return err
	}
	close(g.ready)
	g.watch()
	if formed && g.cfg.Members[0].ID() == g.cfg.self().ID() {
		g.watchers.Go(g.standFirst)
	}
	return nil
}

// dropStaleLog finishes what a crash in the middle of installing a snapshot
// left over: a log that ends before the snapshot, or contradicts it. The log
// accepts no gaps, so the replica could never append again.
func (g *Group) dropStaleLog(first, last uint64) error {
	base := g.snaps.newest
	if last == 0 || base.Index == 0 || base.Index < first {
		return nil
	}
	if last >= base.Index {
		var l raft.Log
		if err := g.store.GetLog(base.Index, &l); err != nil {
			return err
		}
		if l.Term == base.Term {
			return nil
		}
	}
	return g.store.DeleteRange(first, last)
}

// form writes the first entry of a new group's log, the same on every member. formed
// says that there was none.
func (g *Group) form(conf *raft.Config, logs raft.LogStore) (formed bool, err error) {
	exists, err := raft.HasExistingState(logs, g.store, g.snaps)
	if err != nil {
		return false, fmt.Errorf("look for data in %s: %w", g.cfg.Dir, err)
	}
	if exists || g.cfg.Join { // to one that joins the leader tells who the others are
		return false, nil
	}
	if !g.cfg.Bootstrap {
		return false, fmt.Errorf("%s is empty: %w", g.cfg.Dir, ErrNoData)
	}
	var voters raft.Configuration
	for _, m := range g.cfg.Members {
		voters.Servers = append(voters.Servers, raft.Server{
			Suffrage: raft.Voter, ID: raft.ServerID(m.ID()), Address: raft.ServerAddress(onWire(m.Address, m.Replica)),
		})
	}
	if g.cfg.Seed != nil {
		return true, g.seed(voters)
	}
	if err := raft.BootstrapCluster(conf, logs, g.store, g.snaps, g.trans, voters); err != nil {
		return false, fmt.Errorf("form group: %w", err)
	}
	return true, nil
}

// seedIndex and seedTerm are what a group that begins from a checkpoint has
// committed before its first entry.
const seedIndex, seedTerm = 1, 1

// seed writes the snapshot that a group formed from a checkpoint begins with. It
// is the same on every member, as the first entry of an empty group's log is, so
// nothing has to be copied between them. A crash before its end leaves the
// directory without data.
func (g *Group) seed(voters raft.Configuration) error {
	sink, err := g.snaps.Create(raft.SnapshotVersionMax, seedIndex, seedTerm, voters, seedIndex, g.trans)
	if err != nil {
		return fmt.Errorf("form group from a checkpoint: %w", err)
	}
	if err := g.cfg.Seed(sink); err != nil {
		return errors.Join(fmt.Errorf("form group from a checkpoint: %w", err), sink.Cancel())
	}
	if err := sink.Close(); err != nil {
		return fmt.Errorf("form group from a checkpoint: %w", err)
	}
	return nil
}

func (g *Group) raftConfig() *raft.Config {
	c := raft.DefaultConfig()
	c.LocalID = raft.ServerID(g.cfg.self().ID())
	c.HeartbeatTimeout, c.ElectionTimeout = g.cfg.Heartbeat, g.cfg.Heartbeat
	// No answer relies on the lease: reads name their version and writes need a
	// quorum. So a leader on a busy machine is not made to step down before its
	// followers would replace it.
	c.LeaderLeaseTimeout = g.cfg.Heartbeat
	c.CommitTimeout = g.cfg.CommitTimeout
	// Counted in entries of up to 256 KiB, whatever their size.
	c.MaxAppendEntries = 16
	// The commands of one push then share a sync of the log. Propose bounds what
	// is outstanding and waits by its context, so that raft's timeout of the
	// queue, which does not work with this, is not needed.
	c.BatchApplyCh = true
	c.TrailingLogs = g.cfg.TrailingEntries
	// Snapshots are taken by bytes (watch.go), never by raft's own count.
	c.SnapshotThreshold = math.MaxUint64
	c.SnapshotInterval = 24 * time.Hour
	// A leader that leaves the group must still answer; the server closes it.
	c.ShutdownOnRemove = false
	c.NotifyCh = g.notify
	c.NoLegacyTelemetry = true
	c.Logger = raftLogger(g.cfg.Logger.With("group", g.cfg.Group))
	return c
}

// newRaft is raft.NewRaft with its panics on damaged data in dir turned into
// errors; the checks before should have found them all.
func newRaft(dir string, conf *raft.Config, f raft.FSM, logs raft.LogStore, stable raft.StableStore, snaps raft.SnapshotStore, trans raft.Transport) (r *raft.Raft, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = damaged(dir, "start raft: %v", p)
		}
	}()
	if r, err = raft.NewRaft(conf, f, logs, stable, snaps, trans); err != nil {
		return nil, fmt.Errorf("start raft: %w", err)
	}
	return r, nil
}
