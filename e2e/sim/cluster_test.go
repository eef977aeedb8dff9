package sim

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"github.com/fathom-train/fathom/coordinator"
	"github.com/fathom-train/fathom/coordinator/client"
	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/fathom-train/fathom/coordinator/store"
	"github.com/fathom-train/fathom/proto"
	"github.com/fathom-train/fathom/ps"
	"github.com/fathom-train/fathom/ps/replica"
	"github.com/fathom-train/fathom/worker"
)

// Nodes that are not there from the beginning.
const (
	spareServer = "ps-3"
	spareWorker = "worker-2"
)

const (
	rolePS          = "ps"
	roleWorker      = "worker"
	roleCoordinator = "coordinator"
)

// leaseTime is how long the store believes in a coordinator that died.
const leaseTime = 2 * time.Second

// restartPause is what a supervisor waits before it starts a process again.
const restartPause = 200 * time.Millisecond

// cluster is the whole system in one bubble: the real servers, workers and
// coordinators on simulated time, network and disks.
type cluster struct {
	wrong   *verdict
	rng     *rand.Rand // of everything that is not planned
	net     *network
	memory  *store.Memory
	log     *slog.Logger
	scratch string // snapshots and tail files, the only real files
	calls   *calls
	change  func(*job.Job) // makes another job of the usual one; may be nil

	nodes []*node
	// ghosts are stopped processes on their way out.
	ghosts sync.WaitGroup
	// ctl is the operator's; asked are the wishes under way.
	ctl   *client.Control
	asked sync.WaitGroup
	// checkpoint is the newest that was made, if there is one.
	checkpoint atomic.Pointer[proto.CheckpointInfo]

	mu     sync.Mutex
	closed bool
}

// node is a place in the cluster; processes come and go on it.
type node struct {
	name, addr, role string
	spare            bool // it joins when a schedule says so
	flipped          bool // a bit of its log is damaged
	disk             *disk
	dir              string
	lives            int

	// mu guards what follows.
	mu   sync.Mutex
	proc *process // nil while it is down
	hung func()   // releases the disk
}

// process is one life of a node.
type process struct {
	host   *host
	cancel context.CancelFunc
	done   chan struct{}
	store  *storeClient // of a coordinator
}

// newCluster starts every node; stop must be called before the bubble ends.
func newCluster(wrong *verdict, rng *rand.Rand, scratch string, log *slog.Logger, known *truth) *cluster {
	c := &cluster{wrong: wrong, rng: rng, net: newNetwork(rng), memory: store.NewMemory(), log: log, scratch: scratch}
	c.calls = &calls{rng: rng, truth: known, wrong: wrong}
	for i, n := range []*node{
		{name: "c-0", role: roleCoordinator}, {name: "c-1", role: roleCoordinator},
		{name: "ps-0", role: rolePS}, {name: "ps-1", role: rolePS}, {name: "ps-2", role: rolePS},
		{name: "worker-0", role: roleWorker}, {name: "worker-1", role: roleWorker},
		{name: spareServer, role: rolePS, spare: true}, {name: spareWorker, role: roleWorker, spare: true},
	} {
		// An IP address, so that nobody asks a name server.
		n.addr = fmt.Sprintf("10.0.0.%d:7000", i+1)
		if n.role == rolePS {
			n.disk, n.dir = newDisk(), filepath.Join(scratch, n.name, "0")
		}
		c.nodes = append(c.nodes, n)
	}
	for _, n := range c.nodes {
		if !n.spare {
			c.start(n)
		}
	}
	return c
}

func (c *cluster) node(name string) *node {
	i := slices.IndexFunc(c.nodes, func(n *node) bool { return n.name == name })
	return c.nodes[i]
}

// checkpoints is where every process reaches them.
func (c *cluster) checkpoints() string { return filepath.Join(c.scratch, "checkpoints") }

func (c *cluster) names(role string) []string {
	var all []string
	for _, n := range c.nodes {
		if role == "" || n.role == role {
			all = append(all, n.name)
		}
	}
	return all
}

func (c *cluster) coordinators() []string {
	var all []string
	for _, n := range c.nodes {
		if n.role == roleCoordinator {
			all = append(all, n.addr)
		}
	}
	return all
}

// start runs a node's process. One that ends by itself is started again.
func (c *cluster) start(n *node) {
	n.mu.Lock()
	defer n.mu.Unlock()
	c.mu.Lock()
	closed := c.closed
	c.mu.Unlock()
	if n.proc != nil || closed {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &process{host: c.net.start(n.name, n.addr), cancel: cancel, done: make(chan struct{})}
	run, err := c.component(n, p)
	if err != nil {
		c.wrong.Errorf("start %s: %v", n.name, err)
		cancel()
		return
	}
	n.proc = p
	c.ghosts.Add(1)
	go func() {
		defer c.ghosts.Done()
		defer close(p.done)
		if err := run(ctx); err != nil && ctx.Err() == nil {
			c.log.Info("process ends by itself", "node", n.name, "error", err)
			c.ghosts.Go(func() {
				c.kill(n, false)
				<-time.After(restartPause)
				c.start(n)
			})
		}
	}()
}

// component builds what the node's process runs.
func (c *cluster) component(n *node, p *process) (run func(context.Context) error, err error) {
	log := c.log.With("on", n.name)
	options := []grpc.DialOption{
		grpc.WithNoProxy(),
		grpc.WithContextDialer(p.host.dial),
		grpc.WithReadBufferSize(4 << 10), grpc.WithWriteBufferSize(4 << 10),
	}
	switch n.role {
	case roleCoordinator:
		p.store = &storeClient{Store: c.memory.Open()}
		s, err := coordinator.New(coordinator.Config{Node: n.name, Advertise: n.addr, Store: p.store, Logger: log,
			Registerer: prometheus.NewRegistry(), Listener: p.host})
		if err != nil {
			return nil, err
		}
		return s.Run, nil
	case roleWorker:
		options = append(options, grpc.WithUnaryInterceptor(c.calls.unary(n.name)))
		a, err := worker.New(worker.Config{Node: n.name, Coordinators: c.coordinators(), Logger: log, DialOptions: options})
		if err != nil {
			return nil, err
		}
		return a.Run, nil
	}
	disk := n.disk
	options = append(options, grpc.WithStreamInterceptor(c.calls.reports))
	s, err := ps.New(ps.Config{
		Node: n.name, Listener: p.host, Advertise: n.addr, DataDir: n.dir, Coordinators: c.coordinators(), Logger: log,
		Dial: p.host.dial, DialOptions: options,
		SnapshotBytes: 6 << 10, DiskTimeout: 2 * time.Second, RetryAfter: time.Second,
		Tune: func(r *replica.Config) {
			r.Files, r.Wrap, r.SegmentBytes, r.CommitTimeout = disk, disk.wrap, 16<<10, 40*time.Millisecond
			r.OutstandingEntries = 16
		},
	})
	if err != nil {
		return nil, err
	}
	return s.Run, nil
}

// kill ends a node's process, or its whole machine; then writes that were not
// synced are lost. What it leaves on disk is what the next process finds.
func (c *cluster) kill(n *node, machine bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	p := n.proc
	if p == nil {
		return
	}
	n.proc = nil
	if machine {
		seen.add(crashMachine, 1)
	} else {
		seen.add(crashProcess, 1)
	}
	c.net.kill(p.host, machine)
	if n.role == rolePS {
		n.disk.gate.Lock()
		n.lives++
		dir := filepath.Join(c.scratch, n.name, fmt.Sprint(n.lives))
		if err := copyTree(dir, n.dir); err != nil {
			c.wrong.Errorf("copy the files of %s: %v", n.name, err)
		}
		after := n.disk.crashed(c.rng, machine, n.dir, dir)
		n.disk.gate.Unlock()
		if n.hung != nil {
			n.hung()
			n.hung = nil
		}
		// The ghost goes on with the old files.
		n.disk, n.dir = after, dir
	}
	if p.store != nil {
		p.store.die()
		c.ghosts.Go(func() {
			<-time.After(leaseTime)
			_ = p.store.Store.Close() // of memory: never fails
		})
	}
	p.cancel()
}

// stop ends everything, in good order.
func (c *cluster) stop() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	for _, n := range slices.Backward(c.nodes) {
		n.mu.Lock()
		if p := n.proc; p != nil {
			p.cancel()
			n.proc = nil
		}
		n.mu.Unlock()
	}
	c.ghosts.Wait()
	c.calls.wait()
	for _, n := range c.nodes {
		if n.dir != "" {
			if err := os.RemoveAll(filepath.Dir(n.dir)); err != nil {
				c.wrong.Errorf("%v", err)
			}
		}
	}
}

// control is a command line on a machine of its own.
func (c *cluster) control() (*client.Control, error) {
	h := c.net.start("cli", "10.0.0.100:1")
	return client.Dial(c.coordinators(), grpc.WithNoProxy(),
		grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) { return h.dial(ctx, addr) }))
}

// copyTree copies a directory that its owner may be changing.
func copyTree(to, from string) error {
	for range 100 {
		before, err := list(from)
		if err != nil {
			return err
		}
		if err := os.RemoveAll(to); err != nil {
			return err
		}
		err = os.CopyFS(to, os.DirFS(from))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		after, lerr := list(from)
		if err == nil && lerr == nil && slices.Equal(before, after) {
			return nil
		}
	}
	return errors.New("it never stands still")
}

func list(dir string) (all []string, err error) {
	err = filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		all = append(all, path)
		return err
	})
	return all, err
}

// storeClient is a coordinator's connection to the store, which dies with it.
type storeClient struct {
	store.Store
	dead atomic.Bool
	// failing are the writes that will fail.
	mu      sync.Mutex
	failing []failingWrite
}

// failingWrite is a write that fails, after having happened or not; then is
// called when it does.
type failingWrite struct {
	happens bool
	then    func()
}

var errUnreachable = errors.New("the store cannot be reached")

func (s *storeClient) die() { s.dead.Store(true) }

// failNext makes the next write fail.
func (s *storeClient) failNext(w failingWrite) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.failing = append(s.failing, w)
}

func (s *storeClient) Get(ctx context.Context, key string) (store.Entry, error) {
	if s.dead.Load() {
		return store.Entry{}, errUnreachable
	}
	return s.Store.Get(ctx, key)
}

func (s *storeClient) Range(ctx context.Context, prefix string) ([]store.Entry, error) {
	if s.dead.Load() {
		return nil, errUnreachable
	}
	return s.Store.Range(ctx, prefix)
}

func (s *storeClient) Campaign(ctx context.Context, election string, c store.Candidate) (store.Leadership, error) {
	if s.dead.Load() {
		return nil, errUnreachable
	}
	l, err := s.Store.Campaign(ctx, election, c)
	if err != nil {
		return nil, err
	}
	return &leadership{l, s}, nil
}

func (s *storeClient) Leader(ctx context.Context, election string) (store.Candidate, error) {
	if s.dead.Load() {
		return store.Candidate{}, errUnreachable
	}
	return s.Store.Leader(ctx, election)
}

type leadership struct {
	store.Leadership
	client *storeClient
}

func (l *leadership) Resign(ctx context.Context) error {
	if l.client.dead.Load() {
		return errUnreachable
	}
	return l.Leadership.Resign(ctx)
}

func (l *leadership) Write(ctx context.Context, ops ...store.Op) error {
	if l.client.dead.Load() {
		return errUnreachable
	}
	l.client.mu.Lock()
	var fails *failingWrite
	if len(l.client.failing) > 0 {
		fails, l.client.failing = &l.client.failing[0], l.client.failing[1:]
	}
	l.client.mu.Unlock()
	if fails == nil {
		return l.Leadership.Write(ctx, ops...)
	}
	seen.add(storeFailed, 1)
	if fails.happens {
		if err := l.Leadership.Write(ctx, ops...); err != nil {
			return err
		}
	}
	fails.then()
	return errUnreachable
}
