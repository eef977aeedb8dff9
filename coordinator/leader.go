package coordinator

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fathom-train/fathom/coordinator/store"
	"github.com/fathom-train/fathom/proto"
)

const (
	// tick is how often time alone is looked at: nodes that fell silent,
	// progress, scores to wait for.
	tick = 100 * time.Millisecond
	// storeTimeout bounds one write; a store that takes longer is unreachable.
	storeTimeout = 5 * time.Second
	// settleTime is how long a new leader lets workers go on with the orders of
	// the one before, so that all of them are back before lanes are shared out.
	settleTime = time.Second
	// revisionBits is the part of an order's revision that counts within a
	// leader's term; the term is above it, so that revisions grow for ever.
	revisionBits = 28
)

// leader is the state of a coordinator while it leads. Two rules keep it
// simple: everything in memory is guarded by mu, and every phase change is
// decided, written to the store and only then installed, one at a time
// (commit). When a write fails in any way the leader steps down: the next one
// reads what was really stored.
type leader struct {
	keys    keys
	rights  store.Leadership
	self    store.Candidate
	log     *slog.Logger
	metrics *metrics
	elected time.Time
	// replaceAfter is how long a server may be gone before others take over its
	// replicas.
	replaceAfter time.Duration
	wake         chan struct{} // capacity 1: something was reported
	done         chan struct{} // closed when the leadership ended
	failed       chan error    // capacity 1: a write failed

	// writing serialises commits; it is taken before mu.
	writing sync.Mutex
	// side are the goroutines that talk to the store of checkpoints.
	side sync.WaitGroup

	// mu guards everything below and all nodes, entries and runs.
	mu       sync.Mutex
	nodes    map[string]*node
	attempts uint64   // at checkpoints, for their names
	entries  []*entry // ascending numbers
	run      *run     // the active job, or the one whose groups are still hosted
	revision uint64   // of the newest order
	draining map[string]bool
	// identity is that of the store.
	identity string
}

// write is a decided change: what is stored, and what is done in memory once
// it is. apply runs under mu.
type write struct {
	ops   []store.Op
	apply func()
}

// newLeader reads the stored state.
func newLeader(ctx context.Context, s *Service, rights store.Leadership) (*leader, error) {
	l := &leader{
		keys: s.keys, rights: rights, self: s.self, log: s.log, metrics: s.metrics, elected: time.Now(),
		wake: make(chan struct{}, 1), done: make(chan struct{}), failed: make(chan error, 1),
		nodes: make(map[string]*node), revision: uint64(rights.Term()) << revisionBits,
	}
	if err := l.identify(ctx, s.store); err != nil {
		return nil, err
	}
	l.replaceAfter, l.draining = s.replaceAfter, make(map[string]bool)
	drained, err := s.store.Range(ctx, l.keys.drained(""))
	if err != nil {
		return nil, fmt.Errorf("load drained servers: %w", err)
	}
	for _, d := range drained {
		l.draining[strings.TrimPrefix(d.Key, l.keys.drained(""))] = true
	}
	stored, err := s.store.Range(ctx, l.keys.jobs())
	if err != nil {
		return nil, fmt.Errorf("load jobs: %w", err)
	}
	if l.entries, err = l.keys.decodeEntries(stored); err != nil {
		return nil, fmt.Errorf("load jobs: %w", err)
	}
	for _, e := range l.entries {
		// The job that is under way, else the last that had groups.
		active := !e.ended() && e.phase() != proto.Phase_PHASE_PENDING
		if !active && e.place == nil {
			continue
		}
		if l.run, err = newRun(e); err != nil {
			return nil, fmt.Errorf("load jobs: %w", err)
		}
		if active {
			break
		}
	}
	return l, nil
}

// identify reads the identity of the store, which the first leader of all makes.
// It tells a store that was lost, or is another one, from the one that a server's
// data belong to.
func (l *leader) identify(ctx context.Context, s store.Store) error {
	e, err := s.Get(ctx, l.keys.identity())
	if err == nil {
		l.identity = string(e.Value)
		return nil
	}
	if !errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("load the store's identity: %w", err)
	}
	l.identity = rand.Text()
	if err := l.rights.Write(ctx, store.Put(l.keys.identity(), []byte(l.identity))); err != nil {
		return fmt.Errorf("store the store's identity: %w", err)
	}
	return nil
}

// lead acts until the leadership ends and says why.
func (l *leader) lead(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		close(l.done)
		cancel()
		l.side.Wait()
	}()
	look := time.NewTicker(tick)
	defer look.Stop()
	for {
		if err := l.reconcile(ctx); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-l.rights.Done():
			return store.ErrFenced
		case err := <-l.failed:
			return err
		case <-l.wake:
		case <-look.C:
		}
	}
}

// reconcile makes all phase changes that are due, then tells the nodes.
func (l *leader) reconcile(ctx context.Context) error {
	for {
		l.mergeScores()
		changed := false
		err := l.commit(ctx, func(now time.Time) (*write, error) {
			w := l.decide(now)
			changed = w != nil
			return w, nil
		})
		if err != nil {
			return err
		}
		if !changed {
			break
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	l.shareOut(now)
	l.tendCheckpoint(ctx, now)
	l.refreshOrders(now)
	l.observe(now)
	return nil
}

// commit decides a change, stores it and installs it. decide may refuse with
// an error, which commit returns; a write that failed ends the leadership.
func (l *leader) commit(ctx context.Context, decide func(now time.Time) (*write, error)) error {
	l.writing.Lock()
	defer l.writing.Unlock()
	l.mu.Lock()
	w, err := decide(time.Now())
	l.mu.Unlock()
	if w == nil || err != nil {
		return err
	}
	// The caller of a request may leave; the write must be known to have
	// happened or not all the same.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), storeTimeout)
	defer cancel()
	begin := time.Now()
	err = l.rights.Write(ctx, w.ops...)
	l.metrics.writeSeconds.Observe(time.Since(begin).Seconds())
	if err != nil {
		err = &storeError{err}
		select {
		case l.failed <- err:
		default:
		}
		return err
	}
	l.mu.Lock()
	w.apply()
	l.mu.Unlock()
	l.poke()
	return nil
}

// storeError is a write that failed or may have failed.
type storeError struct{ err error }

func (e *storeError) Error() string { return "write job state: " + e.err.Error() }
func (e *storeError) Unwrap() error { return e.err }

func isStoreError(err error) bool {
	var s *storeError
	return errors.As(err, &s)
}

// poke makes the leader look at its state now.
func (l *leader) poke() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// live lists the living nodes of a role by name. The caller holds mu, as for
// everything below.
func (l *leader) live(role string, now time.Time) []*node {
	var nodes []*node
	for _, n := range l.nodes {
		if n.role == role && n.alive(now) {
			nodes = append(nodes, n)
		}
	}
	slices.SortFunc(nodes, func(a, b *node) int { return strings.Compare(a.name, b.name) })
	return nodes
}

// expire notes which nodes came and went, and forgets those long gone.
func (l *leader) expire(now time.Time) {
	for name, n := range l.nodes {
		dead := !n.alive(now)
		if dead && !n.dead {
			n.deadSince = now
			l.log.Warn("node is gone", "node", name, "role", n.role)
		}
		if !dead && n.dead {
			l.log.Info("node is back", "node", name, "role", n.role)
		}
		n.dead = dead
		if dead && n.link == nil && now.Sub(n.deadSince) > nodeForget {
			delete(l.nodes, name)
		}
	}
}

// find returns the newest job of that name, or the newest of all.
func (l *leader) find(name string) *entry {
	for _, e := range slices.Backward(l.entries) {
		if name == "" || e.name == name {
			return e
		}
	}
	return nil
}

// active returns the run of the job under way, or nil.
func (l *leader) active() *run {
	if l.run == nil || l.run.ended() {
		return nil
	}
	return l.run
}

// setPlan is the write that moves a job on. change works on a copy.
func (l *leader) setPlan(e *entry, now time.Time, change func(p *plan)) *write {
	p := e.plan.clone()
	change(p)
	before, after := e.phase(), p.status.GetPhase()
	moved := before != after || e.plan.split != p.split || e.plan.status.GetEpoch() != p.status.GetEpoch()
	if moved {
		if before == proto.Phase_PHASE_TRAINING {
			p.status.TrainSeconds += seconds(now.Sub(time.Unix(0, p.enteredNano)))
		}
		p.enteredNano = now.UnixNano()
	}
	b, err := p.encode()
	if err != nil {
		panic(fmt.Sprintf("coordinator: BUG: %v", err))
	}
	return &write{ops: []store.Op{store.Put(l.keys.plan(e.number), b)}, apply: func() {
		e.plan = p
		if !moved {
			return
		}
		l.metrics.phaseChanges.WithLabelValues(phaseName(after)).Inc()
		attrs := []any{"job", e.name, "phase", phaseName(after), "epoch", p.status.GetEpoch()}
		if p.split != "" {
			attrs = append(attrs, "split", p.split)
		}
		if p.status.GetError() != "" {
			attrs = append(attrs, "error", p.status.GetError())
		}
		l.log.Info("job enters phase", attrs...)
	}}
}

func phaseName(p proto.Phase) string {
	return strings.ToLower(strings.TrimPrefix(p.String(), "PHASE_"))
}

func seconds(d time.Duration) float64 { return max(0, d.Seconds()) }
