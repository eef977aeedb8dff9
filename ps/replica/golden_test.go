package replica

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"testing"
)

var update = flag.Bool("update", false, "write the directory of a replica anew")

// goldenDir holds what this version, and every later one, must be able to open:
// a snapshot and the log behind it, of ten steps.
const goldenDir, goldenRows, goldenSteps = "testdata/replica.tar.gz", 8, 10

// Servers are stopped and started with a newer program on the same directories:
// what an older one wrote is read, to the same bits. Whoever must change the
// format keeps this file and adds another.
func TestDirectoryOfAnOlderVersionIsRead(t *testing.T) {
	t.Parallel()
	if *update {
		c := written(t, goldenRows, func(cfg *Config) {
			cfg.SnapshotBytes, cfg.SegmentBytes, cfg.TrailingEntries, cfg.OutstandingEntries = 3<<10, 8<<10, 4, 2
		})
		eventually(t, "a snapshot", func() bool { return c.groups[0].snaps.size.Load() > 0 })
		c.close(0)
		if err := pack(goldenDir, c.dirs[0]); err != nil {
			t.Fatal(err)
		}
	}
	c := newCluster(t, 1)
	c.tune = func(_ int, cfg *Config) { cfg.Bootstrap, cfg.SegmentBytes = false, 8<<10 }
	if err := unpack(c.dirs[0], goldenDir); err != nil {
		t.Fatal(err)
	}
	found, err := (&snapshots{dir: filepath.Join(c.dirs[0], snapshotsFolder)}).inspect()
	if err != nil || len(found) == 0 || found[0].err != nil {
		t.Fatalf("snapshots %v, %v", found, err)
	}
	c.tcp()
	c.settled(goldenSteps, goldenRows)
	if last, err := c.groups[0].store.LastIndex(); err != nil || last <= found[0].meta.Index {
		t.Errorf("the log ends at entry %d, want some behind the snapshot of entry %d: %v", last, found[0].meta.Index, err)
	}
	c.train(goldenSteps+1, goldenSteps+2, goldenRows)
	c.settled(goldenSteps+2, goldenRows)
}

func pack(to, dir string) error {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	if err := errors.Join(w.AddFS(os.DirFS(dir)), w.Close(), z.Close()); err != nil {
		return err
	}
	return os.WriteFile(to, b.Bytes(), 0o644)
}

func unpack(dir, from string) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		path := filepath.Join(dir, h.Name)
		if h.FileInfo().IsDir() {
			continue
		}
		b, err := io.ReadAll(r)
		if err != nil {
			return err
		}
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, b, 0o600)); err != nil {
			return err
		}
	}
}
