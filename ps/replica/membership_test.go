package replica

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"pgregory.net/rapid"
)

// Any plan is reached, one change at a time, and on the way those that are in
// service always can form a majority if they could at the beginning.
func TestPlanIsReachedWithoutLosingTheMajority(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 5).Draw(t, "voters")
		var have raft.Configuration
		var plan []Member
		serves := map[string]bool{}
		lost := 0
		add := func(m Member) { plan = append(plan, m); serves[m.ID()] = m.Role != Lost }
		for i := range n {
			m := Member{Node: fmt.Sprintf("n%d", i), Address: "x"}
			have.Servers = append(have.Servers, raft.Server{ID: raft.ServerID(m.ID()), Suffrage: raft.Voter})
			m.Role = rapid.SampledFrom([]Role{Voter, Voter, Leaving, Lost}).Draw(t, "role")
			if m.Role == Lost {
				if lost++; 2*lost >= n {
					m.Role, lost = Voter, lost-1
				}
			}
			add(m)
			if m.Role != Voter {
				add(Member{Node: fmt.Sprintf("m%d", i), Replica: 3, Address: "x"})
			}
		}
		// The leader is one that serves.
		self := ""
		for _, m := range plan[:1+rapid.IntRange(0, len(plan)-1).Draw(t, "self")] {
			if m.Role != Lost && m.Replica == 0 {
				self = m.ID()
			}
		}
		majority := func() bool {
			live, voters := 0, 0
			for _, s := range have.Servers {
				if s.Suffrage == raft.Voter {
					voters++
					if serves[string(s.ID)] {
						live++
					}
				}
			}
			return 2*live > voters
		}
		for steps := 0; ; steps++ {
			if !majority() {
				t.Fatalf("no majority is in service: %v", have)
			}
			c := nextChange(have, plan, self)
			if c.kind == nothing {
				break
			}
			if steps > 4*n {
				t.Fatalf("the plan %v is not reached: %v", plan, have)
			}
			at := slices.IndexFunc(have.Servers, func(s raft.Server) bool { return string(s.ID) == c.member.ID() })
			switch c.kind {
			case addLearner:
				if at >= 0 {
					t.Fatalf("%s is added twice", c.member.ID())
				}
				have.Servers = append(have.Servers, raft.Server{ID: raft.ServerID(c.member.ID()), Suffrage: raft.Nonvoter})
			case promote:
				have.Servers[at].Suffrage = raft.Voter
			case remove:
				have.Servers = slices.Delete(have.Servers, at, at+1)
			}
		}
		var got, want []string
		for _, s := range have.Servers {
			got = append(got, fmt.Sprint(s.ID, s.Suffrage))
		}
		for _, m := range plan {
			if m.Role == Voter {
				want = append(want, fmt.Sprint(m.ID(), raft.Voter))
			}
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Fatalf("got %v, the plan %v wants %v", got, plan, want)
		}
	})
}

// follow gives all open replicas the plan and lets the leader make it so.
func (c *cluster) follow(plan []Member, until func() bool) {
	c.t.Helper()
	for _, g := range c.groups {
		if g != nil {
			g.SetMembers(plan)
		}
	}
	eventually(c.t, "the plan is reached", func() bool {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if changed, err := c.groups[c.leader(-1)].Reconfigure(ctx); changed || err != nil {
			return false // an error is a change of leader
		}
		return until()
	})
}

func always() bool { return true }

// join opens a replica that learns from the others.
func (c *cluster) join(i int, m Member, plan []Member) {
	c.t.Helper()
	c.dirs[i] = filepath.Join(c.t.TempDir(), "joined")
	cfg := c.config(i)
	cfg.Replica, cfg.Members, cfg.Bootstrap, cfg.Join = m.Replica, plan, false, true
	g, err := Open(cfg, c.muxes[i])
	if err != nil {
		c.t.Fatal(err)
	}
	c.groups[i] = g
}

func TestWipedReplicaIsReplacedWhileTraining(t *testing.T) {
	t.Parallel()
	const rows = 40
	c := newCluster(t, 3)
	c.tune = func(_ int, cfg *Config) {
		cfg.SnapshotBytes, cfg.TrailingEntries, cfg.OutstandingEntries = 16<<10, 40, 32
	}
	c.tcp()
	c.push([][]byte{configureCommand()})
	c.train(1, 30, rows)
	gone := c.leader(-1)
	c.close(gone)
	if err := os.RemoveAll(c.dirs[gone]); err != nil {
		t.Fatal(err)
	}
	c.train(31, 35, rows)
	plan := slices.Clone(c.members)
	plan[gone].Role = Lost
	successor := c.members[gone]
	successor.Replica, successor.Role = 1, Learner
	plan = append(plan, successor)
	c.join(gone, successor, plan)
	trained := make(chan error, 1)
	go func() { trained <- c.tryTrain(36, 60, rows) }()
	leader := c.groups[c.leader(-1)]
	c.follow(plan, func() bool {
		v, _ := c.groups[gone].state.Version()
		return v >= 35
	})
	if got := leader.Configuration(); len(got.Voters) != 3 || len(got.Learners) != 1 {
		t.Errorf("while it catches up the group is %+v", got)
	}
	plan[len(plan)-1].Role = Voter
	c.follow(plan, always)
	if err := <-trained; err != nil {
		t.Fatal(err)
	}
	c.settled(60, rows)
	for _, g := range c.groups {
		eventually(t, "every replica knows the new group", func() bool {
			got := g.Configuration()
			return len(got.Voters) == 3 && len(got.Learners) == 0 && slices.Contains(got.Voters, successor.ID())
		})
	}
	// It counts: with another one gone it makes the majority, also from its disk.
	c.close((gone + 1) % 3)
	c.close(gone)
	cfg := c.config(gone)
	cfg.Replica, cfg.Members, cfg.Bootstrap = 1, plan, false
	g, err := Open(cfg, c.muxes[gone])
	if err != nil {
		t.Fatal(err)
	}
	c.groups[gone] = g
	c.train(61, 62, rows)
	c.settled(62, rows)
}

// All voters are replaced by others, the leader among them.
func TestGroupMovesToOtherNodes(t *testing.T) {
	t.Parallel()
	const rows = 20
	c := newCluster(t, 2).tcp()
	c.push([][]byte{configureCommand()})
	c.train(1, 5, rows)
	plan := slices.Clone(c.members)
	for i := range 2 {
		m, err := ListenMux("127.0.0.1:0", nil)
		if err != nil {
			t.Fatal(err)
		}
		c.muxes = append(c.muxes, m)
		c.dirs, c.groups = append(c.dirs, ""), append(c.groups, nil)
		c.members = append(c.members, Member{Node: fmt.Sprintf("n%d", 2+i), Address: m.Addr()})
		plan[i].Role = Leaving
		plan = append(plan, c.members[2+i])
	}
	for i := 2; i < 4; i++ {
		c.join(i, plan[i], plan)
	}
	c.follow(plan, func() bool { _, leads := c.groups[2].Leader(); _, other := c.groups[3].Leader(); return leads || other })
	c.close(0)
	c.close(1)
	c.train(6, 9, rows)
	c.settled(9, rows)
}

// A replica that was away while another took the place of a third must elect it
// when the fourth is gone, too: raft refuses a candidate that it does not know.
func TestReplicaThatMissedAChangeElectsANewMember(t *testing.T) {
	t.Parallel()
	const rows = 20
	c := newCluster(t, 3).tcp()
	c.push([][]byte{configureCommand()})
	c.train(1, 3, rows)
	c.close(1)
	m, err := ListenMux("127.0.0.1:0", nil)
	if err != nil {
		t.Fatal(err)
	}
	c.muxes = append(c.muxes, m)
	c.dirs, c.groups = append(c.dirs, ""), append(c.groups, nil)
	c.members = append(c.members, Member{Node: "n3", Address: m.Addr()})
	plan := slices.Clone(c.members)
	plan[2].Role = Leaving
	c.join(3, plan[3], plan)
	c.follow(plan, func() bool { return c.leader(-1) != 2 })
	eventually(t, "the new member knows the change", func() bool {
		return slices.Equal(c.groups[3].Configuration().Voters, []string{"n0", "n1", "n3"})
	})
	c.close(2)
	c.close(0)
	c.members = plan
	c.open(1)
	c.train(4, 6, rows)
	c.settled(6, rows)
}

func TestLeadershipIsHandedOver(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	c.heartbeat = 10 * time.Second // nobody else takes the leadership
	c.tcp()
	c.elect(0)
	c.push([][]byte{configureCommand()})
	trained := make(chan error, 1)
	go func() { trained <- c.tryTrain(1, 40, 10) }()
	for range 10 {
		from := c.leader(-1)
		to := (from + 1) % 3
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		if err := c.groups[from].HandOver(ctx, c.members[to].Node); err != nil {
			t.Logf("not handed over: %v", err) // the candidate was behind
		}
		cancel()
	}
	if err := <-trained; err != nil {
		t.Fatal(err)
	}
	from := c.leader(-1)
	if err := c.groups[from].HandOver(t.Context(), ""); err != nil {
		t.Error(err)
	}
	if err := c.groups[from].HandOver(t.Context(), ""); err == nil {
		t.Error("a follower hands over")
	}
	c.settled(40, 10)
}

// Leadership is not handed to a replica that is behind: it would not be elected, and
// the group would be without a leader.
func TestLeadershipIsNotHandedToOneThatIsBehind(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	c.heartbeat = 2 * time.Second
	c.memory()
	from := c.leader(-1)
	to := (from + 1) % 3
	c.push([][]byte{configureCommand()})
	c.train(1, 1, 10)
	c.link(from, to, false)
	c.train(2, 40, 10)
	term := c.groups[from].raft.CurrentTerm()
	for _, up := range []bool{false, true} {
		c.link(from, to, up)
		err := c.groups[from].HandOver(t.Context(), c.members[to].Node)
		if err == nil && !up {
			t.Error("handed over to a replica that cannot be reached")
		}
		if _, leads := c.groups[from].Leader(); err != nil && (!leads || c.groups[from].raft.CurrentTerm() != term) {
			t.Errorf("leads: %v, in term %d after a hand-over that was refused (%v), want term %d", leads, c.groups[from].raft.CurrentTerm(), err, term)
		}
	}
	c.train(41, 43, 10)
	c.settled(43, 10)
}
