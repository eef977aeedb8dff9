package sim

import (
	"math"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// openSteps bounds the steps that the model of a shard holds open.
const openSteps = 8

// shardModel is what a shard is to its callers: pushes fill the lanes of steps,
// a step whose lanes are all there is applied after the one before it, and a
// pull of a version is answered once that version is reached. A push that got
// no answer may have happened at any time since, or never.
func shardModel(lanes int) porcupine.Model {
	type state struct {
		version uint64
		open    [openSteps]uint16 // lanes of the steps after version
	}
	return porcupine.Model{
		Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
			byShard := map[uint32][]porcupine.Operation{}
			for _, op := range history {
				s := op.Input.(operation).shard
				byShard[s] = append(byShard[s], op)
			}
			var all [][]porcupine.Operation
			for _, ops := range byShard {
				all = append(all, ops)
			}
			return all
		},
		Init: func() any { return state{} },
		Step: func(at, input, _ any) (bool, any) {
			s, op := at.(state), input.(operation)
			if !op.push {
				return s.version >= op.step, s
			}
			if op.step <= s.version {
				return true, s // a copy
			}
			if op.step > s.version+openSteps {
				return false, s
			}
			s.open[op.step-s.version-1] |= 1 << op.lane
			for s.open[0] == 1<<lanes-1 {
				s.version++
				copy(s.open[:], s.open[1:])
				s.open[openSteps-1] = 0
			}
			return true, s
		},
		Equal: func(a, b any) bool { return a.(state) == b.(state) },
	}
}

// linearizable reports whether the calls of a run could have happened one after
// the other, each between its beginning and its end.
func linearizable(ops []operation, limit time.Duration) porcupine.CheckResult {
	var history []porcupine.Operation
	clients := map[string]int{}
	for _, op := range ops {
		if !op.ok && !op.push {
			continue // a pull without an answer says nothing
		}
		if _, known := clients[op.client]; !known {
			clients[op.client] = len(clients)
		}
		end := op.end
		if !op.ok {
			end = math.MaxInt64
		}
		history = append(history, porcupine.Operation{ClientId: clients[op.client], Input: op, Call: op.begin, Return: end})
	}
	return porcupine.CheckOperationsTimeout(shardModel(lanes), history, limit)
}

// TestHistoriesThatAreNotLinearizableAreFound keeps the check honest: a pull of
// a version that no push could have brought about, and a version reached although
// an acknowledged lane is the only one.
func TestHistoriesThatAreNotLinearizableAreFound(t *testing.T) {
	push := func(step uint64, lane uint16, begin, end int64) operation {
		return operation{push: true, step: step, lane: lane, begin: begin, end: end, ok: true}
	}
	pull := func(version uint64, begin, end int64) operation {
		return operation{step: version, begin: begin, end: end, ok: true}
	}
	for name, c := range map[string]struct {
		ops  []operation
		want porcupine.CheckResult
	}{
		"in order":                      {[]operation{push(1, 0, 1, 2), push(1, 1, 3, 4), pull(1, 5, 6)}, porcupine.Ok},
		"pull waits for its version":    {[]operation{pull(1, 1, 6), push(1, 0, 2, 3), push(1, 1, 4, 5)}, porcupine.Ok},
		"push without an answer":        {[]operation{push(1, 0, 1, 2), {push: true, step: 1, lane: 1, begin: 3}, pull(1, 5, 6)}, porcupine.Ok},
		"a copy":                        {[]operation{push(1, 0, 1, 2), push(1, 0, 3, 4), push(1, 1, 5, 6), push(1, 1, 7, 8), pull(1, 9, 10)}, porcupine.Ok},
		"a lane is missing":             {[]operation{push(1, 0, 1, 2), pull(1, 5, 6)}, porcupine.Illegal},
		"answered before the last push": {[]operation{push(1, 0, 1, 2), pull(1, 3, 4), push(1, 1, 5, 6)}, porcupine.Illegal},
	} {
		if got := linearizable(c.ops, time.Minute); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
