package fsm

import (
	"encoding/binary"
	"sync"

	"github.com/fathom-train/fathom/ps/table"
)

// State is the state machine of one shard. See the package comment for what
// may run at the same time.
type State struct {
	// mu guards what follows, and of the model all that Lookup, View and Stats
	// read. Only Apply and Restore write under it; as Apply has one caller at
	// a time, it reads without it.
	mu      sync.RWMutex
	model   *model // nil until configured
	applied uint64
	changed chan struct{}
	capture *capture // nil: nobody waits for a view

	// spare are chunks that are no longer needed; Apply's alone.
	spare []*chunk
}

// model is the configured part of a State.
type model struct {
	schema      Schema
	schemaBytes []byte
	version     uint64
	tables      []*tableState
	dense       []*tensor
	// images restore the last len(images) versions, oldest first; the last
	// one restores version-1.
	images  []*image
	pending pending
	merge   merge
	// factors are those of the learning rates so far, where a table is lazy.
	factors []table.Factor
	// lone is the one lane that is applied by itself; nil in mode sync.
	lone []lane
	reduction
	history history
}

// New returns an unconfigured state.
func New() *State { return &State{changed: make(chan struct{})} }

// Version returns the number of steps applied and whether the state is
// configured.
func (s *State) Version() (v uint64, configured bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.model == nil {
		return 0, false
	}
	return s.model.version, true
}

// Applied returns the index of the last command, or the one a restored
// snapshot was taken at.
func (s *State) Applied() uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.applied
}

// Changed returns a channel that is closed when the version or the
// configuration changes. Take it before looking at the version.
func (s *State) Changed() <-chan struct{} {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.changed
}

// notify is called with mu held.
func (s *State) notify() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// Hash returns the sum of a 128-bit hash of every row and every dense tensor,
// slots included, little-endian. It does not depend on how rows and tensors
// are cut into shards: see SumHashes.
func (s *State) Hash() [16]byte {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.model == nil {
		return [16]byte{}
	}
	return s.model.hash()
}

func (m *model) hash() [16]byte { return SumHashes(m.parts(nil)...) }

// SumHashes adds the hashes of all shards of a model; the sum identifies the
// model whatever its shards.
func SumHashes(hashes ...[16]byte) [16]byte {
	var sum [2]uint64
	for _, h := range hashes {
		sum = table.AddHash(sum, [2]uint64{binary.LittleEndian.Uint64(h[:]), binary.LittleEndian.Uint64(h[8:])})
	}
	return hashBytes(sum)
}

func hashBytes(sum [2]uint64) (h [16]byte) {
	binary.LittleEndian.PutUint64(h[:], sum[0])
	binary.LittleEndian.PutUint64(h[8:], sum[1])
	return h
}

// Stats returns the size of the shard.
func (s *State) Stats() Stats {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.model == nil {
		return Stats{}
	}
	return s.model.stats()
}

// Close frees the memory of the tables once all views are released. The state
// is unconfigured afterwards.
func (s *State) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropCapture()
	if s.model != nil {
		s.model.close()
		s.model = nil
		s.notify()
	}
	s.spare = nil
}

func (m *model) close() {
	for _, t := range m.tables {
		t.table.Close()
	}
}

// sparesMax bounds the chunks kept for reuse.
const sparesMax = 64

// newChunk returns a chunk of a command, which is not copied.
func (s *State) newChunk(cmd []byte) *chunk {
	var c *chunk
	if n := len(s.spare); n > 0 {
		c, s.spare = s.spare[n-1], s.spare[:n-1]
	} else {
		c = new(chunk)
	}
	c.cmd = cmd
	return c
}

// recycle takes back a chunk that nothing refers to.
func (s *State) recycle(c *chunk) {
	if len(s.spare) < sparesMax {
		c.cmd = nil
		c.push.Forget()
		s.spare = append(s.spare, c)
	}
}
