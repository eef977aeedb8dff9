package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"path"
	"path/filepath"
	"strings"

	"gocloud.dev/blob"
	_ "gocloud.dev/blob/s3blob" // s3://
	"gocloud.dev/gcerrors"
)

// Bucket holds files by names that are relative paths with slashes.
type Bucket interface {
	// Create writes a file. It is there whole and durably when Create returns nil,
	// and not at all, or as it was before, when it returns an error.
	Create(ctx context.Context, name string, write func(io.Writer) error) error
	// Open reads a file; the error wraps fs.ErrNotExist when there is none.
	Open(ctx context.Context, name string) (io.ReadCloser, error)
	// List returns the names of all files below a folder ("" is all), ascending.
	List(ctx context.Context, folder string) ([]string, error)
	// Delete removes a file; one that is not there is no error.
	Delete(ctx context.Context, name string) error
	Close() error
}

// Open opens the bucket at a path or URL. A path or file:// is a directory of
// this machine, or one that all machines mount; s3:// is an S3-compatible
// object store, named as s3://BUCKET/PREFIX?region=R, for another vendor with
// &endpoint=https://HOST&use_path_style=true. Credentials come from the
// environment or the machine's role, as for all programs that use AWS.
func Open(ctx context.Context, location string) (Bucket, error) {
	u, err := parse(location)
	if err != nil {
		return nil, err
	}
	if u.Scheme == "file" {
		return directory(filepath.FromSlash(u.Path)), nil
	}
	prefix := strings.Trim(u.Path, "/")
	u.Path = ""
	b, err := blob.OpenBucket(ctx, u.String())
	if err != nil {
		return nil, fmt.Errorf("open checkpoint store %s: %w", location, err)
	}
	if prefix != "" {
		b = blob.PrefixedBucket(b, prefix+"/")
	}
	return object{b, location}, nil
}

// schemes are what Open accepts besides paths.
var schemes = map[string]bool{"file": true, "s3": true}

func parse(location string) (*url.URL, error) {
	if location == "" {
		return nil, errors.New("no directory or URL of checkpoints is given")
	}
	if !strings.Contains(location, "://") {
		return &url.URL{Scheme: "file", Path: filepath.ToSlash(location)}, nil
	}
	u, err := url.Parse(location)
	if err != nil {
		return nil, fmt.Errorf("location of checkpoints: %w", err)
	}
	switch {
	case !schemes[u.Scheme]:
		return nil, fmt.Errorf("location of checkpoints %s: want a path, file:// or s3://", location)
	case u.Scheme == "file" && u.Host != "":
		return nil, fmt.Errorf("location of checkpoints %s: a file URL has three slashes, as in file:///%s%s", location, u.Host, u.Path)
	case u.Scheme != "file" && u.Host == "":
		return nil, fmt.Errorf("location of checkpoints %s: the bucket is not named", location)
	}
	return u, nil
}

// CheckLocation tells what is wrong with a location, without opening it.
func CheckLocation(location string) error {
	_, err := parse(location)
	return err
}

// Join returns the location of something below a location.
func Join(location, name string) string {
	if !strings.Contains(location, "://") {
		return filepath.Join(location, filepath.FromSlash(name))
	}
	rest, query, found := strings.Cut(location, "?")
	joined := strings.TrimRight(rest, "/") + "/" + name
	if found {
		joined += "?" + query
	}
	return joined
}

// Split undoes Join by n elements: the location above, and the name below it.
func Split(location string, n int) (above, name string) {
	rest, query, found := strings.Cut(location, "?")
	rest = strings.TrimRight(filepath.ToSlash(rest), "/")
	for range n {
		i := strings.LastIndex(rest, "/")
		if i < 0 {
			rest, name = ".", path.Join(rest, name)
			continue
		}
		name = path.Join(rest[i+1:], name)
		rest = rest[:max(i, 1)]
		if i > 0 {
			rest = rest[:i]
		}
	}
	if found {
		rest += "?" + query
	}
	return rest, name
}

// object is a bucket of an object store. Its files appear whole when they are
// closed; a cancelled writer leaves nothing.
type object struct {
	bucket   *blob.Bucket
	location string
}

func (o object) Create(ctx context.Context, name string, write func(io.Writer) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w, err := o.bucket.NewWriter(ctx, name, &blob.WriterOptions{ContentType: "application/octet-stream"})
	if err != nil {
		return o.failed("write", name, err)
	}
	if err := write(w); err != nil {
		cancel()
		w.Close() // reports the cancellation, which discards the file
		return o.failed("write", name, err)
	}
	if err := w.Close(); err != nil {
		return o.failed("write", name, err)
	}
	return nil
}

func (o object) failed(what, name string, err error) error {
	if gcerrors.Code(err) == gcerrors.NotFound {
		err = fs.ErrNotExist
	}
	return fmt.Errorf("%s %s: %w", what, Join(o.location, name), err)
}

func (o object) Open(ctx context.Context, name string) (io.ReadCloser, error) {
	r, err := o.bucket.NewReader(ctx, name, nil)
	if err != nil {
		return nil, o.failed("read", name, err)
	}
	return r, nil
}

func (o object) List(ctx context.Context, folder string) ([]string, error) {
	prefix := ""
	if folder != "" {
		prefix = folder + "/"
	}
	var names []string
	for found := o.bucket.List(&blob.ListOptions{Prefix: prefix}); ; {
		f, err := found.Next(ctx)
		if err == io.EOF {
			return names, nil
		}
		if err != nil {
			return nil, o.failed("list", folder, err)
		}
		names = append(names, f.Key)
	}
}

func (o object) Delete(ctx context.Context, name string) error {
	err := o.bucket.Delete(ctx, name)
	if err != nil && gcerrors.Code(err) != gcerrors.NotFound {
		return o.failed("delete", name, err)
	}
	return nil
}

func (o object) Close() error { return o.bucket.Close() }
