package fsm

import (
	"testing"

	"pgregory.net/rapid"

	"github.com/fathom-train/fathom/compute/exact"
	"github.com/fathom-train/fathom/ps/wire"
	"github.com/fathom-train/fathom/shard"
)

// TestSumsAndPushesInAnyOrder delivers the pushes of the open steps and the
// sums over the shards as a network does: in any order, more than once, with
// snapshots and restores in between. The model is that of the ordered delivery.
func TestSumsAndPushesInAnyOrder(t *testing.T) {
	t.Parallel()
	const lanes, steps, shards = 2, 4, 2
	schema := reducing(lanes)
	schema.PipelineDepth, schema.PreImages = 1, 3
	// train makes a number of deliveries at random, and then those that are due.
	train := func(t rapid.TB, random int, draw func(n int) int) (model [16]byte) {
		m, placed := shard.Even(shards), make([]shard.ID, len(schema.Dense)) // tensors on the first shard
		var states []*State
		for at := range shards {
			states = append(states, configured(t, onShard(schema, at)))
		}
		index := make([]uint64, shards)
		give := func(at int, cmd []byte) {
			index[at]++
			// A command belongs to the state that applies it.
			r := states[at].Apply(index[at], append([]byte(nil), cmd...))
			if r.Status != Accepted && r.Status != Duplicate && r.Status != Ahead {
				t.Fatalf("shard %d: %v: %v", at, r.Status, r.Err)
			}
		}
		push := func(at int, step uint64, lane int) {
			for _, cmd := range labour(schema, step, lane).commands(schema, step, lane, m, at, placed) {
				give(at, cmd)
			}
		}
		reduce := func(at int, step uint64, round int) {
			if r, ok := known(states, step, round); ok {
				give(at, wire.AppendReduce(nil, r))
			}
		}
		version := func(at int) uint64 { v, _ := states[at].Version(); return v }
		for range random {
			at := draw(shards)
			switch draw(8) {
			case 0:
				states[at] = reopened(t, states[at])
			case 1, 2, 3:
				// The next round, or one that was there before.
				reduce(at, max(version(at), 1)+uint64(draw(2)), draw(2))
			default:
				push(at, min(max(version(at), 1)+uint64(draw(3)), steps), draw(lanes))
			}
		}
		for step := uint64(1); step <= steps; step++ {
			for at := range states {
				for lane := range lanes {
					push(at, step, lane)
				}
			}
			for round := range 2 {
				for at := range states {
					if version(at) < step {
						reduce(at, step, round)
					}
				}
			}
		}
		var hashes [][16]byte
		for at, st := range states {
			if version(at) != steps {
				t.Fatalf("shard %d is at version %d, want %d", at, version(at), steps)
			}
			hashes = append(hashes, st.Hash())
			st.Close()
		}
		return SumHashes(hashes...)
	}
	want := train(t, 0, nil)
	rapid.Check(t, func(t *rapid.T) {
		draw := func(n int) int { return rapid.IntRange(0, n-1).Draw(t, "turn") }
		if got := train(t, 60, draw); got != want {
			t.Fatalf("the model hashes to %x, want %x", got, want)
		}
	})
}

// known returns the sums of a round as a worker finds them: a shard has them
// already, or every shard has its part.
func known(states []*State, step uint64, round int) (r wire.Reduce, ok bool) {
	r = wire.Reduce{Run: run, Step: step, Round: uint32(round)}
	var sums []exact.Sum
	parts := 0
	for _, st := range states {
		p, err := st.Partial(run, step, round)
		if err != nil {
			continue
		}
		if p.Totals != nil {
			r.Totals = p.Totals
			return r, true
		}
		if sums == nil {
			sums = make([]exact.Sum, len(p.Sums))
		}
		for i, s := range p.Sums {
			sums[i].Merge(s)
		}
		parts++
	}
	for _, s := range sums {
		r.Totals = append(r.Totals, s.Float64())
	}
	return r, parts == len(states)
}
