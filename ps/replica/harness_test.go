package replica

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/raft"

	"github.com/fathom-train/fathom/compute/optim"
	"github.com/fathom-train/fathom/compute/random"
	"github.com/fathom-train/fathom/ps/fsm"
	"github.com/fathom-train/fathom/ps/table"
	"github.com/fathom-train/fathom/ps/wire"
	"github.com/fathom-train/fathom/shard"
)

const (
	testRun   = 77
	testLanes = 2
	testWidth = 4
)

func configureCommand() []byte {
	schema, err := fsm.MarshalSchema(fsm.Schema{
		Job: "test", Run: testRun, Seed: 5, Lanes: testLanes, PreImages: 1,
		Tables: []table.Schema{{ID: 0, Name: "rows", Columns: []table.Column{{
			Name: "embedding", Width: testWidth, Init: random.Init{Kind: "normal", Scale: 0.1},
			Optimizer: optim.Config{Name: "sgd", LearningRate: 0.5},
		}}}},
	})
	if err != nil {
		panic(err)
	}
	return wire.AppendConfigure(nil, schema)
}

// laneChunks returns the commands of one push: rows keys, gradients that differ
// by step, lane and position. The result is fresh memory.
func laneChunks(step uint64, lane uint16, rows int) [][]byte {
	keys := make([]shard.Key, rows)
	counts := make([]uint32, rows)
	grads := make([]float32, rows*testWidth)
	for i := range keys {
		keys[i] = shard.Key(uint64(i)*(1<<63/uint64(rows)*2)) + shard.Key(uint64(i)*0x9e3779b97f4a7c15>>40) + shard.Key(lane)
		counts[i] = 1
	}
	for i := range grads {
		grads[i] = float32(step%13) + float32(lane)/8 - float32(i%7)/4
	}
	b := wire.NewPush(wire.PushID{Factor: 1, Run: testRun, Step: step, Lane: lane})
	b.Rows(0, testWidth, keys, counts, grads)
	var chunks [][]byte
	for _, c := range b.Chunks() {
		chunks = append(chunks, append([]byte(nil), c...))
	}
	return chunks
}

// twinHash is the hash of a state machine fed every push exactly once.
func twinHash(t testing.TB, steps uint64, rows int) [16]byte {
	t.Helper()
	s := fsm.New()
	defer s.Close()
	index := uint64(1)
	feed := func(cmd []byte) {
		if r := s.Apply(index, cmd); r.Err != nil {
			t.Fatalf("twin: %v", r.Err)
		}
		index++
	}
	feed(configureCommand())
	for step := uint64(1); step <= steps; step++ {
		for lane := range uint16(testLanes) {
			for _, c := range laneChunks(step, lane, rows) {
				feed(c)
			}
		}
	}
	return s.Hash()
}

// patience is when something has failed that does not come; it says nothing of how
// fast anything is.
const patience = 2 * time.Minute

// calm is a heartbeat with which leaders stay, however busy the machine is.
const calm = time.Minute

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	limit := time.After(patience)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// memDisk is a log in memory.
type memDisk struct{ *raft.InmemStore }

func (memDisk) Close() error { return nil }

// faultyDisk hangs or fails on demand.
type faultyDisk struct {
	Disk
	hang chan struct{} // closed: go on
	hung atomic.Bool
	read atomic.Pointer[error] // answer of GetLog
	// write is the answer of StoreLogs.
	write atomic.Pointer[error]
}

func (d *faultyDisk) StoreLogs(l []*raft.Log) error {
	if d.hung.Load() {
		<-d.hang
	}
	if p := d.write.Load(); p != nil {
		return *p
	}
	return d.Disk.StoreLogs(l)
}

func (d *faultyDisk) GetLog(i uint64, l *raft.Log) error {
	if p := d.read.Load(); p != nil {
		return *p
	}
	return d.Disk.GetLog(i, l)
}

func (d *faultyDisk) IsMonotonic() bool {
	m, ok := d.Disk.(raft.MonotonicLogStore)
	return ok && m.IsMonotonic()
}

// cluster is a group of n replicas in this process, over TCP or in memory.
type cluster struct {
	t       testing.TB
	dirs    []string
	members []Member
	muxes   []*Mux                 // TCP
	inmem   []*raft.InmemTransport // in memory
	groups  []*Group
	tune    func(i int, c *Config)
	dial    Dialer // TCP; nil: the usual one
	// heartbeat is what Config says of it.
	heartbeat time.Duration
	openLog   func(i int, dir string) Disk
}

func (c *cluster) config(i int) Config {
	cfg := Config{
		Dir: c.dirs[i], Group: "test/0", Node: c.members[i].Node, Address: c.members[i].Address,
		Members: c.members, Bootstrap: true, SegmentBytes: 1 << 20,
		Heartbeat: c.heartbeat, CommitTimeout: 5 * time.Millisecond,
	}
	if os.Getenv("RAFT_LOG") != "" {
		cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug})).With("node", cfg.Node)
	}
	if c.tune != nil {
		c.tune(i, &cfg)
	}
	return cfg
}

func newCluster(t testing.TB, n int) *cluster {
	c := &cluster{t: t, groups: make([]*Group, n), heartbeat: 400 * time.Millisecond}
	for i := range n {
		c.dirs = append(c.dirs, filepath.Join(t.TempDir(), "group"))
		c.members = append(c.members, Member{Node: fmt.Sprintf("n%d", i), Address: fmt.Sprintf("n%d", i)})
	}
	t.Cleanup(func() {
		for i := range c.groups {
			c.close(i)
		}
		for _, m := range c.muxes {
			m.Close()
		}
	})
	return c
}

// tcp starts the replicas over TCP.
func (c *cluster) tcp() *cluster {
	for i := range c.members {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			c.t.Fatal(err)
		}
		m := NewMux(l, c.dial, nil)
		c.muxes = append(c.muxes, m)
		c.members[i].Address = m.Addr()
	}
	for i := range c.members {
		c.open(i)
	}
	return c
}

func (c *cluster) open(i int) {
	c.t.Helper()
	if err := c.tryOpen(i); err != nil {
		c.t.Fatalf("open n%d: %v", i, err)
	}
}

func (c *cluster) tryOpen(i int) (err error) {
	if c.muxes != nil {
		c.groups[i], err = Open(c.config(i), c.muxes[i])
		return err
	}
	cfg := c.config(i).withDefaults()
	if c.openLog == nil {
		c.openLog = func(i int, dir string) Disk {
			w, err := openWAL(dir, 1<<20, nil, raftLogger(slog.New(slog.DiscardHandler)))
			if err != nil {
				c.t.Fatal(err)
			}
			return w
		}
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return err
	}
	g := newGroup(cfg)
	if err := g.start(c.openLog(i, filepath.Join(cfg.Dir, walFolder)), newTransport(unpiped{c.inmem[i]})); err != nil {
		return err
	}
	c.groups[i] = g
	return nil
}

// unpiped is raft's transport in memory without its pipeline, which has the
// fault that pipeline in stream.go keeps from ours: on a busy machine a follower
// would get no entries any more, and raft could not be stopped.
type unpiped struct{ *raft.InmemTransport }

// AppendEntriesPipeline makes raft send entries one by one.
func (unpiped) AppendEntriesPipeline(raft.ServerID, raft.ServerAddress) (raft.AppendPipeline, error) {
	return nil, raft.ErrPipelineReplicationNotSupported
}

// memory starts the replicas over transports in memory.
func (c *cluster) memory() *cluster {
	for i := range c.members {
		c.inmem = append(c.inmem, c.wire(i))
	}
	for i := range c.members {
		c.heal(i)
		c.open(i)
	}
	return c
}

func (c *cluster) wire(i int) *raft.InmemTransport {
	// For a snapshot it waits ten times as long, and who is closed waits with it.
	_, x := raft.NewInmemTransportWithTimeout(raft.ServerAddress(c.members[i].Address), shutdownTimeout/20)
	return x
}

func (c *cluster) link(a, b int, up bool) {
	to := raft.ServerAddress(c.members[b].Address)
	if up {
		c.inmem[a].Connect(to, c.inmem[b])
	} else {
		c.inmem[a].Disconnect(to)
	}
}

func (c *cluster) heal(i int) {
	for j := range c.inmem {
		if j != i {
			c.link(i, j, true)
			c.link(j, i, true)
		}
	}
}

func (c *cluster) cut(i int) {
	for j := range c.inmem {
		if j != i {
			c.link(i, j, false)
			c.link(j, i, false)
		}
	}
}

func (c *cluster) close(i int) {
	if g := c.groups[i]; g != nil {
		c.groups[i] = nil
		if err := g.Close(); err != nil {
			c.t.Errorf("close n%d: %v", i, err)
		}
	}
}

// reopen closes and opens a replica; in memory it needs a new transport.
func (c *cluster) reopen(i int) {
	c.t.Helper()
	c.close(i)
	if c.muxes == nil {
		c.inmem[i] = c.wire(i)
		c.heal(i)
	}
	c.open(i)
}

func (c *cluster) leader(not int) int {
	c.t.Helper()
	found := -1
	eventually(c.t, "a leader", func() bool { found = c.leads(not); return found >= 0 })
	return found
}

// elect makes a replica the leader without waiting for raft's timers.
func (c *cluster) elect(i int) {
	c.t.Helper()
	var stood time.Time
	eventually(c.t, fmt.Sprintf("n%d leads", i), func() bool {
		if c.leads(-1) == i {
			return true
		}
		if time.Since(stood) > 2*time.Second { // the others may not have been there the last time
			c.groups[i].stand()
			stood = time.Now()
		}
		return false
	})
}

// leads returns the replica that leads now, other than one; negative: none.
func (c *cluster) leads(not int) int {
	return slices.IndexFunc(c.groups, func(g *Group) bool {
		if g == nil || not >= 0 && g == c.groups[not] {
			return false
		}
		_, leads := g.Leader()
		return leads
	})
}

// push proposes commands to whoever leads until they are applied, the same
// bytes every time.
func (c *cluster) push(cmds [][]byte) {
	c.t.Helper()
	if err := c.tryPush(cmds); err != nil {
		c.t.Fatal(err)
	}
}

// tryPush is push for goroutines, which must not end the test.
func (c *cluster) tryPush(cmds [][]byte) error {
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	last := errors.New("nobody leads")
	for limit := time.Now().Add(patience); time.Now().Before(limit); <-tick.C {
		leader := c.leads(-1)
		if leader < 0 {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		results, err := c.groups[leader].Propose(ctx, cmds)
		cancel()
		if err != nil {
			last = err
			continue
		}
		for _, r := range results {
			if r.Err != nil {
				return fmt.Errorf("command refused: %w", r.Err)
			}
		}
		return nil
	}
	return fmt.Errorf("no push in %v: %w", patience, last)
}

// train pushes steps from..to of all lanes, lanes of a step at the same time.
func (c *cluster) train(from, to uint64, rows int) {
	c.t.Helper()
	if err := c.tryTrain(from, to, rows); err != nil {
		c.t.Fatal(err)
	}
}

// tryTrain is train for goroutines.
func (c *cluster) tryTrain(from, to uint64, rows int) error {
	for step := from; step <= to; step++ {
		done := make(chan error, testLanes)
		for lane := range uint16(testLanes) {
			go func() { done <- c.tryPush(laneChunks(step, lane, rows)) }()
		}
		for range testLanes {
			if err := <-done; err != nil {
				return fmt.Errorf("step %d: %w", step, err)
			}
		}
	}
	return nil
}

// settled waits until every replica has the version, and compares the hashes.
func (c *cluster) settled(version uint64, rows int) {
	c.t.Helper()
	want := twinHash(c.t, version, rows)
	for i, g := range c.groups {
		if g == nil {
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		err := g.Read(ctx, version, func(s *fsm.State) error {
			if d := cmp.Diff(want, s.Hash()); d != "" {
				return errors.New("another state than a state machine fed once:\n" + d)
			}
			return nil
		})
		cancel()
		if err != nil {
			c.t.Fatalf("n%d: %v", i, err)
		}
	}
}

var _ io.Closer = memDisk{}

const maxIndex = math.MaxUint64
