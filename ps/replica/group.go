package replica

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
	"golang.org/x/sync/semaphore"

	"github.com/fathom-train/fathom/ps/fsm"
)

// Names inside a replica's directory.
const (
	walFolder = "wal"
	tailName  = "wal-tail"
	// divergedName marks data that must not be used again.
	divergedName = "diverged"
)

// transportTimeout bounds one raft message; snapshotRate is the slowest
// transfer of a snapshot that is not given up, in bytes per transportTimeout.
const (
	transportTimeout = 10 * time.Second
	snapshotRate     = 64 << 20
)

// shutdownTimeout bounds how long Close waits for raft.
const shutdownTimeout = 10 * time.Second

// Group is one replica of one shard.
type Group struct {
	cfg     Config
	raft    *raft.Raft
	trans   *transport
	store   *store
	snaps   *snapshots
	state   *fsm.State
	adapter *adapter
	layer   *layer // nil: the transport is in memory

	// bytes and entries admit proposals.
	bytes, entries *semaphore.Weighted

	// peersMu guards plan and peers: the members as ordered, and the address of
	// each.
	peersMu sync.RWMutex
	plan    []Member
	peers   map[raft.ServerID]raft.ServerAddress
	// configured is the newest committed configuration.
	configured atomic.Pointer[configured]

	failure atomic.Pointer[error]
	// life ends with the first failure, of which Close is one.
	life      context.Context
	end       context.CancelFunc
	failOnce  sync.Once
	ready     chan struct{} // closed when raft has been started
	closing   chan struct{} // closed when Close begins
	stopOnce  sync.Once
	down      chan struct{} // closed when raft has stopped
	closeOnce sync.Once
	closeErr  error

	// inUse is held for reading while the state is read, for writing when its
	// memory is given back. gone says that it was.
	inUse sync.RWMutex
	gone  bool

	wake     chan struct{} // to the watcher, capacity 1
	hungUp   chan struct{} // to watchPeers, capacity 1
	shorter  chan string   // to watchPeers, capacity 1: who stood with a shorter log
	lost     raft.ServerID // of watchPeers: the leader that was last found to be gone
	notify   chan bool     // raft's leadership changes
	observer *raft.Observer
	observed chan raft.Observation
	watchers sync.WaitGroup
	leads    atomic.Bool
}

// HasData reports whether a replica's directory holds a log or a snapshot.
func HasData(dir string) bool {
	if info, err := os.Stat(filepath.Join(dir, tailName)); err == nil && info.Size() > 0 {
		return true
	}
	found, _ := filepath.Glob(filepath.Join(dir, snapshotsFolder, "*", "meta.json"))
	return len(found) > 0
}

// Open starts a replica on the mux. It checks everything on disk before raft
// sees it: the error then wraps ErrDamaged and names the file. An empty
// directory without cfg.Bootstrap is ErrNoData.
func Open(cfg Config, mux *Mux) (*Group, error) {
	cfg = cfg.withDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("open group %s: %w", cfg.Group, err)
	}
	if !cfg.Bootstrap && !cfg.Join && !HasData(cfg.Dir) {
		return nil, fmt.Errorf("open group %s: %s is empty: %w", cfg.Group, cfg.Dir, ErrNoData)
	}
	if why, err := os.ReadFile(filepath.Join(cfg.Dir, divergedName)); err == nil {
		return nil, fmt.Errorf("open group %s: %s: %w", cfg.Group, why, ErrDiverged)
	}
	w, err := openWAL(filepath.Join(cfg.Dir, walFolder), cfg.SegmentBytes, cfg.Files, raftLogger(cfg.Logger))
	if err != nil {
		return nil, fmt.Errorf("open group %s: %w", cfg.Group, err)
	}
	g := newGroup(cfg)
	stream, err := mux.Group(onWire(cfg.Group, cfg.Replica), cfg.Address, g.onHungUp)
	if err != nil {
		w.Close()
		return nil, err
	}
	g.layer = stream
	net := raft.NewNetworkTransportWithConfig(&raft.NetworkTransportConfig{
		Stream: stream, MaxPool: 3, Timeout: transportTimeout,
		ServerAddressProvider: g, Logger: raftLogger(cfg.Logger),
	})
	net.TimeoutScale = snapshotRate
	var d Disk = w
	if cfg.Wrap != nil {
		d = cfg.Wrap(w)
	}
	if err := g.start(d, newTransport(net)); err != nil {
		return nil, fmt.Errorf("open group %s: %w", cfg.Group, err)
	}
	return g, nil
}

func newGroup(cfg Config) *Group {
	g := &Group{
		cfg:     cfg,
		state:   fsm.New(),
		bytes:   semaphore.NewWeighted(cfg.OutstandingBytes),
		entries: semaphore.NewWeighted(cfg.OutstandingEntries),
		ready:   make(chan struct{}),
		closing: make(chan struct{}),
		down:    make(chan struct{}),
		wake:    make(chan struct{}, 1),
		hungUp:  make(chan struct{}, 1),
		shorter: make(chan string, 1),
		// Raft's main loop blocks on this one; the watcher always reads it.
		notify:   make(chan bool, 8),
		observed: make(chan raft.Observation, 64),
	}
	g.life, g.end = context.WithCancel(context.Background())
	g.adapter = &adapter{
		state: g.state, metrics: cfg.Metrics,
		onApplied: g.poke, onRestored: g.poke,
		onConfiguration: g.setConfiguration,
		pace: func(sink raft.SnapshotSink) (io.Writer, func()) {
			sync, done := g.snaps.syncer(sink)
			return &pacedWriter{w: sink, sync: sync, stop: g.life.Done()}, done
		},
		leads: func() bool {
			select {
			case <-g.ready:
				return g.raft.State() == raft.Leader
			default:
				return false // raft is just starting
			}
		},
		onBroken:   g.failWhenReady,
		onSnapshot: func(n int64) { g.snaps.size.Store(n) },
	}
	g.SetMembers(cfg.Members)
	return g
}

// SetMembers tells where the members are reached now and what is to become of
// them; Reconfigure makes it so.
func (g *Group) SetMembers(members []Member) {
	peers := make(map[raft.ServerID]raft.ServerAddress, len(members))
	for _, m := range members {
		// The number travels with the address: the connection is refused when
		// another replica than this one is served there by now.
		peers[raft.ServerID(m.ID())] = raft.ServerAddress(onWire(m.Address, m.Replica))
	}
	g.peersMu.Lock()
	g.plan = slices.Clone(members)
	g.peers = peers
	g.peersMu.Unlock()
}

// ServerAddr is called by raft's transport. A replica that is not known has no
// address: after an error raft would take the one it remembers, where another
// replica of the same node may be served.
func (g *Group) ServerAddr(id raft.ServerID) (raft.ServerAddress, error) {
	g.peersMu.RLock()
	defer g.peersMu.RUnlock()
	return g.peers[id], nil
}

// onWire adds a replica's number to a group's name or an address.
func onWire(name string, replica uint32) string {
	if replica == 0 {
		return name
	}
	return fmt.Sprintf("%s%c%d", name, replicaMark, replica)
}

// Leader returns the node that leads as far as this replica knows, empty when
// none, and whether it is this one.
func (g *Group) Leader() (node string, isLeader bool) {
	if g.Err() != nil {
		return "", false
	}
	_, id := g.raft.LeaderWithID()
	return nodeOf(string(id)), g.raft.State() == raft.Leader
}

// State returns the state machine. It must not be used after Close; Inspect
// is the safe way.
func (g *Group) State() *fsm.State { return g.state }

// Inspect calls f with the state machine unless the group is closed.
func (g *Group) Inspect(f func(*fsm.State)) bool {
	g.inUse.RLock()
	defer g.inUse.RUnlock()
	if g.gone {
		return false
	}
	f(g.state)
	return true
}

// Err returns why this replica is out of service, or nil. It wraps ErrDamaged,
// ErrRestart, ErrClosed or the error of the disk.
func (g *Group) Err() error {
	if p := g.failure.Load(); p != nil {
		return *p
	}
	return nil
}

// fail takes the replica out of service. It may be called from raft's own
// goroutines, so raft is shut down by another.
func (g *Group) fail(err error) {
	first := false
	g.failOnce.Do(func() {
		first = true
		g.failure.Store(&err)
		g.end()
		g.adapter.stop()
	})
	if !first {
		return
	}
	if errors.Is(err, ErrDamaged) {
		g.cfg.Metrics.CRCErrors.Inc()
	}
	if !errors.Is(err, ErrClosed) {
		g.cfg.Logger.Error("replica leaves service", "group", g.cfg.Group, "error", err)
		g.stopRaft()
		go closeTransport(g.trans)
	}
	g.cfg.OnChange()
}

// failWhenReady is fail for those who may meet an error while raft is starting.
func (g *Group) failWhenReady(err error) {
	select {
	case <-g.ready:
		g.fail(err)
	default:
		go func() {
			select {
			case <-g.ready:
				g.fail(err)
			case <-g.life.Done():
			}
		}()
	}
}

// Disown takes the replica out of service for good, because its state is not
// that of the others: its data are marked and never opened again.
func (g *Group) Disown(reason string) {
	err := fmt.Errorf("group %s: %s: %w", g.cfg.Group, reason, ErrDiverged)
	if e := os.WriteFile(filepath.Join(g.cfg.Dir, divergedName), []byte(reason), 0o600); e != nil {
		err = errors.Join(err, fmt.Errorf("mark its data: %w", e))
	}
	g.fail(err)
}

// Close stops the replica; its data stays on disk.
func (g *Group) Close() error {
	g.closeOnce.Do(func() { g.closeErr = g.close() })
	return g.closeErr
}

func (g *Group) close() error {
	close(g.closing)
	// A leader with a quorum finishes what it has accepted within milliseconds.
	g.drain(time.Second)
	g.fail(fmt.Errorf("group %s: %w", g.cfg.Group, ErrClosed))
	g.stopRaft()
	timeout := time.NewTimer(shutdownTimeout)
	defer timeout.Stop()
	select {
	case <-g.down:
	case <-timeout.C:
		closeTransport(g.trans)
		return fmt.Errorf("close group %s: raft does not stop, its disk may hang", g.cfg.Group)
	}
	closeTransport(g.trans)
	g.watchers.Wait()
	err := g.store.Close()
	g.adapter.wait()
	g.inUse.Lock()
	g.gone = true
	g.state.Close()
	g.inUse.Unlock()
	g.lead(false)
	return err
}

// stopRaft begins to stop raft; down tells when it has.
func (g *Group) stopRaft() {
	g.stopOnce.Do(func() {
		go func() {
			stopped := g.raft.Shutdown()
			closeTransport(g.trans) // raft may wait for it, see transport
			_ = stopped.Error()     // always nil
			close(g.down)
		}()
	})
}

// drain waits until nothing is outstanding, but not longer than limit. It
// keeps the room it takes: nothing is proposed afterwards.
func (g *Group) drain(limit time.Duration) {
	ctx, cancel := context.WithTimeout(g.life, limit)
	defer cancel()
	// An error is no harm: who still waits is told to send again.
	_ = g.entries.Acquire(ctx, g.cfg.OutstandingEntries)
}

func closeTransport(t *transport) {
	_ = t.Close() // of sockets that nobody needs any more
}
