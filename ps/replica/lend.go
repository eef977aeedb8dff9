package replica

import (
	"bytes"
	"io"
	"slices"
	"sync"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/types"
)

// raft-wal encodes every entry into a buffer of its own, which for entries of
// 256 KiB means new memory for every byte of the log. lender is its codec with
// memory that is used again. The bytes are those of the built-in codec, and so
// is the number of the codec on disk: raft-wal refuses codecs with that number,
// so it is told another one, and meta and segments translate.
type lender struct {
	wal.BinaryCodec
	// kept is lent to the entries of one append; room is what is left of it.
	kept, room []byte
}

const (
	// lenderID is the codec's number in memory.
	lenderID = wal.FirstExternalCodecID
	// entryOverhead is more than the encoding of an entry adds to data and extensions.
	entryOverhead = 128
	// roomMax bounds what is kept for the next append.
	roomMax = 8 << 20
)

// ID returns lenderID.
func (c *lender) ID() uint64 { return lenderID }

// Encode writes an entry. The buffer that it is given by raft-wal gets memory of
// c, which belongs to it until reset.
func (c *lender) Encode(l *raft.Log, w io.Writer) error {
	size := len(l.Data) + len(l.Extensions) + entryOverhead
	if b, ok := w.(*bytes.Buffer); ok && b.Cap() == 0 && size <= len(c.room) {
		*b = *bytes.NewBuffer(c.room[:0:size])
		c.room = c.room[size:]
	}
	return c.BinaryCodec.Encode(l, w)
}

// reset takes back what was lent and makes room for an append.
func (c *lender) reset(logs []*raft.Log) {
	size := 0
	for _, l := range logs {
		size += len(l.Data) + len(l.Extensions) + entryOverhead
	}
	if size > len(c.kept) {
		c.kept = make([]byte, size)
	}
	c.room = c.kept
	if size > roomMax {
		c.kept = nil
	}
}

// lent is a log whose codec is a lender.
type lent struct {
	*wal.WAL
	codec *lender
	// reads is held by who reads: raft-wal panics when it is closed meanwhile, and a
	// peer's message may be looked at until the end.
	reads sync.RWMutex
}

// FirstIndex returns the first entry's index, 0 when there is none.
func (d *lent) FirstIndex() (uint64, error) {
	d.reads.RLock()
	defer d.reads.RUnlock()
	return d.WAL.FirstIndex()
}

// LastIndex returns the last entry's index, 0 when there is none.
func (d *lent) LastIndex() (uint64, error) {
	d.reads.RLock()
	defer d.reads.RUnlock()
	return d.WAL.LastIndex()
}

// GetLog reads an entry.
func (d *lent) GetLog(index uint64, l *raft.Log) error {
	d.reads.RLock()
	defer d.reads.RUnlock()
	return d.WAL.GetLog(index, l)
}

// Close closes the log when nobody reads.
func (d *lent) Close() error {
	d.reads.Lock()
	defer d.reads.Unlock()
	return d.WAL.Close()
}

// StoreLogs appends entries, one call at a time.
func (d *lent) StoreLogs(logs []*raft.Log) error {
	d.codec.reset(logs)
	return d.WAL.StoreLogs(logs)
}

// lenderMeta is a store of meta data that names the codec on disk.
type lenderMeta struct{ types.MetaStore }

// Load reads the meta data.
func (m lenderMeta) Load(dir string) (types.PersistentState, error) {
	state, err := m.MetaStore.Load(dir)
	return relabel(state, wal.CodecBinaryV1, lenderID), err
}

// CommitState writes the meta data.
func (m lenderMeta) CommitState(state types.PersistentState) error {
	return m.MetaStore.CommitState(relabel(state, lenderID, wal.CodecBinaryV1))
}

func relabel(state types.PersistentState, from, to uint64) types.PersistentState {
	state.Segments = slices.Clone(state.Segments)
	for i := range state.Segments {
		if s := &state.Segments[i]; s.Codec == from {
			s.Codec = to
		}
	}
	return state
}

// lenderSegments are segments that name the codec on disk.
type lenderSegments struct{ types.SegmentFiler }

// Create creates a segment.
func (f lenderSegments) Create(info types.SegmentInfo) (types.SegmentWriter, error) {
	info.Codec = wal.CodecBinaryV1
	return f.SegmentFiler.Create(info)
}

// RecoverTail opens the last segment.
func (f lenderSegments) RecoverTail(info types.SegmentInfo) (types.SegmentWriter, error) {
	info.Codec = wal.CodecBinaryV1
	return f.SegmentFiler.RecoverTail(info)
}

// Open opens a segment that is complete.
func (f lenderSegments) Open(info types.SegmentInfo) (types.SegmentReader, error) {
	info.Codec = wal.CodecBinaryV1
	return f.SegmentFiler.Open(info)
}
