package replica

import (
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/types"
)

// cachedFiles are segments behind a cache, in memory, and meta data on disk.
type cachedFiles struct {
	files    map[string]*cachedFile
	failSync bool
}

// cachedFile is read from its cache; dirty is what a sync writes to disk. After a
// sync that failed nothing is dirty, as in Linux.
type cachedFile struct {
	of          *cachedFiles
	cache, disk []byte
	dirty       map[int64]int // length by offset
}

func (c *cachedFiles) Meta() types.MetaStore { return &metadb.BoltMetaDB{} }

func (c *cachedFiles) ListDir(string) (names []string, err error) {
	for name := range c.files {
		names = append(names, name)
	}
	slices.Sort(names)
	return names, nil
}

func (c *cachedFiles) Create(_, name string, size uint64) (types.WritableFile, error) {
	f := &cachedFile{of: c, cache: make([]byte, size), disk: make([]byte, size), dirty: map[int64]int{}}
	c.files[name] = f
	return f, nil
}

func (c *cachedFiles) Delete(_, name string) error {
	delete(c.files, name)
	return nil
}

func (c *cachedFiles) OpenReader(_, name string) (types.ReadableFile, error) {
	return c.OpenWriter("", name)
}

func (c *cachedFiles) OpenWriter(_, name string) (types.WritableFile, error) {
	if f := c.files[name]; f != nil {
		return f, nil
	}
	return nil, fs.ErrNotExist
}

// stop is the end of the machine: the caches are gone.
func (c *cachedFiles) stop() {
	for _, f := range c.files {
		f.cache, f.dirty = slices.Clone(f.disk), map[int64]int{}
	}
}

func (f *cachedFile) ReadAt(b []byte, at int64) (int, error) {
	if at >= int64(len(f.cache)) {
		return 0, io.EOF
	}
	n := copy(b, f.cache[at:])
	if n < len(b) {
		return n, io.EOF
	}
	return n, nil
}

func (f *cachedFile) WriteAt(b []byte, at int64) (int, error) {
	if int(at)+len(b) > len(f.cache) {
		return 0, fmt.Errorf("write of %d bytes at %d: %w", len(b), at, syscall.ENOSPC)
	}
	f.dirty[at] = max(f.dirty[at], len(b))
	return copy(f.cache[at:], b), nil
}

func (f *cachedFile) Sync() error {
	dirty := f.dirty
	f.dirty = map[int64]int{}
	if f.of.failSync {
		return syscall.EIO
	}
	for at, n := range dirty {
		copy(f.disk[at:], f.cache[at:][:n])
	}
	return nil
}

func (f *cachedFile) Close() error { return nil }

// TestWhatIsReadAtOpeningStaysThere appends an entry whose sync fails, or does not
// come about because the process dies. The next process finds the entry, and would
// acknowledge it; so it is there when the machine stops, too.
func TestWhatIsReadAtOpeningStaysThere(t *testing.T) {
	t.Parallel()
	for name, before := range map[string]func(*cachedFiles){
		"a sync fails":     func(c *cachedFiles) { c.failSync = true },
		"the process dies": func(c *cachedFiles) {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			files := &cachedFiles{files: map[string]*cachedFile{}}
			open := func() *lent {
				w, err := openWAL(dir, 1<<20, files, hclog.NewNullLogger())
				if err != nil {
					t.Fatal(err)
				}
				return w
			}
			last := func(w *lent) uint64 {
				n, err := w.LastIndex()
				if err != nil {
					t.Fatal(err)
				}
				return n
			}
			w := open()
			if err := w.StoreLogs([]*raft.Log{{Index: 1, Term: 1, Data: []byte("one")}}); err != nil {
				t.Fatal(err)
			}
			before(files)
			if err := w.StoreLogs([]*raft.Log{{Index: 2, Term: 1, Data: []byte("two")}}); (err != nil) != files.failSync {
				t.Fatalf("append: %v", err)
			}
			if !files.failSync {
				// What the process wrote and did not sync yet.
				for _, f := range files.files {
					f.disk = make([]byte, len(f.disk))
					f.dirty = map[int64]int{0: len(f.cache)}
				}
			}
			files.failSync = false
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			w = open()
			found := last(w)
			if found != 2 {
				t.Fatalf("the log ends at entry %d when it is opened, want 2: this test is of an entry that can be read", found)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			files.stop()
			w = open()
			if got := last(w); got != found {
				t.Errorf("the log ends at entry %d after the machine stopped, it ended at %d", got, found)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// TestOpeningKeepsTheMetaData opens a log on the file system again and again: its meta
// data, which opening writes once more, stay what they are.
func TestOpeningKeepsTheMetaData(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "log")
	for i := range uint64(3) {
		w, err := openWAL(dir, 1<<20, nil, hclog.NewNullLogger())
		if err != nil {
			t.Fatal(err)
		}
		if got, err := w.GetUint64([]byte("n")); i > 0 && (err != nil || got != i-1) {
			t.Errorf("opening %d: the number is %d (%v)", i, got, err)
		}
		if err := w.SetUint64([]byte("n"), i); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
