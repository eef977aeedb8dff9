package coordinator

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fathom-train/fathom/coordinator/client"
	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/fathom-train/fathom/proto"
)

// holding returns how many replicas each server holds.
func holding(t *testing.T, ctl *client.Control) map[string]uint32 {
	t.Helper()
	nodes, err := ctl.Nodes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	held := map[string]uint32{}
	for _, n := range nodes {
		if n.GetRole() == rolePS {
			held[n.GetNode()] = n.GetReplicas()
		}
	}
	return held
}

// rolesTold lists, without repetition, what a server was told about the role of
// its newest replica of shard 0.
func (n *simNode) rolesTold() (told []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, o := range n.orders {
		for _, g := range o.GetGroups() {
			for _, m := range g.GetMembers() {
				if g.GetShard() != 0 || m.GetNode() != n.name || m.GetReplica() != g.GetReplica() || g.GetReplica() == 0 {
					continue
				}
				if r := m.GetRole().String(); len(told) == 0 || told[len(told)-1] != r {
					told = append(told, r)
				}
			}
		}
	}
	return told
}

// settledAs waits until every shard has its replicas, all of them voters.
func settledAs(t *testing.T, ctl *client.Control, name string, want map[string]uint32) {
	t.Helper()
	await(t, ctl, name, func(s *proto.JobStatus) bool {
		held := holding(t, ctl)
		for node, n := range want {
			if held[node] != n {
				return false
			}
		}
		return !strings.Contains(s.GetDetail(), "replace")
	})
}

func TestLostReplicaIsReplacedOnItsServerAndEveryWriteMayBeTheLast(t *testing.T) {
	for _, brittle := range []bool{false, true} {
		inBubble(t, func(t *testing.T, c *cluster) {
			on := &brittleStore{Store: c.memory.Open(), fail: make(chan bool, 1)}
			c.coordinatorOn("c0", on)
			c.server("ps-0", nil, "c0")
			var wiped atomic.Bool
			victim := c.server("ps-1", func(g *proto.GroupReport) {
				if wiped.Load() && g.GetReplica() == 0 {
					g.Configured, g.HasData, g.Lost, g.Error, g.Leader = false, false, true, "replica has no data", false
				}
			}, "c0")
			c.server("ps-2", nil, "c0")
			c.worker("worker-0", simWorker{digest: "d", stepMs: 2000}, "c0")
			ctl := c.control("c0")
			name := submit(t, ctl, spec(t, "wiped", nil))
			await(t, ctl, name, func(s *proto.JobStatus) bool { return s.GetStep() > 2 })
			wiped.Store(true)
			if brittle {
				// Every write is done, and its leader steps down not knowing it.
				stop := make(chan struct{})
				defer close(stop)
				go func() {
					for range 4 {
						select {
						case on.fail <- true:
						case <-stop:
							return
						}
					}
				}()
			}
			await(t, ctl, name, func(s *proto.JobStatus) bool {
				return strings.Contains(s.GetDetail(), "2 of 2 shards replace a replica") || s.GetPhase() == proto.Phase_PHASE_DONE
			})
			await(t, ctl, name, inPhase(proto.Phase_PHASE_DONE))
			if told := victim.rolesTold(); !slices.Equal(told, []string{"ROLE_LEARNER", "ROLE_VOTER"}) {
				t.Errorf("the server was told to be %v, want a learner and then a voter", told)
			}
			order, _ := victim.current()
			for _, g := range order.GetGroups() {
				if len(g.GetMembers()) != 3 || g.GetReplica() != 1 {
					t.Errorf("shard %d is left as %v", g.GetShard(), g.GetMembers())
				}
			}
			victim.checkRevisions(t)
		})
	}
}

func TestNewServerGetsItsShareAndADrainedOneIsEmptied(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		c.coordinator("c0")
		c.servers("c0")
		c.worker("worker-0", simWorker{digest: "d", stepMs: 5000}, "c0")
		ctl := c.control("c0")
		name := submit(t, ctl, spec(t, "elastic", func(j *job.Job) { j.Spec.Cluster.Shards = 4 }))
		await(t, ctl, name, func(s *proto.JobStatus) bool { return s.GetStep() > 0 })
		c.server("ps-3", nil, "c0")
		settledAs(t, ctl, name, map[string]uint32{"ps-0": 3, "ps-1": 3, "ps-2": 3, "ps-3": 3})
		if _, err := ctl.Drain(t.Context(), "ps-0", false); err != nil {
			t.Fatal(err)
		}
		settledAs(t, ctl, name, map[string]uint32{"ps-0": 0, "ps-1": 4})
		nodes, err := ctl.Nodes(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range nodes {
			if n.GetDraining() != (n.GetNode() == "ps-0") {
				t.Errorf("drained: %v", n)
			}
		}
		if _, err := ctl.Drain(t.Context(), "ps-0", true); err != nil {
			t.Fatal(err)
		}
		settledAs(t, ctl, name, map[string]uint32{"ps-0": 3, "ps-1": 3, "ps-2": 3, "ps-3": 3})
		for _, bad := range []string{"worker-0", "nobody"} {
			if _, err := ctl.Drain(t.Context(), bad, false); err == nil {
				t.Errorf("%s is drained", bad)
			}
		}
		await(t, ctl, name, inPhase(proto.Phase_PHASE_DONE))
	})
}

func TestShardsKeepToTheirPoolUntilItIsDrained(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		c.coordinator("c0")
		for i := range 3 {
			c.server(fmt.Sprintf("ps-%d", i), nil, "c0")
			c.server(fmt.Sprintf("ps-fast-%d", i), nil, "c0")
		}
		c.worker("worker-0", simWorker{digest: "d", stepMs: 5000}, "c0")
		ctl := c.control("c0")
		name := submit(t, ctl, spec(t, "pools", func(j *job.Job) { j.Spec.Cluster.Shards, j.Spec.Cluster.PS = 4, 6 }))
		poolsOf := func() (of []string) { // of each shard, all pools that have a replica of it
			groups, err := ctl.Groups(t.Context(), name)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range groups.GetShards() {
				pools := map[string]bool{}
				for _, m := range s.GetMembers() {
					pools[poolOf(m.GetNode())] = true
				}
				of = append(of, strings.Join(slices.Sorted(maps.Keys(pools)), "+"))
			}
			return of
		}
		await(t, ctl, name, func(s *proto.JobStatus) bool { return s.GetStep() > 0 })
		if got := poolsOf(); !slices.Equal(got, []string{"", "", "fast", "fast"}) {
			t.Fatalf("shards are in the pools %q", got)
		}
		if _, err := ctl.Drain(t.Context(), "ps-0", false); err != nil {
			t.Fatal(err)
		}
		// Two of the pool are too few for three replicas: all of it leaves.
		settledAs(t, ctl, name, map[string]uint32{"ps-0": 0, "ps-1": 0, "ps-2": 0, "ps-fast-0": 4, "ps-fast-1": 4, "ps-fast-2": 4})
		if got := poolsOf(); !slices.Equal(got, []string{"fast", "fast", "fast", "fast"}) {
			t.Errorf("after the drain shards are in the pools %q", got)
		}
		nodes, err := ctl.Nodes(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range nodes {
			if n.GetRole() == rolePS && n.GetPool() != poolOf(n.GetNode()) {
				t.Errorf("%s is of the pool %q", n.GetNode(), n.GetPool())
			}
		}
		await(t, ctl, name, inPhase(proto.Phase_PHASE_DONE))
	})
}

func TestDrainIsRememberedByTheNextCoordinator(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		_, stop := c.coordinator("c0")
		c.servers("c0", "c1")
		ctl := c.control("c0", "c1")
		if _, err := ctl.Drain(t.Context(), "ps-1", false); err == nil {
			t.Log("drained at once")
		}
		time.Sleep(time.Second) // virtual: the servers join
		if _, err := ctl.Drain(t.Context(), "ps-1", false); err != nil {
			t.Fatal(err)
		}
		c.coordinator("c1")
		stop()
		time.Sleep(10 * time.Second) // virtual: c1 is elected, the nodes have joined it
		nodes, err := ctl.Nodes(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range nodes {
			if n.GetDraining() != (n.GetNode() == "ps-1") {
				t.Errorf("after a change of coordinators: %v", n)
			}
		}
		name := submit(t, ctl, spec(t, "small", nil))
		await(t, ctl, name, func(s *proto.JobStatus) bool {
			return strings.Contains(s.GetDetail(), "2 of 3 have joined") && strings.Contains(s.GetDetail(), "ps-1")
		})
	})
}

func TestServerThatStaysAwayIsReplacedByAnother(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		c.coordinator("c0")
		nodes := c.servers("c0")
		c.worker("worker-0", simWorker{digest: "d", stepMs: 10000}, "c0")
		ctl := c.control("c0")
		name := submit(t, ctl, spec(t, "away", nil))
		await(t, ctl, name, func(s *proto.JobStatus) bool { return s.GetStep() > 0 })
		c.server("ps-3", nil, "c0") // has nothing to do: three are enough
		nodes[0].stop()
		gone := time.Now()
		settledAs(t, ctl, name, map[string]uint32{"ps-3": 2})
		if waited := time.Since(gone); waited < time.Minute || waited > 2*time.Minute {
			t.Errorf("replaced after %s, want about a minute", waited)
		}
		await(t, ctl, name, inPhase(proto.Phase_PHASE_DONE))
	})
}

func TestReplicaThatDiffersIsReplacedUnlessItAnswered(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		c.coordinator("c0")
		c.server("ps-0", nil, "c0")
		wrong := c.server("ps-1", func(g *proto.GroupReport) {
			if g.GetShard() == 0 && g.GetVersion() > 0 && g.GetReplica() == 0 {
				g.Hash = make([]byte, hashBytes)
			}
		}, "c0")
		c.server("ps-2", nil, "c0")
		c.worker("worker-0", simWorker{digest: "d", stepMs: 2000}, "c0")
		ctl := c.control("c0")
		name := submit(t, ctl, spec(t, "differs", nil))
		await(t, ctl, name, inPhase(proto.Phase_PHASE_DONE))
		order, _ := wrong.current()
		for _, g := range order.GetGroups() {
			if want := map[uint32]uint32{0: 1}[g.GetShard()]; g.GetReplica() != want {
				t.Errorf("shard %d is left with replica %d, want %d", g.GetShard(), g.GetReplica(), want)
			}
		}
	})
}

func TestLeadersAreSpreadOverTheServers(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		c.coordinator("c0")
		c.servers("c0")
		c.worker("worker-0", simWorker{digest: "d", stepMs: 5000}, "c0")
		ctl := c.control("c0")
		name := submit(t, ctl, spec(t, "spread", func(j *job.Job) { j.Spec.Cluster.Shards = 6 }))
		c.model.lead("ps-2") // all of them
		await(t, ctl, name, func(*proto.JobStatus) bool {
			nodes, err := ctl.Nodes(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range nodes {
				if n.GetRole() == rolePS && n.GetLeaders() != 2 {
					return false
				}
			}
			return true
		})
	})
}
