package placement

import (
	"maps"
	"slices"
	"strings"
)

// Node is one parameter server as the planner sees it.
type Node struct {
	Name string
	// Pool it is of: the replicas of a shard are in one.
	Pool string
	// Usable nodes may get replicas: they live and are not being drained.
	Usable bool
	// Full nodes have no memory for one more replica.
	Full bool
	// Gone nodes have been dead for so long that their replicas are replaced.
	Gone bool
	// Draining nodes give their replicas away while they serve them.
	Draining bool
}

// Replica is one that the plan wants: a voter, or one that is to become one.
type Replica struct {
	Node string
	// Learner has not become a voter yet.
	Learner bool
	// Lost data are damaged or gone, or differ from the others'.
	Lost bool
}

// Shard is one shard with the replicas that the plan wants.
type Shard struct {
	Replicas []Replica
	// Former are nodes that hold a replica which the plan no longer wants.
	Former []string
	// Led says that a leader serves: a majority is there to change the group.
	Led bool
}

// Reason says why a replica moves.
type Reason string

// The reasons, the most urgent first.
const (
	Lost    Reason = "its data are lost"
	Gone    Reason = "its server is gone"
	Drain   Reason = "its server is drained"
	Stray   Reason = "the shard belongs to another pool"
	Balance Reason = "another server has fewer"
)

// Move replaces one replica of a shard by a new one, which may be on the same
// node.
type Move struct {
	Shard    int
	From, To string
	Reason   Reason
}

// InService reports whether what moves goes on serving until it has been
// replaced.
func (m Move) InService() bool {
	return m.Reason == Drain || m.Reason == Stray || m.Reason == Balance
}

// movesMax bounds the shards that change at the same time: every move copies a
// shard, and training pays for it.
const movesMax = 2

// Next returns the most urgent move that may begin now, if any. A shard makes
// one move at a time, and none without a leader; a node never gets a second
// replica of a shard. A shard stays in its pool, and leaves it for another when
// too many nodes of it are drained. Balancing waits until nothing else is left
// to do, and moves one replica only between nodes of a pool whose loads differ by
// two or more: a balanced cluster stays as it is. The answer depends only on the
// arguments.
func Next(nodes []Node, shards []Shard) (Move, bool) {
	p := newPlanner(nodes, shards)
	for _, reason := range []Reason{Lost, Gone, Drain, Stray} {
		for i, s := range shards {
			home := p.home(s)
			for _, r := range s.Replicas {
				if p.reasonOf(r, home) != reason || !p.mayMove(s, r) {
					continue
				}
				if to, ok := p.target(s, r, reason, home); ok {
					return Move{Shard: i, From: r.Node, To: to, Reason: reason}, true
				}
			}
		}
	}
	return p.balance()
}

type planner struct {
	nodes  map[string]Node
	names  []string // of those that may get replicas, ascending
	shards []Shard
	load   map[string]int
	moving int
	// Of the pools: their names ascending, the nodes that are not drained, dead or
	// alive, and the replicas.
	pools []string
	stays map[string]int
	holds map[string]int
}

func newPlanner(nodes []Node, shards []Shard) *planner {
	p := &planner{nodes: map[string]Node{}, shards: shards, load: map[string]int{}, stays: map[string]int{}, holds: map[string]int{}}
	for _, n := range nodes {
		p.nodes[n.Name] = n
		p.stays[n.Pool] += 0
		if !n.Draining {
			p.stays[n.Pool]++
		}
		if n.Usable && !n.Full {
			p.names = append(p.names, n.Name)
		}
	}
	slices.Sort(p.names)
	p.pools = slices.Sorted(maps.Keys(p.stays))
	for _, s := range shards {
		if s.changing() {
			p.moving++
		}
		for _, r := range s.Replicas {
			p.load[r.Node]++
			p.holds[p.nodes[r.Node].Pool]++
		}
	}
	return p
}

// changing tells whether the shard is on its way to another group.
func (s Shard) changing() bool {
	return len(s.Former) > 0 || slices.ContainsFunc(s.Replicas, func(r Replica) bool { return r.Learner })
}

func (s Shard) holds(node string) bool {
	return slices.Contains(s.Former, node) || slices.ContainsFunc(s.Replicas, func(r Replica) bool { return r.Node == node })
}

// home is the pool in which a shard's replicas should be: of the pools with
// enough nodes the one that has most of them already, and of several of those, as
// when the shard must leave its pool, the one with the least to hold. If no pool
// has enough nodes, the shard stays where most of it is.
func (p *planner) home(s Shard) string {
	has := map[string]int{}
	for _, r := range s.Replicas {
		if n, known := p.nodes[r.Node]; known {
			has[n.Pool]++
		}
	}
	better := func(a, b string) bool {
		if x, y := p.stays[a] >= len(s.Replicas), p.stays[b] >= len(s.Replicas); x != y {
			return x
		}
		if has[a] != has[b] {
			return has[a] > has[b]
		}
		return p.holds[a]*p.stays[b] < p.holds[b]*p.stays[a]
	}
	best := ""
	for i, pool := range p.pools {
		if i == 0 || better(pool, best) {
			best = pool
		}
	}
	return best
}

func (p *planner) reasonOf(r Replica, home string) Reason {
	switch n, known := p.nodes[r.Node]; {
	case r.Lost:
		return Lost
	case !known:
		return "" // not heard of yet
	case n.Gone:
		return Gone
	case n.Draining:
		return Drain
	case n.Pool != home:
		return Stray
	}
	return ""
}

// mayMove tells whether the shard may begin a move of the replica. A learner
// that fails is given up in favour of another; everything else waits.
func (p *planner) mayMove(s Shard, r Replica) bool {
	if !s.Led {
		return false
	}
	if r.Learner {
		return true
	}
	return !s.changing() && p.moving < movesMax
}

// target chooses where a replica goes: to a node of the shard's home. Lost data
// come back on the same node when it can be used: nothing else has to move then.
// If no node there will do, one of another pool does, until one at home can.
func (p *planner) target(s Shard, r Replica, reason Reason, home string) (string, bool) {
	if reason == Lost && p.nodes[r.Node].Usable {
		return r.Node, true
	}
	best := ""
	for _, name := range p.names {
		at := p.nodes[name].Pool == home
		if s.holds(name) || !at && reason == Stray {
			continue
		}
		nearer := best == "" || at && p.nodes[best].Pool != home
		if same := best != "" && at == (p.nodes[best].Pool == home); nearer || same && p.load[name] < p.load[best] {
			best = name
		}
	}
	return best, best != ""
}

// balance moves one replica from a node with many to one with few of its pool.
func (p *planner) balance() (Move, bool) {
	if p.moving > 0 {
		return Move{}, false
	}
	for _, s := range p.shards {
		for _, r := range s.Replicas {
			if n, known := p.nodes[r.Node]; !s.Led || r.Lost || !known || !n.Usable {
				return Move{}, false
			}
		}
	}
	var byLoad []string
	for _, n := range p.nodes {
		if n.Usable {
			byLoad = append(byLoad, n.Name)
		}
	}
	slices.SortFunc(byLoad, func(a, b string) int {
		if p.load[a] != p.load[b] {
			return p.load[a] - p.load[b]
		}
		return strings.Compare(a, b)
	})
	for _, from := range slices.Backward(byLoad) {
		for _, to := range byLoad {
			if p.load[from]-p.load[to] < 2 {
				break
			}
			if p.nodes[to].Full || p.nodes[to].Pool != p.nodes[from].Pool {
				continue
			}
			for i, s := range p.shards {
				if s.holds(from) && !s.holds(to) {
					return Move{Shard: i, From: from, To: to, Reason: Balance}, true
				}
			}
		}
	}
	return Move{}, false
}
