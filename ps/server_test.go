package ps

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	pb "google.golang.org/protobuf/proto"

	"github.com/fathom-train/fathom/compute/optim"
	"github.com/fathom-train/fathom/proto"
	"github.com/fathom-train/fathom/ps/frame"
	"github.com/fathom-train/fathom/ps/fsm"
	"github.com/fathom-train/fathom/ps/wire"
	"github.com/fathom-train/fathom/shard"
)

const (
	testJob   = "ctr"
	testRun   = 0x51
	testLanes = 2
	testWidth = 4
)

// fakeSession is a coordinator session without a coordinator.
type fakeSession struct {
	poked chan struct{}
	ready chan struct{}

	mu     sync.Mutex
	report func() *proto.NodeReport
	obey   func(*proto.NodeOrder)
	down   bool
}

func newFakeSession() *fakeSession {
	return &fakeSession{poked: make(chan struct{}, 1), ready: make(chan struct{})}
}

func (f *fakeSession) Run(ctx context.Context, report func() *proto.NodeReport, obey func(*proto.NodeOrder)) error {
	f.report, f.obey = report, obey
	close(f.ready)
	beat := time.NewTicker(50 * time.Millisecond)
	defer beat.Stop()
	for {
		select {
		case <-beat.C:
			f.mu.Lock()
			down := f.down
			f.mu.Unlock()
			if !down {
				report()
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (f *fakeSession) Poke() {
	select {
	case f.poked <- struct{}{}:
	default:
	}
}

// node is one running server.
type node struct {
	t       *testing.T
	server  *Server
	session *fakeSession
	client  proto.ParameterServerClient
	stop    func() error
}

func run(t *testing.T, cfg Config) *node {
	t.Helper()
	if cfg.Listen == "" {
		cfg.Listen = "127.0.0.1:0"
	}
	cfg.Coordinators = []string{"none"}
	cfg.Heartbeat = 300 * time.Millisecond
	if cfg.PullWait == 0 {
		cfg.PullWait = 5 * time.Second
	}
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	n := &node{t: t, server: s, session: newFakeSession()}
	s.session = n.session
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	<-n.session.ready
	conn, err := grpc.NewClient(s.Addr(), grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(frame.Codec{}), grpc.MaxCallRecvMsgSize(frame.MaxMessage)))
	if err != nil {
		t.Fatal(err)
	}
	n.client = proto.NewParameterServerClient(conn)
	n.stop = sync.OnceValue(func() error {
		conn.Close()
		cancel()
		return <-done
	})
	t.Cleanup(func() {
		if err := n.stop(); err != nil {
			t.Errorf("stop %s: %v", cfg.Node, err)
		}
	})
	return n
}

// runCluster runs n servers, which know each other's addresses.
func runCluster(t *testing.T, n int) (nodes []*node, members []*proto.Member) {
	for i := range n {
		name := fmt.Sprintf("ps-%d", i)
		nodes = append(nodes, run(t, Config{Node: name, DataDir: t.TempDir()}))
		members = append(members, &proto.Member{Node: name, Address: nodes[i].server.Addr()})
	}
	return nodes, members
}

// obey gives the server a copy of its own, as it gets from the network: tests
// change their members while it reads.
func (n *node) obey(revision uint64, groups ...*proto.GroupOrder) {
	n.session.obey(pb.CloneOf(&proto.NodeOrder{Revision: revision, Groups: groups}))
}

func (n *node) report() *proto.NodeReport { return n.session.report() }

// group returns what the server reports of a shard, or an empty report.
func (n *node) group(shard uint32) *proto.GroupReport {
	for _, g := range n.report().Groups {
		if g.Shard == shard {
			return g
		}
	}
	return &proto.GroupReport{}
}

func order(shard uint32, bootstrap bool, members ...*proto.Member) *proto.GroupOrder {
	optimizer, err := json.Marshal(optim.Config{Name: "sgd", LearningRate: 0.5})
	if err != nil {
		panic(err)
	}
	return &proto.GroupOrder{
		Job: testJob, Shard: shard, KeyHi: 1<<64 - 1, Members: members, Bootstrap: bootstrap,
		Schema: &proto.Schema{
			Job: testJob, Run: testRun, Seed: 3, Lanes: testLanes, PreImages: 1,
			Tables: []*proto.Table{{Name: "rows", Columns: []*proto.Column{{
				Name: "embedding", Width: testWidth, Init: &proto.Init{Kind: "normal", Scale: 0.1}, Optimizer: optimizer,
			}}}},
			Dense: []*proto.DenseTensor{{Name: "bias", Size: 3, Init: &proto.Init{}, Optimizer: optimizer}},
		},
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	limit := time.After(2 * time.Minute)
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("not within two minutes: %s", what)
		}
	}
}

func leaderOf(t *testing.T, nodes []*node, shard uint32) int {
	t.Helper()
	at := -1
	eventually(t, "a configured leader", func() bool {
		for i, n := range nodes {
			if g := n.group(shard); g.Leader && g.Configured {
				at = i
				return true
			}
		}
		return false
	})
	return at
}

func pushBody(shardID uint32, step uint64, lane uint16) []byte {
	b := wire.NewPush(wire.PushID{Factor: 1, Run: testRun, Step: step, Lane: lane})
	b.Rows(0, testWidth, []shard.Key{5, 9}, []uint32{1, 1}, []float32{1, 2, 3, 4, 5, 6, 7, 8})
	b.Dense(0, []float32{1, 2, 3})
	return wire.AppendPushBody(nil, wire.PushHeader{Run: testRun, Shard: shardID}, b.Chunks())
}

func pullBody(shardID uint32, version uint64) []byte {
	r := wire.PullRequest{Run: testRun, Shard: shardID, Version: version,
		Tables: []wire.TableKeys{{Table: 0, Keys: []shard.Key{5, 9, 77}}}, Dense: []uint16{0}}
	return r.Append(nil)
}

// push sends a push until it is acknowledged.
func push(t *testing.T, nodes []*node, shardID uint32, step uint64, lane uint16) {
	t.Helper()
	eventually(t, fmt.Sprintf("push of step %d lane %d", step, lane), func() bool {
		n := nodes[leaderOf(t, nodes, shardID)]
		_, err := n.client.Push(t.Context(), &proto.Frame{Body: pushBody(shardID, step, lane)})
		return err == nil
	})
}

func reasonOf(err error) *proto.Refusal {
	for _, d := range status.Convert(err).Details() {
		if r, ok := d.(*proto.Refusal); ok {
			return r
		}
	}
	return nil
}

func wantReason(t *testing.T, what string, err error, want proto.Reason) *proto.Refusal {
	t.Helper()
	r := reasonOf(err)
	if r == nil || r.Reason != want {
		t.Errorf("%s: error %v with detail %v, want %v", what, err, r, want)
		return &proto.Refusal{}
	}
	return r
}

func TestClusterServesPushesAndPulls(t *testing.T) {
	t.Parallel()
	nodes, members := runCluster(t, 3)
	for i, n := range nodes {
		o := order(0, true, members...)
		o.NotifyVersion = 2
		n.obey(uint64(10+i), o)
	}
	leader := leaderOf(t, nodes, 0)
	for step := uint64(1); step <= 2; step++ {
		for lane := range uint16(testLanes) {
			push(t, nodes, 0, step, lane)
		}
	}
	var first []float32
	for i, n := range nodes {
		reply, err := n.client.Pull(t.Context(), &proto.Frame{Body: pullBody(0, 2)})
		if err != nil {
			t.Fatalf("pull from ps-%d: %v", i, err)
		}
		version, values, err := wire.ParsePullReply(reply.Body)
		if err != nil || version != 2 || len(values) != 3*testWidth+3 {
			t.Fatalf("reply: version %d, %d floats, %v", version, len(values), err)
		}
		if i == 0 {
			first = values
		} else if d := cmp.Diff(first, values); d != "" {
			t.Errorf("ps-%d answers other values:\n%s", i, d)
		}
	}
	if got := first[3*testWidth:]; !cmp.Equal(got, []float32{-2, -4, -6}) {
		t.Errorf("dense tensor after two steps of two lanes: %v", got)
	}
	for i, n := range nodes {
		g := n.group(0)
		if g.Version != 2 || !g.HasData || len(g.Hash) != 16 || g.Error != "" || len(g.Tables) != 2 || g.AppliedIndex == 0 {
			t.Errorf("report of ps-%d: %v", i, g)
		}
		if r := n.report(); r.Node != members[i].Node || r.Address != members[i].Address || r.OrderRevision != uint64(10+i) || r.CpuSeconds <= 0 {
			t.Errorf("report of ps-%d: %v", i, r)
		}
	}

	n := nodes[leader]
	if _, err := n.client.Push(t.Context(), &proto.Frame{Body: pushBody(0, 1, 0)}); err != nil {
		t.Errorf("copy of an old push: %v", err)
	}
	// On a busy machine the leadership may move at any time.
	var err error
	eventually(t, "the leader's judgement of step 9 at version 2", func() bool {
		_, err = nodes[leaderOf(t, nodes, 0)].client.Push(t.Context(), &proto.Frame{Body: pushBody(0, 9, 0)})
		return reasonOf(err).GetReason() != proto.Reason_REASON_NOT_LEADER
	})
	wantReason(t, "push of step 9 at version 2", err, proto.Reason_REASON_STEP_AHEAD)
	eventually(t, "a follower that names the leader", func() bool {
		leader = leaderOf(t, nodes, 0)
		_, err := nodes[(leader+1)%3].client.Push(t.Context(), &proto.Frame{Body: pushBody(0, 3, 0)})
		r := reasonOf(err)
		return r.GetReason() == proto.Reason_REASON_NOT_LEADER && r.GetLeaderNode() == members[leader].Node
	})
	_, err = n.client.Pull(t.Context(), &proto.Frame{Body: pullBody(0, 0)})
	if r := wantReason(t, "pull of version 0", err, proto.Reason_REASON_VERSION_GONE); r.Version != 2 {
		t.Errorf("refusal says version %d", r.Version)
	}
	_, err = n.client.Pull(t.Context(), &proto.Frame{Body: pullBody(7, 0)})
	wantReason(t, "pull of another shard", err, proto.Reason_REASON_WRONG_SHARD)
	_, err = n.client.Pull(t.Context(), &proto.Frame{Body: []byte("nonsense")})
	wantReason(t, "nonsense pull", err, proto.Reason_REASON_INVALID)
	_, err = n.client.Push(t.Context(), &proto.Frame{Body: []byte("nonsense")})
	wantReason(t, "nonsense push", err, proto.Reason_REASON_INVALID)
	bad := pushBody(0, 3, 0)
	bad[len(bad)-9] ^= 1
	_, err = n.client.Push(t.Context(), &proto.Frame{Body: bad})
	wantReason(t, "damaged push", err, proto.Reason_REASON_INVALID)

	eventually(t, "the status of the shard", func() bool {
		st, err := n.client.ShardStatus(t.Context(), &proto.ShardStatusRequest{Job: testJob})
		return err == nil && st.Version == 2 && st.Configured && st.LeaderNode == members[leaderOf(t, nodes, 0)].Node
	})
	_, err = n.client.ShardStatus(t.Context(), &proto.ShardStatusRequest{Job: "other"})
	wantReason(t, "status of another job", err, proto.Reason_REASON_WRONG_SHARD)
}

// TestPushesAreRefusedWhileTooManyWait: they are held in memory until they are
// committed.
func TestPushesAreRefusedWhileTooManyWait(t *testing.T) {
	t.Parallel()
	const limit = 1000
	n := run(t, Config{Node: "ps-0", DataDir: t.TempDir(), InFlightBytes: limit})
	member := &proto.Member{Node: "ps-0", Address: n.server.Addr()}
	n.obey(1, order(0, true, member))
	leaderOf(t, []*node{n}, 0)
	if !n.server.pushBytes.TryAcquire(limit) { // as much as waits
		t.Fatal("pushes are under way")
	}
	_, err := n.client.Push(t.Context(), &proto.Frame{Body: pushBody(0, 1, 0)})
	wantReason(t, "push beside those that wait", err, proto.Reason_REASON_OVERLOADED)
	n.server.pushBytes.Release(limit)
	push(t, []*node{n}, 0, 1, 0)
}

func TestPullOfALaterVersionWaits(t *testing.T) {
	t.Parallel()
	n := run(t, Config{Node: "ps-0", DataDir: t.TempDir(), PullWait: 300 * time.Millisecond})
	n.obey(1, order(0, true, &proto.Member{Node: "ps-0", Address: n.server.Addr()}))
	nodes := []*node{n}
	leaderOf(t, nodes, 0)
	_, err := n.client.Pull(t.Context(), &proto.Frame{Body: pullBody(0, 1)})
	wantReason(t, "pull of a version that does not come", err, proto.Reason_REASON_NOT_READY)
	n.server.cfg.PullWait = 10 * time.Second
	pulled := make(chan error, 1)
	go func() {
		_, err := n.client.Pull(t.Context(), &proto.Frame{Body: pullBody(0, 1)})
		pulled <- err
	}()
	push(t, nodes, 0, 1, 0)
	push(t, nodes, 0, 1, 1)
	if err := <-pulled; err != nil {
		t.Errorf("pull of a version that comes: %v", err)
	}
}

func TestRestartedServerOpensWhatItIsToldTo(t *testing.T) {
	t.Parallel()
	dir, reg := t.TempDir(), prometheus.NewRegistry()
	n := run(t, Config{Node: "ps-0", DataDir: dir, Registerer: reg})
	o := order(4, true, &proto.Member{Node: "ps-0", Address: n.server.Addr()})
	n.obey(1, o)
	push(t, []*node{n}, 4, 1, 0)
	push(t, []*node{n}, 4, 1, 1)
	before := n.group(4)
	if families, err := reg.Gather(); err != nil || len(families) < 20 {
		t.Errorf("%d metrics, %v", len(families), err)
	}
	if _, err := New(Config{Node: "ps-9", Listen: "127.0.0.1:0", DataDir: dir, Coordinators: []string{"x"}}); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("second server on the directory: %v", err)
	}
	if _, err := New(Config{Node: "ps-9", Listen: n.server.Addr(), DataDir: t.TempDir(), Coordinators: []string{"x"}}); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("second server on the port: %v", err)
	}
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	n = run(t, Config{Node: "ps-0", DataDir: dir})
	o = order(4, false, &proto.Member{Node: "ps-0", Address: n.server.Addr()}) // another port
	if len(n.report().Groups) != 0 {
		t.Error("the server opened a group before it was told to")
	}
	n.obey(2, o)
	leaderOf(t, []*node{n}, 4)
	after := n.group(4)
	if d := cmp.Diff(before.Hash, after.Hash); d != "" || after.Version != 1 {
		t.Errorf("version %d, hash:\n%s", after.Version, d)
	}
}

func TestDataIsDeletedOnlyByAStandingSessionsOrder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	n := run(t, Config{Node: "ps-0", DataDir: dir, DeleteAfter: 10 * time.Millisecond})
	member := &proto.Member{Node: "ps-0", Address: n.server.Addr()}
	keep, drop := order(0, true, member), order(1, true, member)
	stranger := filepath.Join(dir, groupsFolder, "stranger", "file")
	if err := os.MkdirAll(filepath.Dir(stranger), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(stranger, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	n.obey(1, keep, drop)
	leaderOf(t, []*node{n}, 0)
	leaderOf(t, []*node{n}, 1)
	exists := func(o *proto.GroupOrder) bool {
		_, err := os.Stat(filepath.Join(dir, groupsFolder, filepath.FromSlash(folderOf(o))))
		return err == nil
	}
	n.session.mu.Lock()
	n.session.down = true
	n.session.mu.Unlock()
	s := n.server
	s.mu.Lock()
	s.reported = time.Time{}
	s.mu.Unlock()
	absent := map[string]time.Time{}
	s.deleteUnwanted(&proto.NodeOrder{}, absent, time.Now())
	s.deleteUnwanted(&proto.NodeOrder{}, absent, time.Now().Add(time.Hour))
	if !exists(keep) || !exists(drop) {
		t.Fatal("data was deleted while the session was down")
	}
	n.session.mu.Lock()
	n.session.down = false
	n.session.mu.Unlock()
	n.obey(2, keep)
	eventually(t, "the group nobody wants is deleted", func() bool { return !exists(drop) })
	if !exists(keep) {
		t.Error("the wanted group was deleted as well")
	}
	if _, err := os.Stat(stranger); err != nil {
		t.Errorf("a file of somebody else is gone: %v", err)
	}
	if g := n.group(1); g.Job != "" {
		t.Errorf("the closed group is still reported: %v", g)
	}
	_, err := n.client.Pull(t.Context(), &proto.Frame{Body: pullBody(1, 0)})
	wantReason(t, "pull of a closed group", err, proto.Reason_REASON_WRONG_SHARD)
}

func TestGroupThatCannotBeOpenedIsReportedAndTheOthersGoOn(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	n := run(t, Config{Node: "ps-0", DataDir: dir, RetryAfter: time.Millisecond})
	member := &proto.Member{Node: "ps-0", Address: n.server.Addr()}
	empty, nonsense := order(1, false, member), order(2, true, member)
	nonsense.Schema.Tables[0].Columns[0].Optimizer = []byte(`{"name":"sgd","speed":9}`)
	n.obey(1, order(0, true, member), empty, nonsense)
	leaderOf(t, []*node{n}, 0)
	eventually(t, "the errors are reported", func() bool { return n.group(1).Error != "" && n.group(2).Error != "" })
	if g := n.group(1); !strings.Contains(g.Error, "no data") || g.HasData {
		t.Errorf("empty directory: %v", g)
	}
	if g := n.group(2); !strings.Contains(g.Error, "speed") {
		t.Errorf("bad schema: %v", g)
	}
	_, err := n.client.Push(t.Context(), &proto.Frame{Body: pushBody(1, 1, 0)})
	wantReason(t, "push to a group out of service", err, proto.Reason_REASON_WRONG_SHARD)
	// The coordinator may allow it to be formed after all.
	n.obey(2, order(0, true, member), order(1, true, member))
	leaderOf(t, []*node{n}, 1)

	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	segments, _ := filepath.Glob(filepath.Join(dir, groupsFolder, filepath.FromSlash(folderOf(empty)), "wal", "*.wal"))
	f, err := os.OpenFile(segments[0], os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte{0xff, 0xff}, 60); err != nil {
		t.Fatal(err)
	}
	f.Close()
	n = run(t, Config{Node: "ps-0", DataDir: dir, RetryAfter: time.Millisecond})
	member.Address = n.server.Addr()
	n.obey(3, order(0, true, member), order(1, true, member))
	leaderOf(t, []*node{n}, 0)
	eventually(t, "the damage is reported", func() bool { return strings.Contains(n.group(1).Error, "damaged") })
	if g := n.group(1); !strings.Contains(g.Error, filepath.Dir(segments[0])) || !g.HasData {
		t.Errorf("report %v does not name the file", g)
	}
	push(t, []*node{n}, 0, 1, 0)
}

func TestStalledDiskEndsTheServer(t *testing.T) {
	t.Parallel()
	n := run(t, Config{Node: "ps-0", DataDir: t.TempDir()})
	boom := errors.New("boom")
	n.server.die(boom)
	if err := n.stop(); !errors.Is(err, boom) {
		t.Errorf("Run returned %v", err)
	}
	n.stop = func() error { return nil }
}

func TestConfigReportsAllFaults(t *testing.T) {
	t.Parallel()
	_, err := New(Config{Listen: "x", Advertise: "y"})
	for _, want := range []string{"name", "data directory", "address x", "address y", "coordinator"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not mention %s", err, want)
		}
	}
}

func TestFolderNamesJobRunAndShardOnce(t *testing.T) {
	t.Parallel()
	o := order(7, false)
	const want = "ctr-0000000000000051/7"
	if got := folderOf(o); got != want {
		t.Errorf("folder %s, want %s", got, want)
	}
	o.Job = "ctr-0000000000000051"
	if got := folderOf(o); got != want {
		t.Errorf("folder of a name that ends in the run: %s, want %s", got, want)
	}
	for folder, ok := range map[string]bool{want: true, "ctr/7": false, "ctr-0000000000000051/x": false} {
		if isGroupFolder(folder) != ok {
			t.Errorf("isGroupFolder(%q) is %v", folder, !ok)
		}
	}
	for name, ok := range map[string]bool{"ctr": true, "a-b-0000000000000051": true, "": false, "../x": false, "A": false, "-a": false} {
		if jobName.MatchString(name) != ok {
			t.Errorf("job name %q: %v", name, !ok)
		}
	}
}

func TestSchemaIsCheckedAsAWhole(t *testing.T) {
	t.Parallel()
	good, err := schemaOf(order(0, true).Schema)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fsm.MarshalSchema(good); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*proto.Schema){
		"table id":     func(s *proto.Schema) { s.Tables[0].Id = 1 << 16 },
		"tensor id":    func(s *proto.Schema) { s.Dense[0].Id = 1 << 16 },
		"column width": func(s *proto.Schema) { s.Tables[0].Columns[0].Width = 0 },
		"no optimizer": func(s *proto.Schema) { s.Dense[0].Optimizer = nil },
	} {
		s := order(0, true).Schema
		spoil(s)
		if _, err := schemaOf(s); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
