package coordinator

import (
	"encoding/binary"
	"encoding/hex"
	"math/bits"
	"time"

	"github.com/fathom-train/fathom/proto"
)

const (
	// hashBytes is the length of a shard's state hash.
	hashBytes = 16
	// replicasGrace is how long the end of a job waits for the replicas that
	// lag behind, so that theirs are compared as well.
	replicasGrace = 5 * time.Second
)

// addHash adds the 128-bit little-endian number b to a, without carry out: the
// sum over shards does not depend on how the rows are sharded.
func addHash(a, b [hashBytes]byte) [hashBytes]byte {
	lo, carry := bits.Add64(binary.LittleEndian.Uint64(a[:8]), binary.LittleEndian.Uint64(b[:8]), 0)
	hi, _ := bits.Add64(binary.LittleEndian.Uint64(a[8:]), binary.LittleEndian.Uint64(b[8:]), carry)
	var sum [hashBytes]byte
	binary.LittleEndian.PutUint64(sum[:8], lo)
	binary.LittleEndian.PutUint64(sum[8:], hi)
	return sum
}

// final returns, for every shard, the report of a replica at exactly the last
// step; ok is false while one is missing or a living replica lags behind and
// may still be waited for.
func (r *run) final(nodes map[string]*node, now time.Time) (groups []*proto.GroupReport, ok bool) {
	lagging := false
	for _, s := range r.place.Shards {
		var at *proto.GroupReport
		for _, m := range s.Members {
			n := nodes[m.Node]
			if n == nil || !m.votes() || r.shards[s.ID].diverged[m.id()] {
				continue
			}
			g := r.reportOf(&s, m, nodes)
			switch {
			case g != nil && g.GetError() != "":
			case g != nil && g.GetVersion() == r.plan.lastStep && len(g.GetHash()) == hashBytes:
				if at == nil {
					at = g
				}
			case n.alive(now):
				lagging = true
			}
		}
		if at == nil {
			return nil, false
		}
		groups = append(groups, at)
	}
	if r.finalSince.IsZero() {
		r.finalSince = now
	}
	return groups, !lagging || now.Sub(r.finalSince) > replicasGrace
}

// modelHash is the hash of the whole model: the bytes of the shards' sum in
// hex, in their order.
func modelHash(groups []*proto.GroupReport) string {
	var sum [hashBytes]byte
	for _, g := range groups {
		sum = addHash(sum, [hashBytes]byte(g.GetHash()))
	}
	return hex.EncodeToString(sum[:])
}

// sumTables adds the tables of equal names, in the order they first appear.
func sumTables(groups []*proto.GroupReport) []*proto.TableStatus {
	var all []*proto.TableStatus
	byName := make(map[string]*proto.TableStatus)
	for _, g := range groups {
		for _, t := range g.GetTables() {
			sum := byName[t.GetName()]
			if sum == nil {
				sum = &proto.TableStatus{Name: t.GetName()}
				byName[t.GetName()] = sum
				all = append(all, sum)
			}
			sum.Rows += t.GetRows()
			sum.Parameters += t.GetParameters()
			sum.Bytes += t.GetBytes()
			sum.StateBytes += t.GetStateBytes()
		}
	}
	return all
}

// newest returns, for every shard, the report of a replica with the largest
// version; shards nobody reports are left out.
func (r *run) newest(nodes map[string]*node) []*proto.GroupReport {
	if r.place == nil {
		return nil
	}
	var groups []*proto.GroupReport
	for _, s := range r.place.Shards {
		var at *proto.GroupReport
		for _, m := range s.Members {
			if g := r.reportOf(&s, m, nodes); g != nil && g.GetError() == "" && (at == nil || g.GetVersion() > at.GetVersion()) {
				at = g
			}
		}
		if at != nil {
			groups = append(groups, at)
		}
	}
	return groups
}
