package coordinator

import (
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/fathom-train/fathom/coordinator/placement"
	"github.com/fathom-train/fathom/proto"
)

const (
	// catchUpRound is how fast a learner must reach what its leader had applied
	// when the round began: then it is near enough to count for majorities.
	catchUpRound = 2 * time.Second
	// leadersStable is how long nothing may have changed about who leads before
	// leaderships are moved for the sake of balance.
	leadersStable = 3 * time.Second
)

// roles maps a stored role to the wire's.
var roles = map[string]proto.Role{
	"": proto.Role_ROLE_VOTER, learning: proto.Role_ROLE_LEARNER,
	leaving: proto.Role_ROLE_LEAVING, lost: proto.Role_ROLE_LOST,
}

// id names a replica as servers do in their reports (replica.Member.ID).
func (m member) id() string {
	if m.Replica == 0 {
		return m.Node
	}
	return fmt.Sprintf("%s#%d", m.Node, m.Replica)
}

// wanted tells whether the plan keeps the member, votes whether it may lead
// and answer.
func (m member) wanted() bool { return m.Role == "" || m.Role == learning }
func (m member) votes() bool  { return m.Role == "" || m.Role == leaving }

// hosted returns the replica of the shard that a node is to host.
func (s *shardPlace) hosted(node string) (member, bool) {
	i := slices.IndexFunc(s.Members, func(m member) bool { return m.Node == node && m.Role != lost })
	if i < 0 {
		return member{}, false
	}
	return s.Members[i], true
}

// changing tells whether the group is not what the plan wants yet.
func (s *shardPlace) changing() bool {
	return slices.ContainsFunc(s.Members, func(m member) bool { return m.Role != "" })
}

// reportOf is what a member's server reports of exactly this replica, or nil.
func (r *run) reportOf(s *shardPlace, m member, nodes map[string]*node) *proto.GroupReport {
	n := nodes[m.Node]
	if n == nil {
		return nil
	}
	if g := n.group(r.groupJob(), uint32(s.ID)); g.GetReplica() == m.Replica {
		return g
	}
	return nil
}

// round is one round of a learner's catching up.
type round struct {
	since time.Time
	goal  uint64 // what the leader had applied then
}

// replan takes the replicas one step nearer to where they should be, or
// returns nil. What it decides is stored before anybody is told: the stored
// place is the plan, the raft groups follow it.
func (l *leader) replan(r *run, now time.Time) *write {
	if r.place == nil || !r.place.Formed {
		return nil
	}
	next := r.place.clone()
	var news []string
	for i := range next.Shards {
		news = append(news, l.advance(r, &next.Shards[i], now)...)
	}
	if m, ok := placement.Next(l.plannerNodes(r, now), l.plannerShards(r, next, now)); ok {
		news = append(news, l.begin(&next.Shards[m.Shard], m))
	}
	if len(news) == 0 {
		return nil
	}
	next.MapVersion++
	w := l.setPlace(r, next)
	install := w.apply
	w.apply = func() {
		install()
		for _, n := range news {
			l.log.Info("replicas change", "job", r.name, "change", n)
		}
	}
	return w
}

// advance goes on with a change that is under way.
func (l *leader) advance(r *run, s *shardPlace, now time.Time) (news []string) {
	if !s.changing() {
		return nil
	}
	led, ok := s.hosted(r.leaderOf(*s, l.nodes, now))
	if !ok {
		return nil
	}
	at := r.reportOf(s, led, l.nodes)
	if at == nil {
		return nil
	}
	for i, m := range s.Members {
		if m.Role == learning && r.caughtUp(s, m, r.reportOf(s, m, l.nodes), at.GetAppliedIndex(), now) {
			s.Members[i].Role = ""
			news = append(news, fmt.Sprintf("shard %d: %s has caught up and becomes a voter", s.ID, m.Node))
		}
	}
	if len(news) > 0 {
		return news
	}
	var want []string
	for _, m := range s.Members {
		if m.Role == learning {
			return nil
		}
		if m.wanted() {
			want = append(want, m.id())
		}
	}
	slices.Sort(want)
	if len(at.GetLearners()) > 0 || !slices.Equal(want, at.GetVoters()) {
		return nil
	}
	var former []string
	s.Members = slices.DeleteFunc(s.Members, func(m member) bool {
		if !m.wanted() {
			former = append(former, m.id())
		}
		return !m.wanted()
	})
	return []string{fmt.Sprintf("shard %d: %s is a member no more", s.ID, strings.Join(former, ", "))}
}

// caughtUp judges a learner: within one round it must reach what the leader
// had applied when the round began.
func (r *run) caughtUp(s *shardPlace, m member, g *proto.GroupReport, leader uint64, now time.Time) bool {
	rounds := r.shards[s.ID].rounds
	if g == nil || g.GetError() != "" || !g.GetConfigured() || !g.GetHasData() {
		return false
	}
	began, ok := rounds[m.id()]
	if ok && g.GetAppliedIndex() < began.goal {
		return false
	}
	if ok && now.Sub(began.since) <= catchUpRound {
		delete(rounds, m.id())
		return true
	}
	rounds[m.id()] = round{since: now, goal: leader}
	return false
}

// plannerNodes describes the servers. One that has not been heard of since this
// leader was elected may still come back.
func (l *leader) plannerNodes(r *run, now time.Time) []placement.Node {
	nodes := map[string]placement.Node{}
	var largest uint64
	for _, g := range r.newest(l.nodes) {
		var bytes uint64
		for _, t := range g.GetTables() {
			bytes += t.GetStateBytes()
		}
		largest = max(largest, bytes)
	}
	for _, n := range l.nodes {
		if n.role != rolePS {
			continue
		}
		alive := n.alive(now)
		limit := n.report.GetMemoryLimit()
		nodes[n.name] = placement.Node{Name: n.name, Pool: n.report.GetPool(), Usable: alive && !l.draining[n.name],
			// Another shard, and the room for its snapshot.
			Full:     limit > 0 && n.report.GetMemoryBytes()+2*largest > limit,
			Draining: alive && l.draining[n.name], Gone: !alive && n.dead && now.Sub(n.deadSince) > l.replaceAfter}
	}
	for _, s := range r.place.Shards {
		for _, m := range s.Members {
			if _, known := nodes[m.Node]; !known && now.Sub(l.elected) > l.replaceAfter {
				nodes[m.Node] = placement.Node{Name: m.Node, Pool: m.Pool, Gone: true}
			}
		}
	}
	var all []placement.Node
	for _, name := range slices.Sorted(maps.Keys(nodes)) {
		all = append(all, nodes[name])
	}
	return all
}

func (l *leader) plannerShards(r *run, p *place, now time.Time) []placement.Shard {
	shards := make([]placement.Shard, len(p.Shards))
	for i := range p.Shards {
		s := &p.Shards[i]
		shards[i].Led = r.shards[s.ID].configured && r.leaderOf(*s, l.nodes, now) != ""
		for _, m := range s.Members {
			if !m.wanted() {
				shards[i].Former = append(shards[i].Former, m.Node)
				continue
			}
			shards[i].Replicas = append(shards[i].Replicas, placement.Replica{Node: m.Node, Learner: m.Role == learning,
				Lost: r.reportOf(s, m, l.nodes).GetLost() || r.shards[s.ID].diverged[m.id()]})
		}
	}
	return shards
}

// begin makes a move part of the plan.
func (l *leader) begin(s *shardPlace, m placement.Move) string {
	i := slices.IndexFunc(s.Members, func(o member) bool { return o.wanted() && o.Node == m.From })
	s.Members[i].Role = lost
	if m.InService() {
		s.Members[i].Role = leaving
	}
	s.Numbered++
	s.Members = append(s.Members, member{Node: m.To, Replica: s.Numbered, Address: l.nodes[m.To].address,
		Pool: l.nodes[m.To].report.GetPool(), Role: learning})
	return fmt.Sprintf("shard %d: its replica on %s is replaced by one on %s, because %s", s.ID, m.From, m.To, m.Reason)
}

// noteMemory ends the job before a server that holds some of it ends for want of
// memory. Leaders refuse pushes by their own memory; this is for the others.
func (r *run) noteMemory(n *node) {
	used, limit := n.report.GetMemoryBytes(), n.report.GetMemoryLimit()
	if limit == 0 || used <= limit || r.place == nil {
		return
	}
	for i := range r.place.Shards {
		if _, ok := r.place.Shards[i].hosted(n.name); ok {
			r.fail(false, "parameter server %s needs %d bytes for its rows and a snapshot of them, its limit is %d: "+
				"add parameter servers, which take replicas over (fathom ps), raise --memory-limit, or give the job fewer or narrower rows", n.name, used, limit)
			return
		}
	}
}

// leaders returns, by shard, which node should lead in place of the one that
// does; see placement.Leaders.
func (l *leader) leaders(r *run, now time.Time) []string {
	shards := make([]placement.Led, len(r.place.Shards))
	var seen []string
	for i := range r.place.Shards {
		s := &r.place.Shards[i]
		shards[i].Leader = r.leaderOf(*s, l.nodes, now)
		seen = append(seen, shards[i].Leader)
		for _, m := range s.Members {
			n := l.nodes[m.Node]
			if g := r.reportOf(s, m, l.nodes); m.Role == "" && n != nil && n.alive(now) && !l.draining[m.Node] &&
				g != nil && g.GetError() == "" && g.GetConfigured() && !r.shards[s.ID].diverged[m.id()] {
				shards[i].Candidates = append(shards[i].Candidates, m.Node)
			}
		}
	}
	if !slices.Equal(seen, r.leadersSeen) {
		r.leadersSeen, r.leadersSince = seen, now
	}
	if !r.place.Formed || r.ended() || now.Sub(r.leadersSince) < leadersStable || slices.Contains(seen, "") {
		return make([]string, len(shards))
	}
	return placement.Leaders(shards)
}

// hashAt is the state hash a replica reports of a version, or "".
func hashAt(g *proto.GroupReport, version uint64) string {
	if g.GetVersion() == version && len(g.GetHash()) == hashBytes {
		return string(g.GetHash())
	}
	for _, m := range g.GetMarks() {
		if m.GetVersion() == version && len(m.GetHash()) == hashBytes {
			return string(m.GetHash())
		}
	}
	return ""
}

// compareHashes looks for replicas at the same version in another state. When
// most agree, the others are given up, unless they have answered pulls: then
// wrong rows may have reached the model. When none is in the majority, nobody
// knows which one is right.
func (r *run) compareHashes(s *shardPlace, version uint64, nodes map[string]*node, now time.Time) {
	if r.job.Async() && version < r.plan.lastStep {
		return // in the middle, lanes behind the version are applied here and not yet there
	}
	byHash := map[string][]member{}
	voters, pending := 0, 0
	for _, m := range s.Members {
		g := r.reportOf(s, m, nodes)
		if m.votes() {
			voters++
		}
		switch {
		case g == nil || g.GetError() != "" || r.shards[s.ID].diverged[m.id()]:
		case hashAt(g, version) != "":
			byHash[hashAt(g, version)] = append(byHash[hashAt(g, version)], m)
		case m.votes() && nodes[m.Node].alive(now) && (g.GetVersion() < version || version < r.plan.lastStep):
			pending++ // it will be at this version, or all will meet again at a later one
		}
	}
	if len(byHash) < 2 {
		return
	}
	hashes := slices.Sorted(maps.Keys(byHash))
	var which []string
	for _, h := range hashes {
		for _, m := range byHash[h] {
			which = append(which, fmt.Sprintf("%s on %s", hex.EncodeToString([]byte(h)), m.Node))
		}
	}
	slices.SortFunc(which, func(a, b string) int { return strings.Compare(a[2*hashBytes:], b[2*hashBytes:]) })
	for _, h := range hashes {
		if 2*len(byHash[h]) <= voters {
			continue
		}
		for _, other := range hashes {
			for _, m := range byHash[other] {
				switch {
				case other == h:
				case r.reportOf(s, m, nodes).GetServed():
					r.fail(false, "shard %d differs between its replicas at step %d: %s; the one on %s is wrong and has answered pulls, so it may have reached the model",
						s.ID, version, strings.Join(which, ", "), m.Node)
				default:
					r.shards[s.ID].diverged[m.id()] = true
				}
			}
		}
		return
	}
	if pending == 0 {
		r.fail(false, "shard %d differs between its replicas at step %d: %s", s.ID, version, strings.Join(which, ", "))
	}
}
