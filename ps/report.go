package ps

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/fathom-train/fathom/proto"
	"github.com/fathom-train/fathom/ps/fsm"
	"github.com/fathom-train/fathom/ps/replica"
)

// role is what a server calls itself to the coordinator.
const role = "ps"

// report tells the coordinator what is.
func (s *Server) report() *proto.NodeReport {
	s.mu.Lock()
	s.reported = time.Now()
	obeyed := s.obeyed
	s.mu.Unlock()
	r := &proto.NodeReport{
		Node: s.cfg.Node, Role: role, Address: s.cfg.Advertise, Pool: s.cfg.Pool, MetricsAddress: s.cfg.MetricsAddress,
		Incarnation: s.incarnation, CpuSeconds: cpuSeconds(), OrderRevision: obeyed,
	}
	held, copied := s.use()
	r.MemoryBytes, r.MemoryLimit = held+copied, s.memory.limit
	for _, h := range s.all() {
		r.Groups = append(r.Groups, h.report())
	}
	slices.SortFunc(r.Groups, func(a, b *proto.GroupReport) int {
		return cmp.Or(cmp.Compare(a.Job, b.Job), cmp.Compare(a.Shard, b.Shard))
	})
	return r
}

// Ready tells why the server should not be counted on yet: a replica that is
// out of service, or that knows no leader. It does not look at who leads.
func (s *Server) Ready() error {
	s.mu.RLock()
	obeyed := s.obeyed
	s.mu.RUnlock()
	if obeyed == 0 {
		return errors.New("no order of the coordinator yet")
	}
	for _, h := range s.all() {
		o := h.ordered()
		g, err := h.replica()
		if err != nil {
			return fmt.Errorf("shard %d: %w", o.GetShard(), err)
		}
		if node, _ := g.Leader(); node == "" {
			return fmt.Errorf("shard %d: no leader is known", o.GetShard())
		}
	}
	return nil
}

func (h *hosted) report() *proto.GroupReport {
	o := h.ordered()
	r := &proto.GroupReport{
		Job: o.GetJob(), Shard: o.GetShard(),
		HasData: replica.HasData(h.dir(o)),
		Replica: o.GetReplica(),
	}
	g, err := h.replica()
	if errors.Is(err, errOpening) {
		return r // not in service yet, and nothing is wrong
	}
	if err != nil {
		r.Error, r.Lost, r.Unusable = err.Error(), lost(err), errors.Is(err, errCheckpoint)
		return r
	}
	r.Served = h.served.Load()
	h.mu.RLock()
	r.Checkpoint = h.checkpoint
	h.mu.RUnlock()
	members := g.Configuration()
	r.Voters, r.Learners = members.Voters, members.Learners
	r.LeaderNode, r.Leader = g.Leader()
	g.Inspect(func(state *fsm.State) {
		r.AppliedIndex = state.Applied()
		var hash [16]byte
		for again := true; again; {
			r.Version, r.Configured = state.Version()
			hash = state.Hash()
			version, configured := state.Version()
			again = version != r.Version || configured != r.Configured // the hash belongs to the version
		}
		if r.Configured {
			r.Hash = hash[:]
		}
		r.Tables = tablesOf(state.Stats())
		r.Marks = marksOf(state, r.Version)
	})
	return r
}

// Replicas are rarely reported at the same version while steps go on. So the
// hashes of the last marks versions that are multiples of markEvery are reported,
// too: two replicas that are less than a second apart have some in common.
const markEvery, marks = 256, 4

func marksOf(state *fsm.State, version uint64) []*proto.HashMark {
	var all []*proto.HashMark
	for i := range uint64(marks) {
		at := version / markEvery
		if at <= i {
			break
		}
		at = (at - i) * markEvery
		for _, h := range state.Hashes(at, 1) {
			if h.Version != at {
				continue // restored behind it
			}
			sum := fsm.SumHashes(h.Parts...)
			all = append(all, &proto.HashMark{Version: at, Hash: sum[:]})
		}
	}
	return all
}

// tablesOf lists the columns of all tables, then the dense tensors.
func tablesOf(stats fsm.Stats) []*proto.TableStatus {
	if !stats.Configured {
		return nil
	}
	var all []*proto.TableStatus
	for _, t := range stats.Tables {
		for _, c := range t.Columns {
			all = append(all, &proto.TableStatus{
				Name: c.Name, Rows: t.Rows, Parameters: c.Parameters, Bytes: c.Bytes, StateBytes: c.StateBytes,
			})
		}
	}
	if stats.Dense.Tensors > 0 {
		all = append(all, &proto.TableStatus{
			Name: "dense", Parameters: stats.Dense.Parameters, Bytes: stats.Dense.Bytes, StateBytes: stats.Dense.StateBytes,
		})
	}
	return all
}
