package ps

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fathom-train/fathom/proto"
	"github.com/fathom-train/fathom/ps/wire"
	"github.com/fathom-train/fathom/shard"
)

// withRoles returns the order for one member, as a copy.
func withRoles(replicaOf uint32, bootstrap bool, members ...*proto.Member) *proto.GroupOrder {
	o := order(0, bootstrap, members...)
	o.Replica = replicaOf
	return o
}

// A server whose disk was lost says so, is told to begin anew under the next
// number, learns, and becomes a voter; the damaged data are kept.
func TestLostReplicaBeginsAnewAsLearner(t *testing.T) {
	t.Parallel()
	nodes, members := runCluster(t, 3)
	revision := uint64(1)
	tell := func(bootstrap bool, number func(i int) uint32, plan ...*proto.Member) {
		revision++
		for i, n := range nodes {
			n.obey(revision, withRoles(number(i), bootstrap, plan...))
		}
	}
	first := func(int) uint32 { return 0 }
	tell(true, first, members...)
	leaderOf(t, nodes, 0)
	for step := uint64(1); step <= 3; step++ {
		for lane := range uint16(testLanes) {
			push(t, nodes, 0, step, lane)
		}
	}
	gone := leaderOf(t, nodes, 0)
	old := nodes[gone]
	dir := old.server.cfg.DataDir
	if err := old.stop(); err != nil {
		t.Fatal(err)
	}
	segments, _ := filepath.Glob(filepath.Join(dir, groupsFolder, "*", "0", "wal", "*.wal"))
	f, err := os.OpenFile(segments[0], os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte{0xff, 0xff}, 60); err != nil {
		t.Fatal(err)
	}
	f.Close()
	nodes[gone] = run(t, Config{Node: members[gone].Node, DataDir: dir})
	members[gone].Address = nodes[gone].server.Addr()
	tell(false, first, members...)
	eventually(t, "the damage is reported", func() bool { g := nodes[gone].group(0); return g.Error != "" && g.Lost })

	successor := &proto.Member{Node: members[gone].Node, Address: members[gone].Address, Replica: 1, Role: proto.Role_ROLE_LEARNER}
	members[gone] = &proto.Member{Node: successor.Node, Address: successor.Address, Role: proto.Role_ROLE_LOST}
	next := func(i int) uint32 {
		if i == gone {
			return 1
		}
		return 0
	}
	plan := append(members[:3:3], successor)
	tell(false, next, plan...)
	eventually(t, "it has caught up", func() bool { return nodes[gone].group(0).Version == 3 })
	push(t, nodes, 0, 4, 0)
	voter := &proto.Member{Node: successor.Node, Address: successor.Address, Replica: 1}
	tell(false, next, append(members[:3:3], voter)...)
	eventually(t, "it is a voter in place of the old one", func() bool {
		g := nodes[leaderOf(t, nodes, 0)].group(0)
		return len(g.Voters) == 3 && len(g.Learners) == 0
	})
	push(t, nodes, 0, 4, 1)
	eventually(t, "all are at the same state", func() bool {
		a, b := nodes[gone].group(0), nodes[(gone+1)%3].group(0)
		return a.Version == 4 && b.Version == 4 && string(a.Hash) == string(b.Hash)
	})
	kept, err := os.ReadDir(filepath.Join(dir, asideFolder))
	if err != nil || len(kept) != 1 {
		t.Errorf("set aside: %v, %v; want the damaged data", kept, err)
	}
	if nodes[gone].group(0).Replica != 1 {
		t.Errorf("reported as %v", nodes[gone].group(0))
	}
}

func TestServerHandsItsLeadershipOver(t *testing.T) {
	t.Parallel()
	nodes, members := runCluster(t, 3)
	revision := uint64(1)
	tell := func(leader string) {
		revision++
		for _, n := range nodes {
			o := order(0, true, members...)
			o.Leader = leader
			n.obey(revision, o)
		}
	}
	tell("")
	for range 3 {
		to := (leaderOf(t, nodes, 0) + 1) % 3
		tell(members[to].Node)
		eventually(t, "the wanted node leads", func() bool { return nodes[to].group(0).Leader })
	}
	// At the end of a server another one leads before it is gone.
	tell("")
	from := leaderOf(t, nodes, 0)
	nodes[from].server.handOverAll()
	if nodes[from].group(0).Leader && leaderOf(t, nodes, 0) == from {
		t.Error("nobody else leads")
	}
}

func TestOnlyTheNewestDataSetAsideAreKept(t *testing.T) {
	t.Parallel()
	n := run(t, Config{Node: "ps-0", DataDir: t.TempDir()})
	o := order(0, false)
	for number := range uint32(4) {
		o.Replica = number
		if err := os.MkdirAll(filepath.Join(n.server.cfg.DataDir, groupsFolder, folderOf(o)), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := n.server.setAside(o); err != nil { // all but number 3
		t.Fatal(err)
	}
	kept, err := os.ReadDir(filepath.Join(n.server.cfg.DataDir, asideFolder))
	if err != nil || len(kept) != asideMax {
		t.Errorf("kept %v, %v; want %d", kept, err, asideMax)
	}
	left, _ := filepath.Glob(filepath.Join(n.server.cfg.DataDir, groupsFolder, "*", "*"))
	if len(left) != 1 || filepath.Base(left[0]) != "0.3" {
		t.Errorf("left in place: %v", left)
	}
}

// A leader that is out of memory refuses new rows, not rows that are there.
func TestPushBeyondTheMemoryLimitIsRefused(t *testing.T) {
	t.Parallel()
	n := run(t, Config{Node: "ps-0", DataDir: t.TempDir(), MemoryLimit: 64 << 10})
	nodes := []*node{n}
	n.obey(1, order(0, true, &proto.Member{Node: "ps-0", Address: n.server.Addr()}))
	leaderOf(t, nodes, 0)
	for lane := range uint16(testLanes) {
		push(t, nodes, 0, 1, lane)
	}
	big := func(rows int, step uint64, lane uint16) error {
		b := wire.NewPush(wire.PushID{Run: testRun, Step: step, Lane: lane, Factor: 1})
		keys, counts := make([]shard.Key, rows), make([]uint32, rows)
		for i := range keys {
			keys[i], counts[i] = shard.Key(i), 1
		}
		b.Rows(0, testWidth, keys, counts, make([]float32, rows*testWidth))
		body := wire.AppendPushBody(nil, wire.PushHeader{Run: testRun, Shard: 0}, b.Chunks())
		_, err := n.client.Push(t.Context(), &proto.Frame{Body: body})
		return err
	}
	err := big(2000, 2, 0)
	wantReason(t, "2000 new rows", err, proto.Reason_REASON_MEMORY)
	for _, want := range []string{"ps-0", "shard 0", "--memory-limit", "65536"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not mention %s", err, want)
		}
	}
	if err := big(300, 2, 0); err != nil { // fits
		t.Fatal(err)
	}
	if err := big(300, 2, 1); err != nil {
		t.Fatal(err)
	}
	n.server.memory.limit = n.report().MemoryBytes // not one row more
	if err := big(300, 3, 0); err != nil {
		t.Errorf("rows that are there: %v", err)
	}
	wantReason(t, "one row more", big(301, 3, 1), proto.Reason_REASON_MEMORY)
	if err := big(300, 3, 1); err != nil {
		t.Error(err)
	}
	if r := n.report(); r.MemoryBytes == 0 || r.MemoryLimit != r.MemoryBytes {
		t.Errorf("reported as %d of %d", r.MemoryBytes, r.MemoryLimit)
	}
}
