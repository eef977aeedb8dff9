package ps

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fathom-train/fathom/proto"
	"github.com/fathom-train/fathom/ps/fsm"
	"github.com/fathom-train/fathom/ps/replica"
	"github.com/fathom-train/fathom/ps/wire"
)

// errOrder says that an order cannot be carried out, however often it is tried.
var errOrder = errors.New("order cannot be carried out")

// configureTimeout bounds one attempt to configure a shard, configurePause is
// between attempts.
const (
	configureTimeout = 5 * time.Second
	configurePause   = 100 * time.Millisecond
)

// hosted is one group this server is ordered to host. The host loop alone
// opens and closes it.
type hosted struct {
	server *Server
	name   string
	wake   chan struct{} // to tend, capacity 1
	steer  chan struct{} // to lead, capacity 1

	// served says that a pull was answered since the replica was opened.
	served atomic.Bool

	// mu guards what follows.
	mu      sync.RWMutex
	order   *proto.GroupOrder
	group   *replica.Group // nil when it could not be opened
	err     error          // why not
	tried   time.Time
	opened  chan struct{}      // closed when open has ended
	stop    context.CancelFunc // of open, tend and lead
	stopped chan struct{}      // closed when both have ended
	// checkpoint is how far the ordered checkpoint is; nil: not begun, or none.
	checkpoint *proto.CheckpointReport

	// hashes is set before tend begins; nil when its file cannot be opened.
	hashes       *hashLog
	hashesFailed bool // tend's alone
}

// give hands over the newest order.
func (h *hosted) give(o *proto.GroupOrder) {
	h.mu.Lock()
	h.order = o
	g := h.group
	h.mu.Unlock()
	if g != nil {
		g.SetMembers(membersOf(o))
	}
	h.rouse()
}

func (h *hosted) ordered() *proto.GroupOrder {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return h.order
}

// open opens the replica; a failure stays in err. A replica that has a checkpoint
// to read does it on the side: it may take minutes, and the other groups and the
// next order must not wait for it.
func (h *hosted) open(ctx context.Context) {
	ctx, stop := context.WithCancel(ctx)
	opened := make(chan struct{})
	h.mu.Lock()
	h.err, h.stop, h.opened = errOpening, stop, opened
	o := h.order
	h.mu.Unlock()
	if o.GetRestore() == nil || !o.GetBootstrap() {
		h.openNow(ctx)
		close(opened)
		return
	}
	go func() {
		h.openNow(ctx)
		close(opened)
		h.server.session.Poke()
	}()
}

func (h *hosted) openNow(ctx context.Context) {
	g, schema, err := h.start(ctx)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.group, h.err, h.tried = g, err, time.Now()
	if err != nil {
		h.server.cfg.Logger.Error("group cannot be opened", "group", h.name, "error", err)
		return
	}
	h.stopped = make(chan struct{})
	if h.hashes, err = openHashes(h.dir(h.order)); err != nil {
		h.server.cfg.Logger.Warn("state hashes are not kept", "group", h.name, "error", err)
	}
	stopped := h.stopped
	go func() {
		defer close(stopped)
		var led sync.WaitGroup
		led.Go(func() { h.lead(ctx, g) })
		h.tend(ctx, g, schema)
		led.Wait()
	}()
	h.server.cfg.Logger.Info("group opened", "group", h.name)
}

func (h *hosted) start(ctx context.Context) (*replica.Group, []byte, error) {
	o, s := h.ordered(), h.server
	if !jobName.MatchString(o.GetJob()) {
		return nil, nil, fmt.Errorf("%w: %q is no name of a job", errOrder, o.GetJob())
	}
	schema, err := schemaOf(o.GetSchema())
	if err != nil {
		return nil, nil, fmt.Errorf("%w: schema of %s: %w", errOrder, h.name, err)
	}
	encoded, err := fsm.MarshalSchema(schema)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: schema of %s: %w", errOrder, h.name, err)
	}
	cfg := replica.Config{
		Dir:   h.dir(o),
		Group: h.name, Node: s.cfg.Node, Replica: o.GetReplica(), Address: s.cfg.Advertise,
		Members: membersOf(o), Bootstrap: o.GetBootstrap(), Join: roleOf(o, s.cfg.Node) == replica.Learner,
		Heartbeat: s.cfg.Heartbeat, SnapshotBytes: s.cfg.SnapshotBytes, DiskTimeout: s.cfg.DiskTimeout,
		Logger: s.cfg.Logger, Metrics: s.replicas, Snapshots: s.snapshotting,
		OnFatal: s.die, OnChange: h.rouse,
	}
	if o.GetRestore() != nil {
		cfg.Seed = func(to io.Writer) error { return seed(ctx, o, schema, to) }
	}
	if s.cfg.Tune != nil {
		s.cfg.Tune(&cfg)
	}
	g, err := replica.Open(cfg, s.mux)
	return g, encoded, err
}

// dir is the folder of the ordered replica.
func (h *hosted) dir(o *proto.GroupOrder) string {
	return filepath.Join(h.server.cfg.DataDir, groupsFolder, filepath.FromSlash(folderOf(o)))
}

// close closes the replica; its data stays.
func (h *hosted) close() error {
	h.mu.RLock()
	stop, opened := h.stop, h.opened
	h.mu.RUnlock()
	stop()
	<-opened
	h.mu.Lock()
	g, stopped := h.group, h.stopped
	h.group = nil
	h.err = errors.New("group is closed")
	h.mu.Unlock()
	if g == nil {
		return nil
	}
	// The hashes of the last versions are written before the state is gone.
	<-stopped
	err := g.Close()
	if h.hashes != nil {
		err = errors.Join(err, h.hashes.close())
	}
	return err
}

// replica returns the open replica, or why there is none.
func (h *hosted) replica() (*replica.Group, error) {
	h.mu.RLock()
	defer h.mu.RUnlock()
	if h.err != nil {
		return nil, h.err
	}
	return h.group, h.group.Err()
}

// failure returns why the group is out of service.
func (h *hosted) failure() error {
	_, err := h.replica()
	return err
}

// due reports whether enough time has passed since the last attempt.
func (h *hosted) due(now time.Time, pause time.Duration) bool {
	h.mu.RLock()
	defer h.mu.RUnlock()
	return now.Sub(h.tried) >= pause
}

func (h *hosted) inspect(f func(*fsm.State)) bool {
	g, err := h.replica()
	return err == nil && g.Inspect(f)
}

func (h *hosted) rouse() {
	for _, c := range []chan struct{}{h.wake, h.steer} {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// seen is what the coordinator wants to know at once when it changes.
type seen struct {
	failed, configured, leader, reached bool
	leaderNode                          string
	members                             string
}

// tend watches one replica until ctx ends or it fails: it reports at once what
// the coordinator waits for, and configures the shard when this replica leads.
func (h *hosted) tend(ctx context.Context, g *replica.Group, schema []byte) {
	var last seen
	checkpoints := capturer{hosted: h, group: g}
	defer checkpoints.stop()
	defer h.keepHashes(g, true)
	for {
		h.keepHashes(g, false)
		var changed <-chan struct{}
		var now seen
		var version uint64
		var phase uint32
		open := g.Inspect(func(state *fsm.State) {
			changed = state.Changed()
			version, now.configured = state.Version()
			phase = state.Phase()
		})
		if !open {
			return
		}
		now.leaderNode, now.leader = g.Leader()
		now.failed = g.Err() != nil
		now.members = fmt.Sprint(g.Configuration())
		order := h.ordered()
		checkpoints.follow(ctx, order.GetCheckpoint())
		if reason := order.GetDiverged(); reason != "" && !now.failed {
			g.Disown(reason)
			continue
		}
		notify := order.GetNotifyVersion()
		now.reached = notify > 0 && version >= notify
		if now != last {
			h.server.session.Poke()
		}
		last = now
		if now.failed {
			h.server.rouse() // it may have to be opened again
			return
		}
		var retry <-chan time.Time
		if now.leader && !now.configured && !h.configure(ctx, g, schema) {
			retry = time.After(configurePause)
		}
		if now.leader && now.configured && phase < h.ordered().GetSchema().GetPhase() && !h.reshape(ctx, g) {
			retry = time.After(configurePause)
		}
		select {
		case <-changed:
		case <-h.wake:
		case <-retry:
		case <-ctx.Done():
			return
		}
	}
}

// configure proposes the shard's schema and reports whether it was applied.
func (h *hosted) configure(ctx context.Context, g *replica.Group, schema []byte) bool {
	ctx, cancel := context.WithTimeout(ctx, configureTimeout)
	defer cancel()
	results, err := g.Propose(ctx, [][]byte{wire.AppendConfigure(nil, schema)})
	if err == nil && results[0].Err != nil {
		err = results[0].Err
	}
	if err != nil && ctx.Err() == nil {
		h.server.cfg.Logger.Warn("shard not configured yet", "group", h.name, "error", err)
	}
	return err == nil
}

// reshape proposes the ordered schema, which is that of the next phase.
func (h *hosted) reshape(ctx context.Context, g *replica.Group) bool {
	schema, err := schemaOf(h.ordered().GetSchema())
	if err == nil {
		var encoded []byte
		if encoded, err = fsm.MarshalSchema(schema); err == nil {
			return h.configure(ctx, g, encoded)
		}
	}
	h.server.cfg.Logger.Error("schema of the next phase cannot be used", "group", h.name, "error", err)
	return false
}
