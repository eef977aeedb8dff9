package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// directory is a bucket in the file system. It is not the library's, which
// neither syncs files nor directories: a manifest could survive a power cut that
// its shards do not.
type directory string

func (d directory) path(name string) (string, error) {
	if !filepath.IsLocal(filepath.FromSlash(name)) {
		return "", fmt.Errorf("%q is no name of a file in %s", name, string(d))
	}
	return filepath.Join(string(d), filepath.FromSlash(name)), nil
}

// temporary marks files that are being written.
const temporary = ".tmp-"

func (d directory) Create(ctx context.Context, name string, write func(io.Writer) error) (err error) {
	path, err := d.path(name)
	if err != nil {
		return err
	}
	if err := makeDirs(filepath.Dir(path)); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), temporary+"*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			f.Close()           // the first error says it all
			os.Remove(f.Name()) // likewise
			err = fmt.Errorf("write %s: %w", path, err)
		}
	}()
	if err := write(f); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := f.Chmod(0o644); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

// makeDirs makes a directory durably, with those above it.
func makeDirs(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	above := filepath.Dir(dir)
	if above != dir {
		if err := makeDirs(above); err != nil {
			return err
		}
	}
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make directory of checkpoints: %w", err)
	}
	return syncDir(above)
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	defer f.Close()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync directory: %w", err)
	}
	return nil
}

func (d directory) Open(_ context.Context, name string) (io.ReadCloser, error) {
	path, err := d.path(name)
	if err != nil {
		return nil, err
	}
	return os.Open(path)
}

func (d directory) List(ctx context.Context, folder string) ([]string, error) {
	root := string(d)
	if folder != "" {
		var err error
		if root, err = d.path(folder); err != nil {
			return nil, err
		}
	}
	var names []string
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil // deleted meanwhile, or not begun
		case err != nil:
			return err
		case e.IsDir():
			return ctx.Err()
		}
		name, err := filepath.Rel(string(d), path)
		if err != nil {
			return err
		}
		names = append(names, filepath.ToSlash(name))
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list %s: %w", root, err)
	}
	slices.Sort(names)
	return names, nil
}

func (d directory) Delete(_ context.Context, name string) error {
	path, err := d.path(name)
	if err != nil {
		return err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("delete: %w", err)
	}
	// Folders that are empty now go as well; Remove fails on the others.
	for at := filepath.Dir(path); len(at) > len(d) && strings.HasPrefix(at, string(d)); at = filepath.Dir(at) {
		if os.Remove(at) != nil {
			break
		}
	}
	return nil
}

func (d directory) Close() error { return nil }
