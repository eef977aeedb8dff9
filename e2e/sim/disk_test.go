package sim

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/hashicorp/raft"
	"github.com/hashicorp/raft-wal/types"

	"github.com/fathom-train/fathom/ps/replica"
)

// disk holds the logs of one server, under the real raft-wal. It remembers what
// was synced: a crash loses the rest, or part of it, or leaves a write torn.
type disk struct {
	// gate is held for writing while the image of a crash is taken.
	gate  sync.RWMutex
	mu    sync.Mutex
	dirs  map[string]map[string]*file
	metas map[string]*meta

	full atomic.Bool // writes fail
	// failSync makes the next sync fail; what it should have saved is gone.
	failSync atomic.Bool
	lies     atomic.Bool   // syncs save nothing, and say they do
	slow     atomic.Int64  // nanoseconds of each write
	hung     chan struct{} // not nil: writes wait until it is closed
}

type meta struct {
	state  types.PersistentState
	stable map[string][]byte
}

func newDisk() *disk {
	return &disk{dirs: map[string]map[string]*file{}, metas: map[string]*meta{}}
}

// file is a log segment.
type file struct {
	disk *disk
	mu   sync.Mutex
	data []byte // what is read
	// durable is what a crash leaves, with some of pending, the writes since the
	// last sync.
	durable []byte
	pending []patch
	synced  bool // ever: before, its name is not on disk either
}

type patch struct {
	at   int64
	data []byte
}

// hang makes writes wait until release is called.
func (d *disk) hang() (release func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	hung := make(chan struct{})
	d.hung = hung
	return sync.OnceFunc(func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if d.hung == hung {
			d.hung = nil
		}
		close(hung)
	})
}

// crashed returns the disk as a crash now would leave it. With lose, writes
// that were not synced are lost or torn; without, only the process died and
// the operating system has them all. The groups' directory moves along. The
// caller holds gate.
func (d *disk) crashed(rng *rand.Rand, lose bool, from, to string) *disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	after := newDisk()
	moved := func(dir string) string {
		rel, err := filepath.Rel(from, dir)
		if err != nil {
			panic(err)
		}
		return filepath.Join(to, rel)
	}
	for _, dir := range slices.Sorted(maps.Keys(d.dirs)) {
		files := map[string]*file{}
		for _, name := range slices.Sorted(maps.Keys(d.dirs[dir])) {
			if f := d.dirs[dir][name].crashed(rng, lose); f != nil {
				f.disk = after
				files[name] = f
			}
		}
		after.dirs[moved(dir)] = files
	}
	for dir, m := range d.metas {
		m2 := &meta{state: m.state, stable: maps.Clone(m.stable)}
		m2.state.Segments = slices.Clone(m.state.Segments)
		after.metas[moved(dir)] = m2
	}
	return after
}

func (f *file) crashed(rng *rand.Rand, lose bool) *file {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !lose { // a patch is never changed
		return &file{data: slices.Clone(f.data), durable: slices.Clone(f.durable), pending: slices.Clone(f.pending), synced: f.synced}
	}
	if !f.synced && rng.IntN(2) == 0 {
		seen.add(diskFile, 1)
		return nil
	}
	b := slices.Clone(f.durable)
	kept := rng.IntN(len(f.pending) + 1)
	seen.add(diskLost, max(len(f.pending)-kept-1, 0))
	for i, p := range f.pending[:min(kept+1, len(f.pending))] {
		if i == kept {
			n := 0
			if rng.IntN(2) == 0 {
				n = rng.IntN(len(p.data) + 1)
			}
			switch n {
			case 0:
				seen.add(diskLost, 1)
				p.data = nil
			case len(p.data):
			default:
				seen.add(diskTorn, 1)
				p.data = p.data[:n]
			}
		}
		b = p.apply(b)
	}
	return &file{data: b, durable: slices.Clone(b), synced: true}
}

func (p patch) apply(b []byte) []byte {
	if need := int(p.at) + len(p.data); need > len(b) {
		b = append(b, make([]byte, need-len(b))...)
	}
	copy(b[p.at:], p.data)
	return b
}

// writing tells whether something is written and not synced yet.
func (d *disk) writing() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, files := range d.dirs {
		for _, f := range files {
			f.mu.Lock()
			n := len(f.pending)
			f.mu.Unlock()
			if n > 0 {
				return true
			}
		}
	}
	return false
}

// flip damages one bit of a log's used part and reports whether there was one.
func (d *disk) flip(rng *rand.Rand) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	var used []*file
	for _, dir := range slices.Sorted(maps.Keys(d.dirs)) {
		for _, name := range slices.Sorted(maps.Keys(d.dirs[dir])) {
			if f := d.dirs[dir][name]; f.used() > 0 {
				used = append(used, f)
			}
		}
	}
	if len(used) == 0 {
		return false
	}
	f := used[rng.IntN(len(used))]
	at, bit := rng.IntN(f.used()), byte(1)<<rng.IntN(8)
	f.data[at] ^= bit
	f.durable[at] ^= bit
	seen.add(diskFlip, 1)
	return true
}

func (f *file) used() int {
	n := len(f.data)
	for n > 0 && f.data[n-1] == 0 {
		n--
	}
	return n
}

// The methods of types.VFS.

func (d *disk) ListDir(dir string) ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Sorted(maps.Keys(d.dirs[dir])), nil
}

func (d *disk) Create(dir, name string, size uint64) (types.WritableFile, error) {
	d.gate.RLock()
	defer d.gate.RUnlock()
	if d.full.Load() {
		seen.add(diskFull, 1)
		return nil, &fs.PathError{Op: "create", Path: filepath.Join(dir, name), Err: syscall.ENOSPC}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dirs[dir] == nil {
		d.dirs[dir] = map[string]*file{}
	}
	if d.dirs[dir][name] != nil {
		return nil, fs.ErrExist
	}
	f := &file{disk: d, data: make([]byte, size), durable: make([]byte, size)}
	d.dirs[dir][name] = f
	return f, nil
}

func (d *disk) Delete(dir, name string) error {
	d.gate.RLock()
	defer d.gate.RUnlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dirs[dir][name] == nil {
		return fs.ErrNotExist
	}
	delete(d.dirs[dir], name)
	return nil
}

func (d *disk) OpenReader(dir, name string) (types.ReadableFile, error) { return d.open(dir, name) }
func (d *disk) OpenWriter(dir, name string) (types.WritableFile, error) { return d.open(dir, name) }

func (d *disk) open(dir, name string) (*file, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if f := d.dirs[dir][name]; f != nil {
		return f, nil
	}
	return nil, &fs.PathError{Op: "open", Path: filepath.Join(dir, name), Err: fs.ErrNotExist}
}

func (f *file) ReadAt(b []byte, at int64) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if at >= int64(len(f.data)) {
		return 0, io.EOF
	}
	n := copy(b, f.data[at:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (f *file) WriteAt(b []byte, at int64) (int, error) {
	f.disk.gate.RLock()
	defer f.disk.gate.RUnlock()
	if f.disk.full.Load() {
		seen.add(diskFull, 1)
		return 0, fmt.Errorf("write: %w", syscall.ENOSPC)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	p := patch{at, slices.Clone(b)}
	f.data = p.apply(f.data)
	f.pending = append(f.pending, p)
	return len(b), nil
}

// syncTime is what a sync takes: a crash meets one under way.
const syncTime = 500 * time.Microsecond

// Sync takes its time without a lock of ours. That of raft-wal it holds, but
// nobody waits for: see gated.
func (f *file) Sync() error {
	<-time.After(syncTime + f.disk.slowness())
	f.disk.gate.RLock()
	defer f.disk.gate.RUnlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.disk.failSync.CompareAndSwap(true, false) {
		seen.add(diskSync, 1)
		f.pending = nil // the kernel has forgotten them
		return fmt.Errorf("sync: %w", syscall.EIO)
	}
	if f.disk.lies.Load() {
		return nil
	}
	for _, p := range f.pending {
		f.durable = p.apply(f.durable)
	}
	f.pending, f.synced = nil, true
	return nil
}

func (f *file) Close() error { return nil }

// Meta returns the store of the meta data, which is atomic and durable like
// the database it stands for.
func (d *disk) Meta() types.MetaStore { return &metaStore{disk: d} }

type metaStore struct {
	disk *disk
	dir  string
}

var errUnopened = errors.New("meta data used before Load")

func (m *metaStore) Load(dir string) (types.PersistentState, error) {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	m.dir = dir
	if m.disk.metas[dir] == nil {
		m.disk.metas[dir] = &meta{stable: map[string][]byte{}}
	}
	s := m.disk.metas[dir].state
	s.Segments = slices.Clone(s.Segments)
	return s, nil
}

func (m *metaStore) CommitState(s types.PersistentState) error {
	return m.write(func(to *meta) {
		s.Segments = slices.Clone(s.Segments)
		to.state = s
	})
}

func (m *metaStore) SetStable(key, value []byte) error {
	return m.write(func(to *meta) { to.stable[string(key)] = slices.Clone(value) })
}

func (m *metaStore) write(change func(*meta)) error {
	if m.disk.full.Load() {
		seen.add(diskFull, 1)
		return fmt.Errorf("write meta data: %w", syscall.ENOSPC)
	}
	m.disk.gate.RLock()
	defer m.disk.gate.RUnlock()
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	if m.disk.metas[m.dir] == nil {
		return errUnopened
	}
	change(m.disk.metas[m.dir])
	return nil
}

func (m *metaStore) GetStable(key []byte) ([]byte, error) {
	m.disk.mu.Lock()
	defer m.disk.mu.Unlock()
	if m.disk.metas[m.dir] == nil {
		return nil, errUnopened
	}
	return slices.Clone(m.disk.metas[m.dir].stable[string(key)]), nil
}

func (m *metaStore) Close() error { return nil }

// slowness is what a write takes longer than usual.
func (d *disk) slowness() time.Duration {
	slow := time.Duration(d.slow.Load())
	if slow > 0 {
		seen.add(diskSlow, 1)
	}
	return slow
}

// gated is a log whose writes come one after the other, and wait for a disk that
// hangs. They wait in front of raft-wal, not below it: there others would wait
// for its mutex, and simulated time stands still while someone waits for a mutex.
type gated struct {
	replica.Disk
	disk *disk
	turn chan struct{} // capacity 1
}

func (d *disk) wrap(log replica.Disk) replica.Disk {
	return &gated{log, d, make(chan struct{}, 1)}
}

func (g *gated) write(do func() error) error {
	g.turn <- struct{}{}
	defer func() { <-g.turn }()
	g.disk.mu.Lock()
	hung := g.disk.hung
	g.disk.mu.Unlock()
	if hung != nil {
		seen.add(diskHung, 1)
		<-hung
	}
	return do()
}

func (g *gated) StoreLogs(l []*raft.Log) error {
	return g.write(func() error { return g.Disk.StoreLogs(l) })
}

func (g *gated) DeleteRange(lo, hi uint64) error {
	return g.write(func() error { return g.Disk.DeleteRange(lo, hi) })
}

func (g *gated) Set(key, value []byte) error {
	return g.write(func() error {
		if slow := g.disk.slowness(); slow > 0 {
			<-time.After(slow)
		}
		return g.Disk.Set(key, value)
	})
}

func (g *gated) IsMonotonic() bool { return g.Disk.(raft.MonotonicLogStore).IsMonotonic() }
