package fsm

import (
	"github.com/fathom-train/fathom/ps/table"
)

// historyVersions bounds the versions whose hashes are kept in memory. Whoever
// wants to keep them longer reads them before they are overwritten.
const historyVersions = 4096

// VersionHash is the state hash of one version, by part: one for each table in
// the order of the schema, then one for all dense tensors. SumHashes of the
// parts is the hash of the shard.
type VersionHash struct {
	Version uint64
	Parts   [][16]byte
}

// history is a ring of the hashes of the last versions.
type history struct {
	parts  int
	first  uint64 // oldest version kept
	next   uint64 // version after the newest; equal to first: empty
	hashes [][16]byte
}

// note adds the hashes of the model's version.
func (m *model) note() {
	h := &m.history
	if h.parts == 0 {
		h.parts = len(m.tables) + 1
		h.first, h.next = m.version, m.version
	}
	at := int(h.next%historyVersions) * h.parts
	if at+h.parts > len(h.hashes) {
		// Grows with the steps up to its bound: short jobs stay small.
		h.hashes = append(h.hashes, make([][16]byte, at+h.parts-len(h.hashes))...)
	}
	m.parts(h.hashes[at:at])
	h.next++
	if h.next-h.first > historyVersions {
		h.first = h.next - historyVersions
	}
}

// parts appends the hashes of the current version by part.
func (m *model) parts(parts [][16]byte) [][16]byte {
	for _, t := range m.tables {
		parts = append(parts, hashBytes(t.table.Hash()))
	}
	var dense [2]uint64
	for _, d := range m.dense {
		dense = table.AddHash(dense, d.term)
	}
	return append(parts, hashBytes(dense))
}

// Hashes returns the hashes of the versions from the named one on, oldest first
// and at most most of them; versions that are not kept any more are left out.
// A restored state begins its history anew.
func (s *State) Hashes(from uint64, most int) []VersionHash {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.model == nil {
		return nil
	}
	h := &s.model.history
	var found []VersionHash
	for v := max(from, h.first); v < h.next && len(found) < most; v++ {
		at := int(v%historyVersions) * h.parts
		found = append(found, VersionHash{Version: v, Parts: append([][16]byte(nil), h.hashes[at:at+h.parts]...)})
	}
	return found
}

// PartNames names the parts of a VersionHash of a shard with this schema.
func (s Schema) PartNames() []string {
	var names []string
	for _, t := range s.canonical().Tables {
		names = append(names, t.Name)
	}
	return append(names, "dense")
}

// Schema returns the schema of a configured state.
func (s *State) Schema() (schema Schema, configured bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.model == nil {
		return Schema{}, false
	}
	return s.model.schema, true
}
