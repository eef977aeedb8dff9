package store

import (
	"context"
	"slices"
	"strings"
	"sync"
)

// Memory is the twin of an etcd cluster within one process: what it holds ends
// with it. Several coordinators share one, each through its own Open.
type Memory struct {
	// mu guards everything below.
	mu        sync.Mutex
	revision  int64
	entries   map[string]Entry
	elections map[string][]*memoryLeadership // candidates in order; the first leads
}

// NewMemory returns an empty memory store.
func NewMemory() *Memory {
	return &Memory{entries: map[string]Entry{}, elections: map[string][]*memoryLeadership{}}
}

// Open returns a store on this memory, as a client connection would be.
func (m *Memory) Open() Store { return &memoryStore{memory: m, closed: make(chan struct{})} }

// Expire takes the leadership of the named election away from its leader, as a
// lease that ran out does.
func (m *Memory) Expire(election string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if q := m.elections[election]; len(q) > 0 {
		m.drop(q[0])
	}
}

// drop removes a candidate and lets the next one lead. The caller holds mu.
func (m *Memory) drop(l *memoryLeadership) {
	q := m.elections[l.election]
	i := slices.Index(q, l)
	if i < 0 {
		return
	}
	q = slices.Delete(q, i, i+1)
	m.elections[l.election] = q
	close(l.done)
	if i == 0 && len(q) > 0 {
		close(q[0].leads)
	}
}

type memoryStore struct {
	memory *Memory
	once   sync.Once
	closed chan struct{}
}

func (s *memoryStore) open(ctx context.Context) error {
	select {
	case <-s.closed:
		return ErrClosed
	default:
		return ctx.Err()
	}
}

func (s *memoryStore) Get(ctx context.Context, key string) (Entry, error) {
	if err := s.open(ctx); err != nil {
		return Entry{}, err
	}
	s.memory.mu.Lock()
	defer s.memory.mu.Unlock()
	e, ok := s.memory.entries[key]
	if !ok {
		return Entry{}, ErrNotFound
	}
	e.Value = slices.Clone(e.Value)
	return e, nil
}

func (s *memoryStore) Range(ctx context.Context, prefix string) ([]Entry, error) {
	if err := s.open(ctx); err != nil {
		return nil, err
	}
	s.memory.mu.Lock()
	defer s.memory.mu.Unlock()
	var all []Entry
	for key, e := range s.memory.entries {
		if strings.HasPrefix(key, prefix) {
			e.Value = slices.Clone(e.Value)
			all = append(all, e)
		}
	}
	slices.SortFunc(all, func(a, b Entry) int { return strings.Compare(a.Key, b.Key) })
	return all, nil
}

func (s *memoryStore) Campaign(ctx context.Context, election string, c Candidate) (Leadership, error) {
	if err := s.open(ctx); err != nil {
		return nil, err
	}
	m := s.memory
	m.mu.Lock()
	for _, old := range slices.Clone(m.elections[election]) {
		if old.candidate.Node == c.Node {
			m.drop(old)
		}
	}
	m.revision++
	l := &memoryLeadership{memory: m, owner: s, election: election, candidate: c, term: m.revision,
		leads: make(chan struct{}), done: make(chan struct{})}
	m.elections[election] = append(m.elections[election], l)
	if len(m.elections[election]) == 1 {
		close(l.leads)
	}
	m.mu.Unlock()

	var err error
	select {
	case <-l.leads:
		return l, nil
	case <-l.done:
		err = ErrFenced
	case <-s.closed:
		err = ErrClosed
	case <-ctx.Done():
		err = ctx.Err()
	}
	l.Resign(context.Background())
	return nil, err
}

func (s *memoryStore) Leader(ctx context.Context, election string) (Candidate, error) {
	if err := s.open(ctx); err != nil {
		return Candidate{}, err
	}
	s.memory.mu.Lock()
	defer s.memory.mu.Unlock()
	q := s.memory.elections[election]
	if len(q) == 0 {
		return Candidate{}, ErrNoLeader
	}
	return q[0].candidate, nil
}

func (s *memoryStore) Close() error {
	s.once.Do(func() {
		close(s.closed)
		s.memory.mu.Lock()
		defer s.memory.mu.Unlock()
		for _, q := range s.memory.elections {
			for _, l := range slices.Clone(q) {
				if l.owner == s {
					s.memory.drop(l)
				}
			}
		}
	})
	return nil
}

type memoryLeadership struct {
	memory    *Memory
	owner     *memoryStore
	election  string
	candidate Candidate
	term      int64
	leads     chan struct{} // closed when it is its turn
	done      chan struct{} // closed when it was removed from the queue
}

func (l *memoryLeadership) Term() int64           { return l.term }
func (l *memoryLeadership) Done() <-chan struct{} { return l.done }

func (l *memoryLeadership) Resign(context.Context) error {
	l.memory.mu.Lock()
	defer l.memory.mu.Unlock()
	l.memory.drop(l)
	return nil
}

func (l *memoryLeadership) Write(ctx context.Context, ops ...Op) error {
	if err := checkOps(ops); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	m := l.memory
	m.mu.Lock()
	defer m.mu.Unlock()
	if q := m.elections[l.election]; len(q) == 0 || q[0] != l {
		return ErrFenced
	}
	for _, op := range ops {
		e, exists := m.entries[op.key]
		if op.kind == opCreate && exists || op.kind == opCAS && e.Revision != op.revision {
			return ErrConflict
		}
	}
	m.revision++
	for _, op := range ops {
		if op.kind == opDelete {
			delete(m.entries, op.key)
			continue
		}
		m.entries[op.key] = Entry{Key: op.key, Value: slices.Clone(op.value), Revision: m.revision}
	}
	return nil
}
