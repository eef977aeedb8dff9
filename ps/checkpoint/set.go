package checkpoint

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
)

// Entry is one checkpoint of a bucket.
type Entry struct {
	Name     string    // folder
	Manifest *Manifest // nil when it cannot be used
	Err      error     // why not
}

// List returns all checkpoints below the bucket's root, oldest first by run and
// step. A damaged manifest is an entry with its error.
func List(ctx context.Context, b Bucket) ([]Entry, error) {
	names, err := b.List(ctx, "")
	if err != nil {
		return nil, err
	}
	var all []Entry
	for _, n := range names {
		folder, file := path.Split(n)
		if file != ManifestName {
			continue
		}
		e := Entry{Name: strings.TrimSuffix(folder, "/")}
		e.Manifest, e.Err = ReadManifest(ctx, b, e.Name)
		if errors.Is(e.Err, ErrNone) {
			continue // deleted meanwhile
		}
		all = append(all, e)
	}
	return all, nil
}

// Newest returns the sound checkpoint of the highest step of a run, and of several
// runs the one that was made last: clocks may be wrong, steps are not. Its error
// wraps ErrNone when there is none.
func Newest(ctx context.Context, b Bucket) (Entry, error) {
	all, err := List(ctx, b)
	if err != nil {
		return Entry{}, err
	}
	sound := slices.DeleteFunc(slices.Clone(all), func(e Entry) bool { return e.Err != nil })
	if len(sound) == 0 {
		if len(all) > 0 {
			return Entry{}, fmt.Errorf("none of %d checkpoints can be read, the last because of: %w", len(all), all[len(all)-1].Err)
		}
		return Entry{}, ErrNone
	}
	furthest := map[string]Entry{}
	for _, e := range sound {
		if known, ok := furthest[e.Manifest.Run]; !ok || e.Manifest.Step > known.Manifest.Step {
			furthest[e.Manifest.Run] = e
		}
	}
	return slices.MaxFunc(slices.Collect(maps.Values(furthest)), func(x, y Entry) int {
		return cmp.Or(x.Manifest.Created.Compare(y.Manifest.Created), cmp.Compare(x.Name, y.Name))
	}), nil
}

// Delete removes a checkpoint: the manifest first, so that it does not exist any
// more when anything of it is missing.
func Delete(ctx context.Context, b Bucket, name string) error {
	names, err := b.List(ctx, name)
	if err != nil {
		return err
	}
	if err := b.Delete(ctx, path.Join(name, ManifestName)); err != nil {
		return err
	}
	var errs []error
	for _, n := range names {
		if path.Base(n) != ManifestName {
			errs = append(errs, b.Delete(ctx, n))
		}
	}
	return errors.Join(errs...)
}

// Prune deletes the checkpoints of a run that are not wanted any more, and what
// is left of attempts: all files in folders of steps below the newest wanted one
// that are named by no wanted manifest.
func Prune(ctx context.Context, b Bucket, run string, wanted []uint64) error {
	if len(wanted) == 0 {
		return nil
	}
	names, err := b.List(ctx, run)
	if err != nil {
		return err
	}
	kept := map[string]bool{}
	for _, step := range wanted {
		folder := Name(run, step)
		m, err := ReadManifest(ctx, b, folder)
		if err != nil {
			return fmt.Errorf("prune: %w", err) // nothing is deleted beside a damaged one
		}
		kept[path.Join(folder, ManifestName)] = true
		for _, f := range m.Files {
			kept[path.Join(folder, f.Name)] = true
		}
	}
	newest := Name(run, slices.Max(wanted))
	var errs []error
	// Manifests first: a checkpoint loses nothing before it ceases to exist.
	for _, manifests := range []bool{true, false} {
		for _, n := range names {
			if kept[n] || path.Dir(n) > newest || (path.Base(n) == ManifestName) != manifests {
				continue
			}
			errs = append(errs, b.Delete(ctx, n))
		}
	}
	return errors.Join(errs...)
}

// Present fails unless all files are there that the manifest names. Their content is
// not looked at.
func Present(ctx context.Context, b Bucket, m *Manifest) error {
	names, err := b.List(ctx, m.Name())
	if err != nil {
		return err
	}
	for _, f := range m.Files {
		if name := path.Join(m.Name(), f.Name); !slices.Contains(names, name) {
			return damaged(name, "it is gone")
		}
	}
	return nil
}

// OpenFile opens a shard's file of a checkpoint. Its size and checksum are
// compared at its end: the read that would be io.EOF fails instead.
func OpenFile(ctx context.Context, b Bucket, checkpoint string, f File) (io.ReadCloser, error) {
	name := path.Join(checkpoint, f.Name)
	r, err := b.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	return &checked{name: name, file: f, r: r, sum: sha256.New()}, nil
}

// checked reads a file and compares it with the manifest.
type checked struct {
	name string
	file File
	r    io.ReadCloser
	sum  hash.Hash
	n    int64
}

func (c *checked) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	c.sum.Write(p[:n])
	if err == io.EOF {
		if c.n != c.file.Bytes {
			return n, damaged(c.name, "it has %d bytes, the manifest says %d", c.n, c.file.Bytes)
		}
		if got := hex.EncodeToString(c.sum.Sum(nil)); got != c.file.SHA256 {
			return n, damaged(c.name, "its SHA-256 is %s, the manifest says %s", got, c.file.SHA256)
		}
	}
	return n, err
}

// Close closes the file.
func (c *checked) Close() error { return c.r.Close() }

// AtEnd fails unless a file of OpenFile ends here, as the manifest says.
func AtEnd(r io.Reader) error {
	n, err := io.Copy(io.Discard, r)
	if err == nil && n > 0 {
		return fmt.Errorf("%w: %d bytes behind the end of the shard", ErrDamaged, n)
	}
	return err
}
