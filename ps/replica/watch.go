package replica

import (
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"
)

// watch starts the goroutines that look after a running node; they end when
// the group fails or closes.
func (g *Group) watch() {
	g.observer = raft.NewObserver(g.observed, false, func(o *raft.Observation) bool {
		_, ok := o.Data.(raft.LeaderObservation)
		return ok
	})
	g.raft.RegisterObserver(g.observer)
	g.watchers.Go(g.watchLeader)
	g.watchers.Go(g.watchDisk)
	g.watchers.Go(g.watchState)
	g.watchers.Go(g.watchPeers)
	g.watchers.Go(g.watchLeaving)
	g.poke()
}

// poke wakes watchState.
func (g *Group) poke() {
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// watchLeader drains raft's notifications, without which raft blocks.
func (g *Group) watchLeader() {
	defer g.raft.DeregisterObserver(g.observer)
	for {
		select {
		case leads := <-g.notify:
			g.lead(leads)
			g.cfg.OnChange()
		case <-g.observed:
			g.cfg.OnChange()
		case <-g.life.Done():
			g.lead(false)
			return
		}
	}
}

func (g *Group) lead(leads bool) {
	if g.leads.Swap(leads) == leads {
		return
	}
	g.cfg.Metrics.LeaderChanges.Inc()
	if leads {
		g.cfg.Metrics.Leaders.Inc()
	} else {
		g.cfg.Metrics.Leaders.Dec()
	}
}

// watchDisk finds a disk that does not answer. Raft's main loop waits for it
// while heartbeats go on, so the group would keep this leader for ever
// (hashicorp/raft #503): the process has to end.
func (g *Group) watchDisk() {
	ticker := time.NewTicker(g.cfg.DiskTimeout / 8)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-g.life.Done():
			return
		}
		age, kind := g.store.stalled()
		g.cfg.Metrics.DiskStall.Set(age.Seconds())
		if age < g.cfg.DiskTimeout {
			continue
		}
		err := fmt.Errorf("group %s: %s to log %s has not returned in %s: %w",
			g.cfg.Group, kind, g.store.dir, age.Round(time.Millisecond), ErrDiskStalled)
		g.cfg.OnFatal(err)
		return
	}
}

// watchState takes snapshots when enough was applied, and finds a node that
// restores snapshots without getting on (hashicorp/raft #697).
func (g *Group) watchState() {
	// After a failed snapshot (a full disk, mostly) the next one waits for
	// another quarter of the usual amount.
	extra := int64(0)
	for {
		select {
		case <-g.wake:
		case <-g.life.Done():
			return
		}
		if n := g.adapter.restores.Load(); n >= int64(g.cfg.RestoresMax) {
			g.fail(fmt.Errorf("group %s restored %d snapshots without applying an entry: %w", g.cfg.Group, n, ErrRestart))
			return
		}
		want := max(g.cfg.SnapshotBytes, g.snaps.size.Load())
		if g.adapter.bytes.Load() < want+extra {
			continue
		}
		if g.cfg.Snapshots != nil {
			if g.cfg.Snapshots.Acquire(g.life, 1) != nil {
				return
			}
		}
		err := g.raft.Snapshot().Error()
		if g.cfg.Snapshots != nil {
			g.cfg.Snapshots.Release(1)
		}
		switch {
		case err == nil:
			extra = 0
		case errors.Is(err, raft.ErrNothingNewToSnapshot), errors.Is(err, raft.ErrRaftShutdown):
		default:
			extra += want / 4
			g.cfg.Logger.Warn("snapshot not taken", "group", g.cfg.Group, "error", err)
		}
	}
}
