package replica

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"hash/crc64"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
)

// snapshotsKept is how many snapshots stay on disk.
const snapshotsKept = 2

// snapshotsFolder is where raft's file store puts its snapshots.
const snapshotsFolder = "snapshots"

// snapshots is raft's view of the snapshots on disk. One that cannot be read
// takes the replica out of service: a leader would go on for ever without
// being able to bring a follower up to date (hashicorp/raft #522).
type snapshots struct {
	raft.SnapshotStore
	dir     string
	serving atomic.Bool
	fail    func(error)
	// onConfiguration learns the members in a snapshot, which are committed.
	onConfiguration func(index uint64, c raft.Configuration)
	// size is that of the newest snapshot, in bytes.
	size atomic.Int64
	// newest is the sound snapshot that check found.
	newest raft.SnapshotMeta
	// last is the last entry in the newest snapshot.
	last atomic.Uint64
}

func openSnapshots(dir string, logger hclog.Logger, fail func(error), onConfiguration func(uint64, raft.Configuration)) (*snapshots, error) {
	s, err := raft.NewFileSnapshotStoreWithLogger(dir, snapshotsKept, logger)
	if err != nil {
		return nil, fmt.Errorf("open snapshots %s: %w", dir, err)
	}
	return &snapshots{SnapshotStore: s, dir: filepath.Join(dir, snapshotsFolder), fail: fail, onConfiguration: onConfiguration}, nil
}

// Open opens a snapshot after checking it.
func (s *snapshots) Open(id string) (*raft.SnapshotMeta, io.ReadCloser, error) {
	meta, r, err := s.SnapshotStore.Open(id)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, err // reaped meanwhile
	}
	if err != nil {
		err = damaged(filepath.Join(s.dir, id), "%w", err)
		if s.serving.Load() {
			s.fail(err)
		}
		return nil, nil, err
	}
	s.size.Store(meta.Size)
	return meta, &snapshotFile{ReadCloser: r, path: filepath.Join(s.dir, id)}, nil
}

// metaSum is the name of the file with the checksum of meta.json, which holds
// the group's members and which the file store does not protect.
const metaSum = "meta.crc32c"

// Create begins a snapshot.
func (s *snapshots) Create(v raft.SnapshotVersion, index, term uint64, members raft.Configuration, membersIndex uint64, t raft.Transport) (raft.SnapshotSink, error) {
	sink, err := s.SnapshotStore.Create(v, index, term, members, membersIndex, t)
	if err != nil {
		return nil, err
	}
	done := func() {
		s.onConfiguration(membersIndex, members)
		for old := s.last.Load(); old < index && !s.last.CompareAndSwap(old, index); old = s.last.Load() {
		}
	}
	return &summedSink{SnapshotSink: sink, dir: filepath.Join(s.dir, sink.ID()), done: done}, nil
}

// summedSink adds the checksum of the description.
type summedSink struct {
	raft.SnapshotSink
	dir  string
	done func()
}

// Close finishes the snapshot.
func (s *summedSink) Close() error {
	if err := s.SnapshotSink.Close(); err != nil {
		return err
	}
	b, err := os.ReadFile(filepath.Join(s.dir, "meta.json"))
	if err != nil {
		return fmt.Errorf("sum snapshot: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(s.dir, metaSum), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("sum snapshot: %w", err)
	}
	_, err = fmt.Fprintf(f, "%08x\n", crc32.Checksum(b, castagnoli))
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("sum snapshot: %w", err)
	}
	s.done()
	return nil
}

// checkMetaSum compares a description with its checksum. After a crash between
// writing the two there is none, or an empty one.
func checkMetaSum(dir string, meta []byte) error {
	b, err := os.ReadFile(filepath.Join(dir, metaSum))
	if errors.Is(err, fs.ErrNotExist) || err == nil && len(b) == 0 {
		return nil
	}
	if err != nil {
		return damaged(filepath.Join(dir, metaSum), "%w", err)
	}
	if string(b) != fmt.Sprintf("%08x\n", crc32.Checksum(meta, castagnoli)) {
		return damaged(filepath.Join(dir, "meta.json"), "%w", errChecksum)
	}
	return nil
}

// snapshot is what a snapshot's directory says about it.
type snapshot struct {
	dir  string
	meta snapshotMeta
	err  error // why it cannot be used
}

// snapshotMeta is the file store's meta.json.
type snapshotMeta struct {
	raft.SnapshotMeta
	CRC []byte
}

// inspect checks every snapshot in the directory, newest first. Raft's own
// listing leaves out those whose description cannot be read.
func (s *snapshots) inspect() ([]snapshot, error) {
	entries, err := os.ReadDir(s.dir)
	if err != nil {
		return nil, fmt.Errorf("list snapshots: %w", err)
	}
	var found []snapshot
	for _, e := range entries {
		if e.IsDir() && !strings.HasSuffix(e.Name(), ".tmp") {
			found = append(found, inspectSnapshot(filepath.Join(s.dir, e.Name())))
		}
	}
	slices.SortFunc(found, func(a, b snapshot) int {
		switch {
		case a.meta.Term != b.meta.Term:
			return cmp.Compare(b.meta.Term, a.meta.Term)
		case a.meta.Index != b.meta.Index:
			return cmp.Compare(b.meta.Index, a.meta.Index)
		}
		return strings.Compare(b.dir, a.dir)
	})
	return found, nil
}

// inspectSnapshot reads one snapshot. Term and index come from the directory's
// name, so that damage of the description cannot move it in the order.
func inspectSnapshot(dir string) snapshot {
	found := snapshot{dir: dir}
	var term, index, millis uint64
	if _, err := fmt.Sscanf(filepath.Base(dir), "%d-%d-%d", &term, &index, &millis); err != nil {
		found.err = damaged(dir, "name of a snapshot expected: %w", err)
		return found
	}
	found.err = found.read()
	if found.err == nil && (found.meta.Term != term || found.meta.Index != index || found.meta.ID != filepath.Base(dir)) {
		found.err = damaged(filepath.Join(dir, "meta.json"), "it describes snapshot %s of term %d, index %d", found.meta.ID, found.meta.Term, found.meta.Index)
	}
	found.meta.Term, found.meta.Index = term, index
	return found
}

func (s *snapshot) read() error {
	path := filepath.Join(s.dir, "meta.json")
	b, err := os.ReadFile(path)
	if err != nil {
		return damaged(path, "%w", err)
	}
	if err := checkMetaSum(s.dir, b); err != nil {
		return err
	}
	if err := json.Unmarshal(b, &s.meta); err != nil {
		return damaged(path, "%w", err)
	}
	path = filepath.Join(s.dir, "state.bin")
	f, err := os.Open(path)
	if err != nil {
		return damaged(path, "%w", err)
	}
	defer f.Close()
	sum := crc64.New(crc64.MakeTable(crc64.ECMA))
	n, err := io.Copy(sum, f)
	if err != nil {
		return damaged(path, "%w", err)
	}
	if n != s.meta.Size || !bytes.Equal(sum.Sum(nil), s.meta.CRC) {
		return damaged(path, "%w", errChecksum)
	}
	return nil
}

// check refuses a disk from which raft would start with a panic or with a gap:
// the log (entries first..last, 0..0 when empty) must continue the newest sound
// snapshot. A damaged snapshot that is not needed is set aside, because as
// leader raft would send it to others.
func (s *snapshots) check(first, last uint64, warn func(error)) error {
	found, err := s.inspect()
	if err != nil {
		return err
	}
	var broken []snapshot
	var base uint64
	for _, sn := range found {
		if sn.err == nil {
			base, s.newest = sn.meta.Index, sn.meta.SnapshotMeta
			s.size.Store(sn.meta.Size)
			s.last.Store(base)
			break
		}
		broken = append(broken, sn)
	}
	if len(broken) > 0 && (first == 0 || first > base+1 || last < broken[0].meta.Index) {
		return fmt.Errorf("newest snapshot cannot be read and the log does not reach back to an older one: %w", broken[0].err)
	}
	if first > base+1 {
		return damaged(s.dir, "the log begins at entry %d and no snapshot covers the entries before it", first)
	}
	for _, sn := range broken {
		aside := filepath.Join(filepath.Dir(s.dir), "damaged-"+filepath.Base(sn.dir))
		if err := os.RemoveAll(aside); err != nil {
			return fmt.Errorf("set damaged snapshot aside: %w", err)
		}
		if err := os.Rename(sn.dir, aside); err != nil {
			return fmt.Errorf("set damaged snapshot aside: %w", err)
		}
		warn(fmt.Errorf("set aside, the log holds all of it: %w", sn.err))
	}
	return nil
}
