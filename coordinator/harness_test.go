package coordinator

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/test/bufconn"

	"github.com/fathom-train/fathom/compute/eval"
	"github.com/fathom-train/fathom/compute/model"
	"github.com/fathom-train/fathom/coordinator/client"
	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/fathom-train/fathom/coordinator/store"
	"github.com/fathom-train/fathom/proto"
)

// cluster is coordinators, servers and workers inside one synctest bubble: all
// time is virtual, all connections are in memory. Servers and workers are the
// real client sessions over simulated state.
type cluster struct {
	t      *testing.T
	memory *store.Memory
	log    *slog.Logger
	model  simModel

	mu        sync.Mutex
	listeners map[string]*bufconn.Listener
	stops     []func()
}

// stopAtEnd registers what stop must end at the end of the test.
func (c *cluster) stopAtEnd(stop func()) func() {
	stop = sync.OnceFunc(stop)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stops = append(c.stops, stop)
	return stop
}

// inBubble runs a test with a cluster in a bubble and cleans up before its end.
func inBubble(t *testing.T, f func(t *testing.T, c *cluster)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c := &cluster{t: t, memory: store.NewMemory(), listeners: map[string]*bufconn.Listener{}, log: slog.New(slog.DiscardHandler)}
		c.model.versions = map[uint32]uint64{}
		c.model.down, c.model.leads = map[string]bool{}, map[uint32]string{}
		c.model.lanes = map[[2]uint64]bool{}
		if testing.Verbose() {
			c.log = slog.New(slog.NewTextHandler(t.Output(), nil))
		}
		// Everything in a bubble must end before the bubble does.
		defer func() {
			for _, stop := range slices.Backward(c.stops) {
				stop()
			}
		}()
		f(t, c)
	})
}

// dial is the option that connects by the names of coordinators.
func (c *cluster) dial() grpc.DialOption {
	return grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
		c.mu.Lock()
		l := c.listeners[addr]
		c.mu.Unlock()
		if l == nil {
			return nil, fmt.Errorf("nothing listens at %s", addr)
		}
		return l.DialContext(ctx)
	})
}

func address(node string) string { return "passthrough:///" + node }

// coordinator starts a service; the returned function stops it.
func (c *cluster) coordinator(node string) (*Service, func()) {
	c.t.Helper()
	return c.coordinatorOn(node, c.memory.Open())
}

func (c *cluster) coordinatorOn(node string, on store.Store) (*Service, func()) {
	c.t.Helper()
	return c.coordinatorOf(Config{Node: node, Store: on, Logger: c.log})
}

func (c *cluster) coordinatorOf(cfg Config) (*Service, func()) {
	c.t.Helper()
	l := bufconn.Listen(1 << 20)
	node := cfg.Node
	cfg.Advertise, cfg.Registerer, cfg.Listener = address(node), prometheus.NewRegistry(), l
	s, err := New(cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	c.mu.Lock()
	c.listeners[node] = l
	c.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := s.Run(ctx); err != nil {
			c.t.Error(err)
		}
	}()
	return s, c.stopAtEnd(func() { cancel(); <-done })
}

func (c *cluster) control(nodes ...string) *client.Control {
	c.t.Helper()
	var addrs []string
	for _, n := range nodes {
		addrs = append(addrs, address(n))
	}
	ctl, err := client.Dial(addrs, c.dial())
	if err != nil {
		c.t.Fatal(err)
	}
	c.stopAtEnd(func() { ctl.Close() })
	return ctl
}

// simModel is the shards' state: how many steps they applied. Replicas are
// always up to date, unless a server says otherwise.
type simModel struct {
	mu        sync.Mutex
	run       uint64 // of the groups' generation
	base      uint64 // version of shards that have no entry below
	lanesAll  int
	versions  map[uint32]uint64
	lanes     map[[2]uint64]bool // (step, lane) pushed
	pushes    int
	down      map[string]bool   // servers
	leads     map[uint32]string // by shard
	favourite string            // wins elections
}

// push is one lane of one step, to all shards; it reports the step the shards
// have reached.
func (m *simModel) push(run, step, lane uint64, shards []*proto.ShardRoute) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.run != run {
		return // of a generation that has ended
	}
	m.pushes++
	m.lanes[[2]uint64{step, lane}] = true
	for l := range m.lanesAll {
		if !m.lanes[[2]uint64{step, uint64(l)}] {
			return
		}
	}
	for _, s := range shards {
		m.versions[s.GetShard()] = max(m.versions[s.GetShard()], step)
	}
}

func (m *simModel) version(shard uint32) uint64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return max(m.base, m.versions[shard])
}

// reshape forms the tables anew, which counts as a version; 0: not yet.
func (m *simModel) reshape(base uint64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.base = max(m.base, base)
}

// begin resets the state for a new generation, which may begin from a checkpoint.
func (m *simModel) begin(run uint64, lanes int, from *proto.RestoreSource) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.run != run {
		m.run, m.lanesAll, m.base, m.versions, m.lanes = run, lanes, from.GetStep(), map[uint32]uint64{}, map[[2]uint64]bool{}
	}
}

// simNode is a server or a worker.
type simNode struct {
	cluster *cluster
	session *client.Session
	name    string
	report  func(*proto.NodeReport)
	stop    func()

	mu          sync.Mutex
	incarnation uint64
	cpu         float64
	order       *proto.NodeOrder
	orders      []*proto.NodeOrder // all, in order
	changed     chan struct{}      // closed and replaced with every order
	hung        chan struct{}      // if not nil, reports wait until it is closed
}

// hang makes the node silent, though connected, until release is called.
func (n *simNode) hang() (release func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	hung := make(chan struct{})
	n.hung = hung
	return func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.hung = nil
		close(hung)
	}
}

var incarnations atomic.Uint64 // grows over all nodes of the test binary

func (c *cluster) node(role, name string, coordinators []string, report func(*proto.NodeReport), work func(ctx context.Context, n *simNode)) *simNode {
	var addrs []string
	for _, a := range coordinators {
		addrs = append(addrs, address(a))
	}
	n := &simNode{cluster: c, name: name, report: report, incarnation: incarnations.Add(1), changed: make(chan struct{}),
		session: client.NewSession(addrs, c.log, c.dial())}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		n.session.Run(ctx, func() *proto.NodeReport {
			n.mu.Lock()
			hung := n.hung
			n.mu.Unlock()
			if hung != nil {
				<-hung
			}
			n.mu.Lock()
			defer n.mu.Unlock()
			n.cpu += 0.25
			r := &proto.NodeReport{Node: name, Role: role, Incarnation: n.incarnation, CpuSeconds: n.cpu, OrderRevision: n.order.GetRevision()}
			if role == rolePS {
				r.Address = name + ":7000"
			}
			n.report(r)
			return r
		}, func(o *proto.NodeOrder) {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.order = o
			n.orders = append(n.orders, o)
			close(n.changed)
			n.changed = make(chan struct{})
		})
	})
	if work != nil {
		wg.Go(func() { work(ctx, n) })
	}
	n.stop = c.stopAtEnd(func() { cancel(); wg.Wait() })
	return n
}

// current returns the newest order and what tells of the next.
func (n *simNode) current() (*proto.NodeOrder, <-chan struct{}) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.order, n.changed
}

// server is a parameter server that has formed whatever it is ordered to host.
// alter, if not nil, changes each of its group reports.
func (c *cluster) server(name string, alter func(*proto.GroupReport), coordinators ...string) *simNode {
	var n *simNode
	seen := simCheckpoints{}
	report := func(r *proto.NodeReport) {
		r.Pool = poolOf(name)
		for _, g := range n.order.GetGroups() {
			c.model.begin(g.GetSchema().GetRun(), int(g.GetSchema().GetLanes()), g.GetRestore())
			c.model.reshape(g.GetSchema().GetBase())
			v := c.model.version(g.GetShard())
			leader, voters, learners := c.model.follow(g)
			gr := &proto.GroupReport{Job: g.GetJob(), Shard: g.GetShard(), Configured: true, HasData: true,
				Leader: leader == name, LeaderNode: leader, Version: v, AppliedIndex: 10 + v, Replica: g.GetReplica(),
				Voters: voters, Learners: learners,
				Hash: simHash(g.GetShard(), v), Tables: []*proto.TableStatus{{Name: "linear", Rows: 10, Parameters: 10, Bytes: 40, StateBytes: 80}}}
			gr.Checkpoint = seen.checkpoint(g, v)
			if alter != nil {
				alter(gr)
			}
			r.Groups = append(r.Groups, gr)
		}
	}
	ready := make(chan struct{})
	n = c.node(rolePS, name, coordinators, func(r *proto.NodeReport) { <-ready; report(r) }, nil)
	c.model.up(name, true)
	stop := n.stop
	n.stop = func() { c.model.up(name, false); stop() }
	close(ready)
	return n
}

// poolOf is the pool of a simulated server by its name: ps-N is in none, ps-POOL-N
// in POOL.
func poolOf(name string) string {
	parts := strings.Split(name, "-")
	return strings.Join(parts[1:len(parts)-1], "-")
}

// follow makes of a group what an order says, as far as raft would by now, and
// returns its leader and members. Learners catch up at once.
func (m *simModel) follow(o *proto.GroupOrder) (leader string, voters, learners []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	order := o.GetMembers()
	var candidates []string
	learns := slices.ContainsFunc(order, func(x *proto.Member) bool { return x.GetRole() == proto.Role_ROLE_LEARNER })
	for _, x := range order {
		id := member{Node: x.GetNode(), Replica: x.GetReplica()}.id()
		switch x.GetRole() {
		case proto.Role_ROLE_LEARNER:
			learners = append(learners, id)
			continue
		case proto.Role_ROLE_LEAVING, proto.Role_ROLE_LOST:
			if !learns {
				continue // gone by now
			}
		}
		voters = append(voters, id)
		if x.GetRole() == proto.Role_ROLE_LOST || m.down[x.GetNode()] {
			continue
		}
		candidates = append(candidates, x.GetNode())
	}
	// A leader stays until it goes or is told to hand over.
	leader = m.leads[o.GetShard()]
	if slices.Contains(candidates, o.GetLeader()) {
		leader = o.GetLeader()
	}
	if !slices.Contains(candidates, leader) && len(candidates) > 0 {
		leader = candidates[0]
		if slices.Contains(candidates, m.favourite) {
			leader = m.favourite
		}
	}
	m.leads[o.GetShard()] = leader
	slices.Sort(voters)
	slices.Sort(learners)
	return leader, voters, learners
}

func (m *simModel) lead(node string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.favourite, m.leads = node, map[uint32]string{}
}

func (m *simModel) up(node string, up bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.down[node] = !up
}

// simCheckpoints is what a server has done about the checkpoints it was ordered,
// by attempt and shard. It looks at its version only when it reports, so it has to
// be told of a step well before.
type simCheckpoints map[string]*proto.CheckpointReport

func (s simCheckpoints) checkpoint(g *proto.GroupOrder, version uint64) *proto.CheckpointReport {
	o := g.GetCheckpoint()
	if o == nil {
		return nil
	}
	key := fmt.Sprint(o.GetId(), "/", g.GetShard())
	if _, known := s[key]; !known {
		s[key] = nil
		if version > o.GetStep() {
			s[key] = &proto.CheckpointReport{Id: o.GetId(), Missed: true}
		}
	}
	if s[key] == nil && version >= o.GetStep() {
		parts := [][]byte{simHash(g.GetShard(), o.GetStep())}
		for range g.GetSchema().GetTables() {
			parts = append(parts, make([]byte, hashBytes))
		}
		s[key] = &proto.CheckpointReport{Id: o.GetId(), File: &proto.CheckpointFile{Name: fmt.Sprintf("shard-%d-%s", g.GetShard(), o.GetId()),
			Bytes: 10, Sha256: make([]byte, 32), Rows: 1, Parts: parts}}
	}
	return s[key]
}

func simHash(shard uint32, version uint64) []byte {
	h := make([]byte, hashBytes)
	binary.LittleEndian.PutUint64(h, uint64(shard)+1)
	binary.LittleEndian.PutUint64(h[8:], version)
	return h
}

// simWorker is the behaviour of a worker.
type simWorker struct {
	digest  string
	fail    *proto.Failure // reported with the data
	stepMs  int            // virtual milliseconds of one step
	stuck   bool           // never does anything after inspecting
	stopAt  uint64         // trains no step from this one on; 0: all
	scores  float32        // of every sample
	blocked bool           // never delivers evaluation blocks
	loss    float64        // of every sample of a lane and step; default 0.5
	// Splits of the data: none has rows, only train has; default: all have.
	empty, trainOnly bool
}

const (
	simTrainRows = 1000
	simTestRows  = 5*job.EvaluationBlockRows - 100
	simValidRows = 100
)

func (c *cluster) worker(name string, w simWorker, coordinators ...string) *simNode {
	if w.stepMs == 0 {
		w.stepMs = 20
	}
	if w.loss == 0 {
		w.loss = 0.5
	}
	if w.scores == 0 {
		w.scores = 0.25
	}
	var n *simNode
	losses := map[uint32]*proto.LaneReport{}
	var mu sync.Mutex
	ready := make(chan struct{})
	report := func(r *proto.NodeReport) {
		<-ready
		o := n.order.GetWorker()
		r.Worker = &proto.WorkerReport{Job: o.GetJob()}
		if o.GetJob() == "" {
			return
		}
		r.Worker.Data = &proto.DataReport{Digest: w.digest, TeacherAuc: 0.75, Splits: []*proto.SplitInfo{
			{Split: "train", Rows: simTrainRows, Positives: 0.25}, {Split: "valid", Rows: simValidRows}, {Split: "test", Rows: simTestRows}}}
		switch {
		case w.empty:
			r.Worker.Data.Splits = nil
		case w.trainOnly:
			r.Worker.Data.Splits = r.Worker.Data.Splits[:1]
		}
		r.Worker.Failure = w.fail
		mu.Lock()
		defer mu.Unlock()
		for _, l := range losses {
			r.Worker.Lanes = append(r.Worker.Lanes, &proto.LaneReport{Lane: l.Lane, Step: l.Step, LossSum: l.LossSum, Samples: l.Samples})
		}
	}
	work := func(ctx context.Context, n *simNode) {
		for ctx.Err() == nil {
			order, changed := n.current()
			if o := order.GetWorker(); !w.stuck {
				switch o.GetTask() {
				case proto.Task_TASK_TRAIN:
					if w.train(ctx, c, o, losses, &mu) {
						n.session.Poke()
						continue
					}
				case proto.Task_TASK_EVALUATE, proto.Task_TASK_SCORE, proto.Task_TASK_SURVEY:
					if !w.blocked {
						w.evaluate(ctx, n, o, changed)
					}
				}
			}
			n.session.Poke()
			select {
			case <-changed:
			case <-ctx.Done():
			case <-time.After(50 * time.Millisecond): // as other workers' lanes move on
			}
		}
	}
	n = c.node(roleWorker, name, coordinators, report, work)
	close(ready)
	return n
}

// train does the next step of the ordered lanes; false: nothing is to be done.
func (w simWorker) train(ctx context.Context, c *cluster, o *proto.WorkerOrder, losses map[uint32]*proto.LaneReport, mu *sync.Mutex) bool {
	step := c.model.version(0) + 1
	if w.stopAt > 0 && step >= w.stopAt {
		return false
	}
	if step > o.GetLastStep() || len(o.GetLanes()) == 0 {
		return false
	}
	select {
	case <-time.After(time.Duration(w.stepMs) * time.Millisecond):
	case <-ctx.Done():
		return false
	}
	for _, lane := range o.GetLanes() {
		c.model.push(o.GetRun(), step, uint64(lane), o.GetRoutes())
		mu.Lock()
		l := losses[lane]
		if l == nil {
			l = &proto.LaneReport{Lane: lane}
			losses[lane] = l
		}
		l.Step, l.LossSum, l.Samples = step, l.LossSum+25*w.loss, l.Samples+25
		mu.Unlock()
	}
	return c.model.version(0) >= step // else wait for the other lanes
}

func (w simWorker) evaluate(ctx context.Context, n *simNode, o *proto.WorkerOrder, changed <-chan struct{}) {
	rows := map[string]int64{"valid": simValidRows, "test": simTestRows}[o.GetSplit()]
	for _, block := range o.GetBlocks() {
		select {
		case <-changed:
			return
		case <-time.After(5 * time.Millisecond):
		}
		b := &proto.EvaluationBlock{Job: o.GetJob(), Run: o.GetRun(), Epoch: o.GetEpoch(), Version: o.GetVersion(), Split: o.GetSplit(), Block: block, Round: o.GetRound()}
		size := min(job.EvaluationBlockRows, rows-int64(block)*job.EvaluationBlockRows)
		switch o.GetTask() {
		case proto.Task_TASK_SURVEY:
			b.Survey = surveyShard(o)
		case proto.Task_TASK_SCORE:
			b.Candidates = scoreCandidates(o, int(size))
		default:
			b.Scores = w.scoreBlock(int(size))
		}
		if n.session.ReportEvaluation(ctx, b) != nil {
			return
		}
	}
}

// scoreBlock gives every sample the same score.
func (w simWorker) scoreBlock(size int) []byte {
	scores, labels := make([]float32, size), make([]float32, size)
	for i := range scores {
		scores[i], labels[i] = w.scores, float32(i%2)
	}
	var a eval.Accumulator
	a.Add(scores, labels, nil)
	return a.Append(nil)
}

// spec is a small job: 10 steps per epoch, 4 lanes, 3 servers, 2 shards.
func spec(t *testing.T, name string, change func(*job.Job)) []byte {
	t.Helper()
	j := job.Job{APIVersion: job.APIVersion, Kind: job.Kind, Metadata: job.Metadata{Name: name}, Spec: job.Spec{
		Data:    job.Data{Format: "synthetic", Synthetic: &job.Synthetic{TrainRows: simTrainRows, ValidRows: simValidRows, TestRows: simTestRows, Seed: 1}},
		Model:   model.Spec{Name: "lr"},
		Train:   job.Train{Epochs: 2, BatchSize: 100, Lanes: 4, Seed: 7},
		Cluster: job.Cluster{Workers: 2, PS: 3, Replicas: 3, Shards: 2},
	}}
	if change != nil {
		change(&j)
	}
	j = j.WithDefaults()
	if err := j.Validate(); err != nil {
		t.Fatal(err)
	}
	return j.JSON()
}

// submit submits and fails the test on error.
func submit(t *testing.T, ctl *client.Control, spec []byte) string {
	t.Helper()
	name, err := ctl.Submit(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// await watches a job until the condition holds and returns that status.
func await(t *testing.T, ctl *client.Control, name string, until func(*proto.JobStatus) bool) *proto.JobStatus {
	t.Helper()
	var got *proto.JobStatus
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute) // virtual
	defer cancel()
	err := ctl.Watch(ctx, name, func(s *proto.JobStatus) error {
		got = s
		if until(s) {
			return errFound
		}
		return nil
	})
	if err != nil && err != errFound {
		t.Fatalf("watch %s: %v; last %v", name, err, got)
	}
	if !until(got) {
		t.Fatalf("job %s ended otherwise: %v", name, got)
	}
	return got
}

var errFound = fmt.Errorf("found")

func inPhase(p proto.Phase) func(*proto.JobStatus) bool {
	return func(s *proto.JobStatus) bool { return s.GetPhase() == p }
}

// checkRevisions fails when a node was given revisions that do not grow.
func (n *simNode) checkRevisions(t *testing.T) {
	t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	for i := 1; i < len(n.orders); i++ {
		if n.orders[i].GetRevision() <= n.orders[i-1].GetRevision() {
			t.Errorf("%s was given order %d after %d", n.name, n.orders[i].GetRevision(), n.orders[i-1].GetRevision())
		}
	}
}
