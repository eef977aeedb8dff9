package dataset

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/zeebo/xxh3"
)

// blockRows bounds the rows of a record batch and is the size of a text unit.
const blockRows = 8192

// source is one file, or the generator of one split.
type source interface {
	// name names the source in messages.
	name() string
	// scan cuts the source into units.
	scan(ctx context.Context) ([]*unit, error)
	// load decodes a unit and calls consume for each of its record batches, in
	// order. It is safe for concurrent use.
	load(ctx context.Context, u *unit, consume func(*records) error) error
}

// unit is a range of rows that is read as a whole.
type unit struct {
	src source
	// split and number name the unit: the number-th of its split.
	split  string
	number int
	// lo and hi bound the unit: bytes of a text file, row groups of a Parquet
	// file, entries of arrowFile.batches, or generated rows.
	lo, hi int64
	// line is the number of the line at lo of a text file, from 1.
	line int
	// torn lists where in a text file records with unclosed quotes begin.
	torn []int64
	// first is the number of the unit's first row in a Parquet or Arrow file.
	first int64
	// records counts rows including bad ones.
	records int

	// What follows is known after indexing.

	rows      int // without bad ones
	positives int64
	bytes     int64 // of the decoded block
	sum       xxh3.Uint128

	entry entry // guarded by cache.mu
}

// stamp identifies the state of a file.
type stamp struct {
	size, mtimeNanos int64
}

// file is an input file on disk.
type file struct {
	path  string
	stamp stamp
}

// newFile notes the state of a file.
func newFile(path string) (file, error) {
	info, err := os.Stat(path)
	if err != nil {
		return file{}, fmt.Errorf("read data: %w", err)
	}
	if !info.Mode().IsRegular() {
		return file{}, &InputError{File: path, Msg: "is not a regular file"}
	}
	return file{path: path, stamp: stampOf(info)}, nil
}

func stampOf(info os.FileInfo) stamp {
	return stamp{size: info.Size(), mtimeNanos: info.ModTime().UnixNano()}
}

func (f *file) name() string { return f.path }

// open opens the file and refuses it when it is not what it was.
func (f *file) open() (*os.File, error) {
	r, err := os.Open(f.path)
	if err != nil {
		return nil, fmt.Errorf("read data: %w", err)
	}
	info, err := r.Stat()
	if err == nil && stampOf(info) != f.stamp {
		err = fmt.Errorf("%s: %w: it had %d bytes, now %d; start again", f.path, ErrChanged, f.stamp.size, info.Size())
	}
	if err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// bad returns an InputError about the file.
func (f *file) bad(format string, args ...any) *InputError {
	return &InputError{File: f.path, Msg: fmt.Sprintf(format, args...)}
}

// guard turns a panic of a decoding library into an error: a corrupt file must
// not take the worker down.
func (f *file) guard(err *error) {
	if p := recover(); p != nil {
		*err = f.bad("the file is corrupt: %v", p)
	}
}

// resolve returns the files that the patterns of one split name: in the order
// of the patterns, the matches of a glob by name.
func resolve(root, split string, patterns []string) ([]string, error) {
	var files []string
	for _, p := range patterns {
		path := p
		if !filepath.IsAbs(path) {
			path = filepath.Join(root, path)
		}
		matches := []string{path}
		if _, err := os.Lstat(path); err != nil {
			if matches, err = filepath.Glob(path); err != nil {
				return nil, &InputError{Msg: fmt.Sprintf("data.%s: %q is not a valid pattern: %v", split, p, err)}
			}
		}
		if len(matches) == 0 {
			what := "no such file"
			if strings.ContainsAny(p, "*?[") {
				what = "no file matches"
			}
			return nil, &InputError{Msg: fmt.Sprintf("data.%s: %s: %q in data.root %q (another directory: --set spec.data.root=DIR)", split, what, p, root)}
		}
		slices.Sort(matches)
		for _, m := range matches {
			if slices.Contains(files, m) {
				return nil, &InputError{File: m, Msg: fmt.Sprintf("data.%s names this file twice (again by %q)", split, p)}
			}
			files = append(files, m)
		}
	}
	return files, nil
}
