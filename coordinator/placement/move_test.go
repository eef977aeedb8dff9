package placement

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// world is a cluster that carries out moves.
type world struct {
	nodes  []Node
	shards []Shard
	n      int // replicas of a shard
}

func drawWorld(t *rapid.T) *world {
	w := &world{n: rapid.IntRange(1, 3).Draw(t, "replicas")}
	var names []string
	for i := range rapid.IntRange(w.n, 7).Draw(t, "nodes") {
		name := fmt.Sprint("ps-", i)
		names = append(names, name)
		w.nodes = append(w.nodes, Node{Name: name, Usable: true})
	}
	placed, err := Place(one(names[:rapid.IntRange(w.n, len(names)).Draw(t, "first")]...), rapid.IntRange(1, 9).Draw(t, "shards"), w.n)
	if err != nil {
		t.Fatal(err)
	}
	for _, members := range placed {
		s := Shard{Led: true}
		for _, m := range members {
			s.Replicas = append(s.Replicas, Replica{Node: m})
		}
		w.shards = append(w.shards, s)
	}
	return w
}

// begin makes the move's learner.
func (w *world) begin(t *rapid.T, m Move) {
	s := &w.shards[m.Shard]
	for _, n := range w.nodes {
		if n.Name == m.To && !n.Usable {
			t.Fatalf("%+v goes to a node that cannot be used", m)
		}
	}
	at := slices.IndexFunc(s.Replicas, func(r Replica) bool { return r.Node == m.From })
	if at < 0 {
		t.Fatalf("%+v moves what is not there: %+v", m, s)
	}
	if m.To != m.From && s.holds(m.To) {
		t.Fatalf("%+v gives a node its second replica: %+v", m, s)
	}
	if !s.Led {
		t.Fatalf("%+v changes a group without a leader", m)
	}
	s.Replicas[at] = Replica{Node: m.To, Learner: true}
	s.Former = append(s.Former, m.From)
}

// finish completes what is under way in a shard.
func (w *world) finish(i int) {
	s := &w.shards[i]
	s.Former = nil
	for j := range s.Replicas {
		s.Replicas[j].Learner = false
	}
}

// settle carries moves out until none is due and returns how many there were.
func (w *world) settle(t *rapid.T) (moves []Move) {
	for {
		m, ok := Next(w.nodes, w.shards)
		if ok {
			w.begin(t, m)
			moves = append(moves, m)
		}
		changing := 0
		for i, s := range w.shards {
			if s.changing() {
				changing++
				if !ok || rapid.Bool().Draw(t, "finish") {
					w.finish(i)
				}
			}
		}
		if changing > movesMax {
			t.Fatalf("%d shards change at once", changing)
		}
		if !ok && changing == 0 {
			return moves
		}
		if len(moves) > 1000 {
			t.Fatalf("no end of moves: %+v", moves[990:])
		}
	}
}

func (w *world) loads() (least, most int) {
	load := map[string]int{}
	for _, s := range w.shards {
		for _, r := range s.Replicas {
			load[r.Node]++
		}
	}
	least = 1 << 30
	for _, n := range w.nodes {
		if n.Usable {
			least, most = min(least, load[n.Name]), max(most, load[n.Name])
		}
	}
	return least, most
}

func TestNewNodesGetTheirShareByTheFewestMoves(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		load := map[string]int{}
		for _, s := range w.shards {
			for _, r := range s.Replicas {
				load[r.Node]++
			}
		}
		total := len(w.shards) * w.n
		// What nodes hold above the rounded-up mean must move, and what is
		// missing from the rounded-down mean must come.
		above, below := 0, 0
		for _, n := range w.nodes {
			above += max(0, load[n.Name]-(total+len(w.nodes)-1)/len(w.nodes))
			below += max(0, total/len(w.nodes)-load[n.Name])
		}
		moves := w.settle(t)
		if least, most := w.loads(); most-least > 1 {
			t.Fatalf("loads from %d to %d after %d moves", least, most, len(moves))
		}
		if len(moves) > max(above, below) {
			t.Fatalf("%d moves, %d were needed", len(moves), max(above, below))
		}
		if again := w.settle(t); len(again) > 0 {
			t.Fatalf("a balanced cluster moves: %+v", again)
		}
	})
}

func TestDrainedAndGoneNodesAreEmptied(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		left := len(w.nodes)
		for i := range w.nodes {
			if left > w.n && rapid.Bool().Draw(t, "leaves") {
				left--
				w.nodes[i].Usable = false
				w.nodes[i].Draining = rapid.Bool().Draw(t, "drained")
				w.nodes[i].Gone = !w.nodes[i].Draining
			}
		}
		for i := range w.shards {
			j := rapid.IntRange(0, 3*w.n).Draw(t, "lost")
			if j < w.n && w.n > 1 {
				w.shards[i].Replicas[j].Lost = true
			}
		}
		w.settle(t)
		for i, s := range w.shards {
			if len(s.Replicas) != w.n {
				t.Fatalf("shard %d has %d replicas, want %d", i, len(s.Replicas), w.n)
			}
			for _, r := range s.Replicas {
				at := slices.IndexFunc(w.nodes, func(n Node) bool { return n.Name == r.Node })
				if r.Lost || !w.nodes[at].Usable {
					t.Fatalf("shard %d is left on %+v, %+v", i, w.nodes[at], r)
				}
			}
		}
	})
}

// A shard is in one pool before and after, and changes it only when its own has
// not enough nodes left.
func TestShardsStayInTheirPoolOrLeaveItWhole(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		pools, poolOf := drawPools(t, 5)
		w := &world{n: rapid.IntRange(1, 3).Draw(t, "replicas")}
		placed, err := Place(pools, rapid.IntRange(1, 9).Draw(t, "shards"), w.n)
		if err != nil {
			t.Skip("no pool is large enough")
		}
		stays := map[string]int{}
		for _, name := range slices.Sorted(maps.Keys(poolOf)) {
			n := Node{Name: name, Pool: poolOf[name], Usable: true}
			if rapid.Bool().Draw(t, "drained") {
				n.Usable, n.Draining = false, true
			} else {
				stays[n.Pool]++
			}
			w.nodes = append(w.nodes, n)
		}
		enough := false
		for _, n := range stays {
			enough = enough || n >= w.n
		}
		for _, members := range placed {
			s := Shard{Led: true}
			for _, m := range members {
				s.Replicas = append(s.Replicas, Replica{Node: m})
			}
			w.shards = append(w.shards, s)
		}
		w.settle(t)
		for i, s := range w.shards {
			before, now := poolOf[placed[i][0]], poolOf[s.Replicas[0].Node]
			if enough && (now != before) != (stays[before] < w.n) {
				t.Fatalf("shard %d: pool %q before and %q now, of %d replicas, not drained %v", i, before, now, w.n, stays)
			}
			for _, r := range s.Replicas {
				if enough && (poolOf[r.Node] != now || !w.usable(r.Node)) {
					t.Fatalf("shard %d is left on %+v", i, s.Replicas)
				}
			}
		}
	})
}

func (w *world) usable(node string) bool {
	return slices.ContainsFunc(w.nodes, func(n Node) bool { return n.Name == node && n.Usable })
}

func TestNothingMovesWithoutNeed(t *testing.T) {
	t.Parallel()
	three := []Node{{Name: "a", Usable: true}, {Name: "b", Usable: true}, {Name: "c", Usable: true}}
	shard := func(led bool, r ...Replica) Shard { return Shard{Led: led, Replicas: r} }
	on := func(n string) Replica { return Replica{Node: n} }
	f := func(what string, want Move, nodes []Node, shards ...Shard) {
		t.Helper()
		got, ok := Next(nodes, shards)
		if ok != (want.Reason != "") || got != want {
			t.Errorf("%s: %+v, want %+v", what, got, want)
		}
	}
	lost := Replica{Node: "a", Lost: true}
	f("all is well", Move{}, three, shard(true, on("a"), on("b"), on("c")))
	f("lost data come back where they were", Move{From: "a", To: "a", Reason: Lost}, three, shard(true, lost, on("b"), on("c")))
	f("no leader, no change", Move{}, three, shard(false, lost, on("b"), on("c")))
	f("a node that is only away for a while", Move{}, []Node{{Name: "a"}, three[1], three[2]}, shard(true, on("a"), on("b")))
	f("a node nobody has heard of yet", Move{}, three[1:], shard(true, on("a"), on("b")))
	f("a gone node with nowhere to go", Move{}, []Node{{Name: "a", Gone: true}, three[1]}, shard(true, on("a"), on("b")))
	f("one change of a shard at a time", Move{}, three, Shard{Led: true, Replicas: []Replica{lost, {Node: "b", Learner: true}}, Former: []string{"c"}})
	full := slices.Clone(three)
	full[2].Full = true
	f("a full node gets nothing", Move{}, full, shard(true, on("a"), on("b")), shard(true, on("a"), on("b")))
	f("but its own data again", Move{From: "c", To: "c", Reason: Lost}, full, shard(true, on("a"), Replica{Node: "c", Lost: true}))
	f("a node with room gets its share", Move{From: "b", To: "c", Reason: Balance}, three, shard(true, on("a"), on("b")), shard(true, on("a"), on("b")))
	two := []Node{{Name: "a", Gone: true}, three[1], three[2], {Name: "x", Pool: "other", Usable: true}}
	f("another pool's node rather than none", Move{From: "a", To: "x", Reason: Gone}, two, shard(true, on("a"), on("b"), on("c")))
	two[0] = three[0]
	f("and back when one at home can", Move{From: "x", To: "a", Reason: Stray}, two, shard(true, on("x"), on("b"), on("c")))
	f("pools are not balanced with each other", Move{}, two, shard(true, on("a"), on("b"), on("c")), shard(true, on("a"), on("b"), on("c")))
	f("a learner that is lost too is given up", Move{From: "c", To: "c", Reason: Lost}, three,
		Shard{Led: true, Replicas: []Replica{on("a"), {Node: "c", Learner: true, Lost: true}}, Former: []string{"b"}})
}

func TestLeadersAreSpread(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t)
		var shards []Led
		for _, s := range w.shards {
			l := Led{}
			for _, r := range s.Replicas {
				l.Candidates = append(l.Candidates, r.Node)
			}
			l.Leader = rapid.SampledFrom(append(l.Candidates, "", "leaving")).Draw(t, "leader")
			shards = append(shards, l)
		}
		for round := 0; ; round++ {
			moved := false
			for i, to := range Leaders(shards) {
				if to == "" {
					continue
				}
				if !slices.Contains(shards[i].Candidates, to) || to == shards[i].Leader {
					t.Fatalf("shard %d of %+v is to be led by %s", i, shards[i], to)
				}
				shards[i].Leader, moved = to, true
			}
			if !moved {
				break
			}
			if round > 50 {
				t.Fatal("leaders never stop moving")
			}
		}
		leads := map[string]int{}
		for _, s := range shards {
			leads[s.Leader]++
		}
		for _, s := range shards {
			if s.Leader == "leaving" {
				t.Fatal("one that leaves still leads")
			}
			for _, c := range s.Candidates {
				if s.Leader != "" && leads[s.Leader]-leads[c] >= 2 {
					t.Fatalf("%s leads %d, %s only %d: %+v", s.Leader, leads[s.Leader], c, leads[c], shards)
				}
			}
		}
	})
}
