package fsm

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/fathom-train/fathom/ps/wire"
)

// Apply carries out one committed command. cmd belongs to the state from now
// on and must not be changed; it is copied only when it does not start at a
// multiple of eight bytes.
// A command that is well formed but wrong gets a Result that says so and
// changes nothing. A command whose envelope is damaged panics: its sender and
// the leader checked it, so this replica's log is broken and must not be
// followed.
func (s *State) Apply(index uint64, cmd []byte) Result {
	c := s.newChunk(cmd)
	err := wire.ParsePush(c.cmd, &c.push)
	switch {
	case err == nil:
		return s.push(index, c)
	case errors.Is(err, wire.ErrCorrupt):
		panic(fmt.Sprintf("ps/fsm: BUG: committed command at index %d: %v", index, err))
	case errors.Is(err, wire.ErrKind):
		s.recycle(c)
		if kind, _ := wire.Kind(cmd); kind == wire.KindReduce {
			return s.reduce(index, cmd)
		}
		return s.configure(index, cmd)
	}
	s.recycle(c)
	return s.answer(index, Result{Status: Invalid, Err: fmt.Errorf("%w: %w", ErrInvalid, err)})
}

// answer ends a command that changes nothing but the index.
func (s *State) answer(index uint64, r Result) Result {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.applied = index
	if s.model != nil {
		r.Version = s.model.version
	}
	return r
}

func (s *State) configure(index uint64, cmd []byte) Result {
	b, err := wire.ParseConfigure(cmd)
	if err != nil {
		return s.answer(index, Result{Status: Invalid, Err: fmt.Errorf("%w: %w", ErrInvalid, err)})
	}
	schema, err := ParseSchema(b)
	if err != nil {
		return s.answer(index, Result{Status: Invalid, Err: fmt.Errorf("%w: %w", ErrInvalid, err)})
	}
	// Compared in the canonical form, so that white space does not count.
	b, err = MarshalSchema(schema)
	if err != nil {
		return s.answer(index, Result{Status: Invalid, Err: fmt.Errorf("%w: %w", ErrInvalid, err)})
	}
	if s.model != nil {
		if bytes.Equal(b, s.model.schemaBytes) {
			return s.answer(index, Result{Status: Duplicate, Complete: true})
		}
		if schema.Run == s.model.schema.Run && schema.Phase == s.model.schema.Phase+1 {
			return s.reshape(index, schema, b)
		}
		err := fmt.Errorf("%w: schema of job %q run %#x, the shard has job %q run %#x: %s", ErrMismatch,
			schema.Job, schema.Run, s.model.schema.Job, s.model.schema.Run, schemaDiff(b, s.model.schemaBytes))
		return s.answer(index, Result{Status: Mismatch, Err: err})
	}
	if schema.Phase > 0 {
		return s.answer(index, Result{Status: Mismatch, Err: fmt.Errorf("%w: the schema is of phase %d, the shard is empty", ErrMismatch, schema.Phase)})
	}
	m, err := newModel(schema, b)
	if err != nil {
		return s.answer(index, Result{Status: Invalid, Err: fmt.Errorf("%w: %w", ErrInvalid, err)})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.model, s.applied = m, index
	m.note()
	s.serveCapture()
	s.notify()
	return Result{Status: Accepted, Complete: true}
}

// schemaDiff shows where two encoded schemas begin to differ.
func schemaDiff(got, have []byte) string {
	at := 0
	for at < min(len(got), len(have)) && got[at] == have[at] {
		at++
	}
	part := func(b []byte) []byte { return b[max(0, min(at, len(b))-24):min(len(b), at+24)] }
	return fmt.Sprintf("…%s… is not …%s…", part(got), part(have))
}

func (s *State) push(index uint64, c *chunk) Result {
	if s.model == nil {
		s.recycle(c)
		return s.answer(index, Result{Status: Unconfigured, Err: ErrUnconfigured})
	}
	status, complete, err := s.model.check(c)
	if status != Accepted {
		s.recycle(c)
		return s.answer(index, Result{Status: status, Complete: complete, Err: err})
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.model
	m.put(c)
	s.applied = index
	if m.schema.Async && complete {
		m.applyLane(c.push.ID, s.recycle)
	}
	if s.settle() {
		s.notify()
	}
	return Result{Status: Accepted, Version: m.version, Complete: complete}
}
