package sim

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/fathom-train/fathom/compute/optim"
	"github.com/fathom-train/fathom/compute/random"
	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/fathom-train/fathom/ps/wire"
	"github.com/fathom-train/fathom/shard"
)

// asyncStaleness is by how many steps a lane may be ahead, asyncRate the learning
// rate.
const asyncStaleness, asyncRate = 2, 0.5

// async makes the job of mode async with plain descent from equal weights: a row
// then ends at its beginning minus the sum of its gradients, in whatever order
// they were applied, and what was lost or counted twice shows.
func async(j *job.Job) {
	staleness := asyncStaleness
	j.Spec.Train.Mode, j.Spec.Train.Staleness = job.ModeAsync, &staleness
	j.Spec.Train.Optimizer = optim.Config{Name: optim.SGD, LearningRate: asyncRate}
	j.Spec.Train.EmbeddingInit = random.Init{Kind: "constant", Scale: 0.1}
}

// ledger keeps what workers push in mode async and what the rows are at the end.
type ledger struct {
	mu sync.Mutex
	// run is the first one seen: that of the job, not of one from its checkpoint.
	run    uint64
	lanes  map[laneKey]*laneEntry
	rows   map[rowKey][]float32 // after the last step
	widths map[uint16]int
}

type laneKey struct {
	shard uint32
	step  uint64
	lane  uint16
}

// laneEntry is what was pushed of a lane to a shard.
type laneEntry struct {
	// attempts are the gradients by row of every computation of the lane. One of
	// them is applied; which, only the shard knows.
	attempts map[uint32]map[rowKey][]float32
	// begun is when the first push began, acknowledged when the first was answered.
	begun, acknowledged int64
}

type rowKey struct {
	table uint16
	key   shard.Key
}

func newLedger() *ledger {
	return &ledger{lanes: map[laneKey]*laneEntry{}, rows: map[rowKey][]float32{}, widths: map[uint16]int{}}
}

// pushed notes a push; done is called with the time at which it was answered.
func (l *ledger) pushed(body []byte, begun int64) (done func(int64), err error) {
	h, chunks, err := wire.ParsePushBody(body)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.run == 0 {
		l.run = h.Run
	}
	if h.Run != l.run {
		return func(int64) {}, nil
	}
	var e *laneEntry
	for _, chunk := range chunks {
		var p wire.Push
		if err := wire.ParsePush(chunk, &p); err != nil {
			return nil, err
		}
		k := laneKey{h.Shard, p.ID.Step, p.ID.Lane}
		if e = l.lanes[k]; e == nil {
			e = &laneEntry{attempts: map[uint32]map[rowKey][]float32{}, begun: begun, acknowledged: math.MaxInt64}
			l.lanes[k] = e
		}
		if e.attempts[p.ID.Attempt] == nil {
			e.attempts[p.ID.Attempt] = map[rowKey][]float32{}
		}
		for _, r := range p.Rows {
			l.widths[r.Table] = r.Width
			for i, key := range r.Keys {
				e.attempts[p.ID.Attempt][rowKey{r.Table, key}] = slices.Clone(r.Grads[i*r.Width:][:r.Width])
			}
		}
	}
	return func(at int64) {
		l.mu.Lock()
		defer l.mu.Unlock()
		e.acknowledged = min(e.acknowledged, at)
	}, nil
}

// pulled notes the rows of an answer that shows the state after the last step.
func (l *ledger) pulled(request, reply []byte) error {
	var q wire.PullRequest
	if err := wire.ParsePullRequest(request, &q); err != nil {
		return err
	}
	_, values, err := wire.ParsePullReply(reply)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if q.Run != l.run || q.Version != steps {
		return nil
	}
	for _, t := range q.Tables {
		width := l.widths[t.Table]
		for _, key := range t.Keys {
			row := slices.Clone(values[:width])
			values = values[width:]
			k := rowKey{t.Table, key}
			if was, known := l.rows[k]; known && !slices.Equal(was, row) {
				return fmt.Errorf("row %d of shard %d is %v and %v after the last step", key, q.Shard, was, row)
			}
			l.rows[k] = row
		}
	}
	return nil
}

// check returns what is wrong at the end of a job, and how many rows could be
// judged: not those in lanes that were computed more than once.
func (l *ledger) check() (wrong []string, judged int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.lanes) != shards*lanes*steps {
		wrong = append(wrong, fmt.Sprintf("%d lanes were pushed to a shard, want %d", len(l.lanes), shards*lanes*steps))
	}
	wrong = append(wrong, l.tooFarAhead()...)
	sums, unclear := map[rowKey][]float64{}, map[rowKey]bool{}
	for _, e := range l.lanes {
		for _, rows := range e.attempts {
			for k, gradient := range rows {
				if sums[k] == nil {
					sums[k] = make([]float64, len(gradient))
				}
				for i, g := range gradient {
					sums[k][i] += float64(g)
				}
				unclear[k] = unclear[k] || len(e.attempts) > 1
			}
		}
	}
	// Where the rows of a table began is the same for all.
	begins := map[uint16][][]float64{} // by column
	var names []rowKey
	for k, row := range l.rows {
		if unclear[k] {
			continue
		}
		if begins[k.table] == nil {
			begins[k.table] = make([][]float64, len(row))
		}
		names = append(names, k)
	}
	slices.SortFunc(names, func(a, b rowKey) int { return cmp.Or(cmp.Compare(a.table, b.table), cmp.Compare(a.key, b.key)) })
	began := func(k rowKey, i int) float64 {
		b := float64(l.rows[k][i])
		if sums[k] != nil {
			b += asyncRate / lanes * sums[k][i]
		}
		return b
	}
	for _, k := range names {
		for i := range l.rows[k] {
			begins[k.table][i] = append(begins[k.table][i], began(k, i))
		}
	}
	for _, all := range begins {
		for _, column := range all {
			slices.Sort(column)
		}
	}
	for _, k := range names {
		for i := range l.rows[k] {
			column := begins[k.table][i]
			if off := began(k, i) - column[len(column)/2]; math.Abs(off) > 1e-5 {
				wrong = append(wrong, fmt.Sprintf("weight %d of row %d is off by %g from what was pushed", i, k.key, off))
			}
		}
	}
	return wrong, len(names)
}

// tooFarAhead finds lanes that were acknowledged before one was sent that is too
// far behind them. The caller holds mu.
func (l *ledger) tooFarAhead() (wrong []string) {
	for k, e := range l.lanes {
		for other, behind := range l.lanes {
			if other.shard == k.shard && other.step+asyncStaleness < k.step && behind.begun > e.acknowledged {
				wrong = append(wrong, fmt.Sprintf("lane %d of step %d was acknowledged by shard %d before lane %d of step %d was sent",
					k.lane, k.step, k.shard, other.lane, other.step))
			}
		}
	}
	return wrong
}

// simulateAsync runs the job of mode async under a schedule.
func simulateAsync(t *testing.T, random uint64, s schedule, alter func(*cluster)) (found []string) {
	t.Helper()
	l := newLedger()
	o, found := trySimulate(t, "async-", random, s, newTruth(), func(c *cluster) {
		c.change, c.calls.ledger = async, l
		if alter != nil {
			alter(c)
		}
	})
	if len(found) > 0 {
		return found
	}
	wrong, judged := l.check()
	seen.add(asyncDone, 1)
	seen.add(asyncRows, judged)
	if o.status.GetStep() != steps {
		wrong = append(wrong, fmt.Sprintf("the job ends at step %d", o.status.GetStep()))
	}
	return wrong
}

// TestAsyncSimulation runs the schedules with a job of mode async: every lane is
// applied exactly once on every shard, none is too far ahead of another, and the
// replicas are equal in the end.
func TestAsyncSimulation(t *testing.T) {
	n := seriesOf(t) / asyncShare
	began := time.Now()
	t.Cleanup(func() {
		fmt.Printf("%d schedules of mode async, %s, %d rows judged\n", n, rates(began), seen.of(asyncRows))
	})
	for i := range uint64(n) {
		seed := *first + i
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			s := plan(seed)
			for k := range *repeat {
				for _, f := range simulateAsync(t, seed<<16+uint64(k), s, nil) {
					t.Error(f)
				}
			}
			if t.Failed() {
				t.Logf("%v\nreplay: go test ./e2e/sim -run TestAsyncSimulation -sim.first=%d -sim.seeds=%d -sim.repeat=20 -sim.log -v", s, seed, asyncShare)
			}
		})
	}
}

// asyncShare is how many schedules of mode sync there are for one of mode async.
const asyncShare = 5
