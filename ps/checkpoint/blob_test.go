package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
)

// s3 starts an S3-compatible server on the loopback and returns the location of
// a folder in a bucket of it.
func s3(t *testing.T) string {
	t.Helper()
	backend := s3mem.New()
	if err := backend.CreateBucket("models"); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(gofakes3.New(backend).Server())
	t.Cleanup(server.Close)
	t.Setenv("AWS_ACCESS_KEY_ID", "test")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "test")
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	return fmt.Sprintf("s3://models/team/ctr?region=us-east-1&endpoint=%s&use_path_style=true", server.URL)
}

// TestBuckets holds both kinds of bucket to the contract of Bucket.
func TestBuckets(t *testing.T) {
	for name, location := range map[string]string{"directory": t.TempDir(), "s3": s3(t)} {
		t.Run(name, func(t *testing.T) {
			ctx := context.Background()
			b, err := Open(ctx, location)
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			put := func(name, text string, fail error) error {
				return b.Create(ctx, name, func(w io.Writer) error {
					_, err := io.WriteString(w, text)
					return errors.Join(err, fail)
				})
			}
			if _, err := b.Open(ctx, "a/x"); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("a file that is not there: %v", err)
			}
			for _, n := range []string{"a/x", "a/b/y", "ab/z"} {
				if err := put(n, "of "+n, nil); err != nil {
					t.Fatal(err)
				}
			}
			full := errors.New("full")
			if err := put("a/half", "half", full); !errors.Is(err, full) {
				t.Errorf("a write that fails: %v", err)
			}
			if err := put("a/x", "other", full); !errors.Is(err, full) {
				t.Errorf("a write that fails: %v", err)
			}
			r, err := b.Open(ctx, "a/x")
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(r)
			if err := errors.Join(err, r.Close()); err != nil || string(text) != "of a/x" {
				t.Errorf("read %q, error %v", text, err)
			}
			if names, err := b.List(ctx, "a"); err != nil || strings.Join(names, " ") != "a/b/y a/x" {
				t.Errorf("below a: %v, error %v", names, err)
			}
			for range 2 {
				if err := b.Delete(ctx, "a/x"); err != nil {
					t.Error(err)
				}
			}
			if names, err := b.List(ctx, ""); err != nil || strings.Join(names, " ") != "a/b/y ab/z" {
				t.Errorf("all: %v, error %v", names, err)
			}
		})
	}
}
