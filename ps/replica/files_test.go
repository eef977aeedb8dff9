package replica

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// foundOrHarmless changes a copy of a replica's directory and opens it: the
// damage is found, and the error names a file of the directory, or the state is
// the one that was written.
func (c *cluster) foundOrHarmless(origin, what string, version uint64, rows int, change func(dir string) error) (found bool) {
	c.t.Helper()
	c.dirs[0] = filepath.Join(c.t.TempDir(), "copy")
	if err := os.CopyFS(c.dirs[0], os.DirFS(origin)); err != nil {
		c.t.Fatal(err)
	}
	if err := change(c.dirs[0]); err != nil {
		c.t.Fatalf("%s: %v", what, err)
	}
	switch err := c.tryOpen(0); {
	case err == nil:
		c.settled(version, rows)
		c.close(0)
		return false
	case !errors.Is(err, ErrDamaged):
		c.t.Errorf("%s: %v", what, err)
	case !strings.Contains(err.Error(), c.dirs[0]):
		c.t.Errorf("%s: the error does not name the file: %v", what, err)
	}
	return true
}

// filesOf lists the files of a replica, and how many bytes of each are in use.
func filesOf(t *testing.T, dir string) (names []string, used map[string]int) {
	t.Helper()
	used = map[string]int{}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		names, used[name] = append(names, name), len(bytes.TrimRight(b, "\x00"))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names, used
}

// A file that ends early, or has a page of zeros, as after a power cut on a disk
// that did not keep what it said.
func TestShortenedAndZeroedFilesAreFound(t *testing.T) {
	t.Parallel()
	const rows, version, page = 60, 10, 4096
	for name, tune := range map[string]func(*Config){
		"log": nil,
		"snapshot": func(cfg *Config) {
			cfg.SnapshotBytes, cfg.TrailingEntries, cfg.OutstandingEntries = 8<<10, 1, 16
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := written(t, rows, tune)
			if tune != nil {
				eventually(t, "a snapshot", func() bool { return c.groups[0].snaps.size.Load() > 0 })
			}
			c.close(0)
			origin := c.dirs[0]
			names, used := filesOf(t, origin)
			found, harmless := 0, 0
			try := func(what string, change func(dir string) error) {
				if c.foundOrHarmless(origin, what, version, rows, change) {
					found++
				} else {
					harmless++
				}
			}
			for _, name := range names {
				for at := 0; at < used[name]; at += max(1, used[name]/12) {
					try(fmt.Sprintf("%s shortened to %d bytes", name, at), func(dir string) error {
						return os.Truncate(filepath.Join(dir, name), int64(at))
					})
				}
				for at := 0; at+page <= used[name]; at += max(page, used[name]/6/page*page) {
					try(fmt.Sprintf("%s with zeros from byte %d", name, at), func(dir string) error {
						b, err := os.ReadFile(filepath.Join(dir, name))
						if err != nil {
							return err
						}
						clear(b[at : at+page])
						return os.WriteFile(filepath.Join(dir, name), b, 0o600)
					})
				}
			}
			t.Logf("%d found, %d harmless, of %v", found, harmless, used)
			if found < 20 {
				t.Errorf("%d of %d damages found", found, found+harmless)
			}
		})
	}
}

// A flipped bit in the meta data of the log, of which the library itself checks
// only two pages: it is found, or nothing differs.
func TestFlippedBitsInTheMetaDataAreFound(t *testing.T) {
	t.Parallel()
	const rows, version = 60, 10
	c := written(t, rows, nil)
	c.close(0)
	origin := c.dirs[0]
	name := filepath.Join(walFolder, "wal-meta.db")
	_, used := filesOf(t, origin)
	rng := rand.New(rand.NewPCG(3, 4))
	found := 0
	for range 40 {
		at, bit := rng.IntN(used[name]), byte(1)<<rng.IntN(8)
		if c.foundOrHarmless(origin, fmt.Sprintf("bit %d of byte %d of %s", bit, at, name), version, rows, func(dir string) error {
			b, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				return err
			}
			b[at] ^= bit
			return os.WriteFile(filepath.Join(dir, name), b, 0o600)
		}) {
			found++
		}
	}
	t.Logf("%d of 40 found, the others are harmless", found)
}

// Files that are sound in themselves and in the wrong place: a segment in the
// place of another, or there twice, the state of an older snapshot under the
// newest one's name, an older snapshot without the newer one.
func TestSoundFilesInTheWrongPlaceAreFound(t *testing.T) {
	t.Parallel()
	const rows, version = 60, 10
	glob := func(t *testing.T, dir string, pattern ...string) []string {
		t.Helper()
		found, err := filepath.Glob(filepath.Join(append([]string{dir}, pattern...)...))
		if err != nil || len(found) < 2 {
			t.Fatalf("%v: %v, %v, want at least 2", pattern, found, err)
		}
		slices.Sort(found)
		return found
	}
	copyFile := func(from, to string) error {
		b, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		return os.WriteFile(to, b, 0o600)
	}
	t.Run("segments", func(t *testing.T) {
		t.Parallel()
		c := written(t, rows, nil)
		c.close(0)
		origin := c.dirs[0]
		segments := func(dir string) []string { return glob(t, dir, walFolder, "*.wal") }
		if !c.foundOrHarmless(origin, "the first segment in the place of the second", version, rows, func(dir string) error {
			s := segments(dir)
			return copyFile(s[0], s[1])
		}) {
			t.Error("a segment in the place of another was not found")
		}
		c.foundOrHarmless(origin, "the first segment twice", version, rows, func(dir string) error {
			s := segments(dir)
			return copyFile(s[0], filepath.Join(dir, walFolder, fmt.Sprintf("%020d-%016x.wal", 500, 99)))
		})
		if !c.foundOrHarmless(origin, "a segment is gone", version, rows, func(dir string) error { return os.Remove(segments(dir)[0]) }) {
			t.Error("a segment that is gone was not found")
		}
	})
	t.Run("snapshots", func(t *testing.T) {
		t.Parallel()
		c := written(t, rows, func(cfg *Config) {
			cfg.SnapshotBytes, cfg.TrailingEntries, cfg.OutstandingEntries = 8<<10, 1, 16
		})
		snapshots := func(dir string) []string { return glob(t, dir, snapshotsFolder, "*", "state.bin") }
		eventually(t, "two snapshots", func() bool {
			found, err := filepath.Glob(filepath.Join(c.dirs[0], snapshotsFolder, "*", metaSum))
			return err == nil && len(found) == 2
		})
		c.close(0)
		origin := c.dirs[0]
		// Found, or set aside because the log holds all of it.
		c.foundOrHarmless(origin, "an older state in the newest snapshot", version, rows, func(dir string) error {
			s := snapshots(dir)
			return copyFile(s[0], s[1])
		})
		c.foundOrHarmless(origin, "the newest snapshot is gone", version, rows, func(dir string) error {
			return os.RemoveAll(filepath.Dir(snapshots(dir)[1]))
		})
		if c.foundOrHarmless(origin, "the newest snapshot is there twice", version, rows, func(dir string) error {
			newest := filepath.Dir(snapshots(dir)[1])
			return os.CopyFS(newest+"0", os.DirFS(newest))
		}) {
			t.Log("a snapshot under another name was found")
		}
	})
}
