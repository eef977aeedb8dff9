package replica

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/segment"
	"github.com/hashicorp/raft-wal/types"
)

// Disk is what a log lives on: raft-wal, or a stand-in of the tests.
type Disk interface {
	raft.LogStore
	raft.StableStore
	io.Closer
}

// store is raft's view of the disk. It checks every entry that is read, keeps
// the tail file, and knows how long an operation has been under way.
type store struct {
	Disk
	dir  string
	tail *tailFile
	// opened is the origin of started: durations since it are monotonic.
	opened time.Time
	// started is when each kind of operation began (ns since opened), 0 when idle.
	started [opKinds]atomic.Int64
	// serving is set once raft runs; from then on damage ends the goroutine
	// that met it, after telling fail.
	serving atomic.Bool
	fail    func(error)
	// failed is the first write that failed.
	failed atomic.Pointer[error]
	// moved is the entry that is cut and appended again; nil: none.
	moved atomic.Pointer[raft.Log]
}

type opKind int

const (
	opAppend opKind = iota
	opDelete
	opStable
	opKinds
)

func (k opKind) String() string { return [...]string{"append", "delete", "stable"}[k] }

// Files is where a log's segments and its meta data live.
type Files interface {
	types.VFS
	// Meta returns the store of the log's meta data, anew for every opening.
	Meta() types.MetaStore
}

// openWAL opens the log in dir; nil files are those of the operating system.
// The library panics on some damage, and maps the meta data into memory: reading
// beyond the end of a file that was cut would end the process.
func openWAL(dir string, segmentBytes int, files Files, logger hclog.Logger) (d *lent, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = damaged(dir, "open log: %v", p)
		}
	}()
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("create log: %w", err)
	}
	var vfs types.VFS = systemFiles()
	var meta types.MetaStore = &metadb.BoltMetaDB{}
	if files != nil {
		vfs, meta = files, files.Meta()
	}
	codec := new(lender)
	w, err := wal.Open(dir, wal.WithSegmentSize(segmentBytes), wal.WithLogger(logger), wal.WithCodec(codec),
		wal.WithSegmentFiler(lenderSegments{segment.NewFiler(dir, settled{vfs})}), wal.WithMetaStore(lenderMeta{meta}))
	var refused syscall.Errno
	switch {
	case err == nil:
	case errors.As(err, &refused) && refused != syscall.ENOENT:
		return nil, fmt.Errorf("open log %s: %w", dir, err)
	default: // the libraries do not like what they read, or a segment is gone
		return nil, damaged(dir, "open log: %w", err)
	}
	_, err = w.Get(currentTerm) // a page that Open did not read
	if err != nil && err.Error() != notStored {
		return nil, errors.Join(damaged(dir, "open log: %w", err), w.Close())
	}
	if files == nil {
		if err := settleFile(filepath.Join(dir, metadb.FileName)); err != nil {
			return nil, errors.Join(fmt.Errorf("open log %s: %w", dir, err), w.Close())
		}
	}
	return &lent{WAL: w, codec: codec}, nil
}

// currentTerm is the key under which raft keeps the newest term it has seen.
var currentTerm = []byte("CurrentTerm")

// notStored is the library's answer to a key that it does not know.
const notStored = "not found"

// newStore wraps an open disk; tailPath is its tail file.
func newStore(d Disk, dir, tailPath string, fail func(error)) (*store, error) {
	tail, err := openTail(tailPath)
	if err != nil {
		return nil, err
	}
	return &store{Disk: d, dir: dir, tail: tail, opened: time.Now(), fail: fail}, nil
}

// verify reads the whole log: every checksum, the order of the terms, that
// nothing synced is missing at its end.
func (s *store) verify() (first, last uint64, err error) {
	if first, err = s.Disk.FirstIndex(); err != nil {
		return 0, 0, fmt.Errorf("first index of log %s: %w", s.dir, err)
	}
	if last, err = s.Disk.LastIndex(); err != nil {
		return 0, 0, fmt.Errorf("last index of log %s: %w", s.dir, err)
	}
	known, err := readTail(s.tail.path)
	if err != nil {
		return 0, 0, err
	}
	if last < known {
		return 0, 0, damaged(s.newestSegment(), "the log ends at entry %d, entry %d was written", last, known)
	}
	var term uint64
	for i := first; i <= last && last > 0; i++ {
		var l raft.Log
		if err := s.read(i, &l); err != nil {
			return 0, 0, damaged(s.segment(i), "entry %d: %w", i, err)
		}
		if l.Term < term {
			return 0, 0, damaged(s.segment(i), "entry %d is of term %d, the one before it of term %d", i, l.Term, term)
		}
		term = l.Term
	}
	return first, last, nil
}

// verifyTerm finds that the newest term was forgotten, and with it the vote in it:
// it is stored before the first entry of a term is.
func (s *store) verifyTerm(last uint64) error {
	if last == 0 {
		return nil
	}
	var l raft.Log
	if err := s.read(last, &l); err != nil {
		return damaged(s.segment(last), "entry %d: %w", last, err)
	}
	stored, err := s.GetUint64(currentTerm)
	if err != nil {
		return err
	}
	if stored < l.Term {
		return damaged(filepath.Join(s.dir, metadb.FileName), "the newest term in it is %d, entry %d is of term %d", stored, last, l.Term)
	}
	return nil
}

// segment names the file that holds an entry: the files' names carry the index
// of their first entry. The directory, if it cannot be told.
func (s *store) segment(index uint64) string {
	found, best := s.dir, uint64(0)
	files, _ := filepath.Glob(filepath.Join(s.dir, "*.wal"))
	for _, f := range files {
		var base, id uint64
		if _, err := fmt.Sscanf(filepath.Base(f), "%020d-%016x.wal", &base, &id); err == nil && base <= index && base >= best {
			found, best = f, base
		}
	}
	return found
}

func (s *store) newestSegment() string { return s.segment(1<<64 - 1) }

// IsMonotonic tells raft that the log has no gaps.
func (s *store) IsMonotonic() bool {
	m, ok := s.Disk.(raft.MonotonicLogStore)
	return ok && m.IsMonotonic()
}

// GetLog reads one entry. Damage takes the replica out of service: the
// goroutine of raft that asked ends here, running its deferred calls, because
// raft's answer to an error would be a panic of the whole process, and other
// groups must go on.
func (s *store) GetLog(index uint64, l *raft.Log) error {
	err := s.read(index, l)
	if err == nil || errors.Is(err, raft.ErrLogNotFound) || errors.Is(err, wal.ErrClosed) {
		return err
	}
	err = damaged(s.segment(index), "entry %d: %w", index, err)
	if s.serving.Load() {
		s.fail(err)
		runtime.Goexit()
	}
	return err
}

// read reads and checks one entry. The library panics on some damage.
func (s *store) read(index uint64, l *raft.Log) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%v: %w", p, errChecksum)
		}
	}()
	*l = raft.Log{}
	err = s.Disk.GetLog(index, l)
	if m := s.moved.Load(); errors.Is(err, raft.ErrLogNotFound) && m != nil && m.Index == index {
		*l, err = *m, nil
	}
	if err != nil {
		return err
	}
	if err := unseal(l); err != nil {
		return err
	}
	if l.Index != index {
		return fmt.Errorf("entry %d stands in its place: %w", l.Index, errChecksum)
	}
	return nil
}

// StoreLog appends one entry.
func (s *store) StoreLog(l *raft.Log) error { return s.StoreLogs([]*raft.Log{l}) }

// StoreLogs appends entries and returns when they are on disk.
func (s *store) StoreLogs(logs []*raft.Log) error {
	if len(logs) == 0 {
		return nil
	}
	defer s.begin(opAppend)()
	sealed := make([]*raft.Log, len(logs))
	for i, l := range logs {
		sealed[i] = seal(l)
	}
	err := s.Disk.StoreLogs(sealed)
	if errors.Is(err, types.ErrSealed) {
		if err = s.newSegmentNow(); err == nil {
			err = s.Disk.StoreLogs(sealed)
		}
	}
	if err != nil {
		return s.refuse(fmt.Errorf("append to log %s: %w", s.dir, err))
	}
	if err := s.tail.set(logs[len(logs)-1].Index, false); err != nil {
		return s.refuse(err)
	}
	return nil
}

// newSegmentNow begins another segment behind the last entry. When the machine
// stopped, or the disk was full, just when raft-wal changed segments, the last one
// is closed and there is no next, and no entry can be appended, however often the
// log is opened. Cutting the log gives it a new segment; so the last entry is cut
// and appended again. A crash between the two is found by the tail file, and the
// replica is replaced then.
func (s *store) newSegmentNow() error {
	last, err := s.Disk.LastIndex()
	if err != nil {
		return err
	}
	l := new(raft.Log)
	if err := s.Disk.GetLog(last, l); err != nil {
		return fmt.Errorf("read entry %d: %w", last, err)
	}
	if err := s.tail.set(last, true); err != nil {
		return err
	}
	s.moved.Store(l)
	defer s.moved.Store(nil)
	if err := s.Disk.DeleteRange(last, last); err != nil {
		return err
	}
	return s.Disk.StoreLogs([]*raft.Log{l})
}

// DeleteRange cuts the log at either end.
func (s *store) DeleteRange(lo, hi uint64) error {
	defer s.begin(opDelete)()
	last, err := s.Disk.LastIndex()
	if err != nil {
		return fmt.Errorf("last index of log %s: %w", s.dir, err)
	}
	if hi >= last {
		first, err := s.Disk.FirstIndex()
		if err != nil {
			return fmt.Errorf("first index of log %s: %w", s.dir, err)
		}
		keep := lo - 1
		if lo <= first {
			keep = 0
		}
		if err := s.tail.set(keep, true); err != nil {
			return s.refuse(err)
		}
	}
	if err := s.Disk.DeleteRange(lo, hi); err != nil {
		return s.refuse(fmt.Errorf("cut log %s: %w", s.dir, err))
	}
	return nil
}

// refuse takes the replica out of service after a failed write: what is on
// disk is not known any more, and a failed sync must never be tried again.
func (s *store) refuse(err error) error {
	s.failed.CompareAndSwap(nil, &err)
	if s.serving.Load() && !errors.Is(err, wal.ErrClosed) {
		s.fail(err)
	}
	return err
}

// Set stores a value with its checksum.
func (s *store) Set(key, val []byte) error {
	defer s.begin(opStable)()
	sum := crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, val)
	b := append(binary.LittleEndian.AppendUint32(nil, sum), val...)
	if err := s.Disk.Set(key, b); err != nil {
		err = s.refuse(fmt.Errorf("store %s in %s: %w", key, s.dir, err))
		if s.serving.Load() {
			runtime.Goexit() // raft would panic: see GetLog
		}
		return err
	}
	return nil
}

// Get returns a value, or nil when there is none.
func (s *store) Get(key []byte) ([]byte, error) {
	b, err := s.Disk.Get(key)
	if err != nil && err.Error() == notStored {
		return nil, nil
	}
	if err != nil || len(b) == 0 {
		return nil, err
	}
	if len(b) < 4 || crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, b[4:]) != binary.LittleEndian.Uint32(b) {
		return nil, damaged(filepath.Join(s.dir, metadb.FileName), "value of %s: %w", key, errChecksum)
	}
	return b[4:], nil
}

// SetUint64 stores a number.
func (s *store) SetUint64(key []byte, val uint64) error {
	return s.Set(key, binary.LittleEndian.AppendUint64(nil, val))
}

// GetUint64 returns a number, 0 when there is none.
func (s *store) GetUint64(key []byte) (uint64, error) {
	b, err := s.Get(key)
	if err != nil || len(b) == 0 {
		return 0, err
	}
	if len(b) != 8 {
		return 0, damaged(filepath.Join(s.dir, metadb.FileName), "value of %s has %d bytes", key, len(b))
	}
	return binary.LittleEndian.Uint64(b), nil
}

// Close closes log and tail file.
func (s *store) Close() error { return errors.Join(s.Disk.Close(), s.tail.close()) }

func (s *store) begin(k opKind) (end func()) {
	s.started[k].Store(int64(time.Since(s.opened)) + 1)
	return func() { s.started[k].Store(0) }
}

// stalled returns the longest operation under way and its kind.
func (s *store) stalled() (time.Duration, opKind) {
	var longest time.Duration
	var kind opKind
	for k := range s.started {
		if at := s.started[k].Load(); at != 0 {
			if d := time.Since(s.opened) - time.Duration(at-1); d > longest {
				longest, kind = d, opKind(k)
			}
		}
	}
	return longest, kind
}
