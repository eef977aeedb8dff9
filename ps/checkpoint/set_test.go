package checkpoint

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"math"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const testRun = "ctr-00000000000000ab"

// commit writes a checkpoint of two shards.
func commit(t testing.TB, b Bucket, step uint64) *Manifest {
	t.Helper()
	m := &Manifest{Created: time.Unix(int64(step), 0), Job: "ctr", Run: "00000000000000ab", Step: step}
	for i, keys := range [][2]uint64{{0, 99}, {100, math.MaxUint64}} {
		name, text := "shard-"+string(rune('0'+i)), strings.Repeat("x", 10+i)
		sum := sha256.Sum256([]byte(text))
		m.Files = append(m.Files, File{Name: name, Lo: keys[0], Hi: keys[1], Bytes: int64(len(text)), SHA256: hex.EncodeToString(sum[:])})
		create(t, b, path.Join(m.Name(), name), text)
	}
	m.Files[1].Shard = 1
	if err := Commit(context.Background(), b, m); err != nil {
		t.Fatal(err)
	}
	return m
}

func create(t testing.TB, b Bucket, name, text string) {
	t.Helper()
	err := b.Create(context.Background(), name, func(w io.Writer) error { _, err := io.WriteString(w, text); return err })
	if err != nil {
		t.Fatal(err)
	}
}

func names(t *testing.T, b Bucket) []string {
	t.Helper()
	all, err := b.List(context.Background(), "")
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestListNewestAndPrune(t *testing.T) {
	ctx := context.Background()
	b := directory(t.TempDir())
	if _, err := Newest(ctx, b); !errors.Is(err, ErrNone) {
		t.Errorf("an empty directory: %v", err)
	}
	for _, step := range []uint64{10, 20, 30} {
		commit(t, b, step)
	}
	create(t, b, Name(testRun, 25)+"/shard-0", "left by an attempt")
	create(t, b, Name(testRun, 40)+"/shard-0", "of an attempt under way")
	create(t, b, "other-0000000000000001/000000000001/shard-0", "of another run")
	if all, err := List(ctx, b); err != nil || len(all) != 3 || all[2].Manifest.Step != 30 {
		t.Errorf("listed %v, error %v", all, err)
	}
	if e, err := Newest(ctx, b); err != nil || e.Name != Name(testRun, 30) {
		t.Errorf("newest %v, error %v", e, err)
	}
	if err := Prune(ctx, b, testRun, []uint64{10, 30}); err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, step := range []uint64{10, 30} {
		want = append(want, Name(testRun, step)+"/"+ManifestName, Name(testRun, step)+"/shard-0", Name(testRun, step)+"/shard-1")
	}
	want = append(want, Name(testRun, 40)+"/shard-0", "other-0000000000000001/000000000001/shard-0")
	if diff := cmp.Diff(want, names(t, b)); diff != "" {
		t.Errorf("after pruning (-want +got):\n%s", diff)
	}
	if err := Delete(ctx, b, Name(testRun, 10)); err != nil {
		t.Fatal(err)
	}
	if all, err := List(ctx, b); err != nil || len(all) != 1 {
		t.Errorf("listed %v, error %v", all, err)
	}
}

// A clock that was set back between two checkpoints does not make the older one
// the newest.
func TestNewestIsTheHighestStepWhateverTheClockSaid(t *testing.T) {
	ctx := context.Background()
	b := directory(t.TempDir())
	commit(t, b, 10)
	late := commit(t, b, 20)
	late.Created = time.Unix(5, 0)
	if err := Commit(ctx, b, late); err != nil {
		t.Fatal(err)
	}
	if e, err := Newest(ctx, b); err != nil || e.Manifest.Step != 20 {
		t.Errorf("newest %v, error %v, want step 20", e, err)
	}
}

func TestDamageIsFoundAndNamed(t *testing.T) {
	ctx := context.Background()
	b := directory(t.TempDir())
	m := commit(t, b, 10)
	read := func() error {
		r, err := OpenFile(ctx, b, m.Name(), m.Files[0])
		if err != nil {
			return err
		}
		defer r.Close()
		_, err = io.ReadAll(r)
		return err
	}
	if err := read(); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"xxxxyxxxxx", "xxx", "xxxxxxxxxxx"} {
		create(t, b, path.Join(m.Name(), "shard-0"), text)
		if err := read(); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "shard-0") {
			t.Errorf("%q: error %v", text, err)
		}
	}
}

func TestEveryFlippedBitOfAManifestIsFound(t *testing.T) {
	text, err := commit(t, directory(t.TempDir()), 10).encode()
	if err != nil {
		t.Fatal(err)
	}
	want, err := DecodeManifest("m", text)
	if err != nil {
		t.Fatal(err)
	}
	// The case of a name does not count in JSON.
	for i := range text {
		bad := bytes.Clone(text)
		bad[i] ^= 1 << (i % 8)
		if got, err := DecodeManifest("m", bad); err == nil && !cmp.Equal(got, want) {
			t.Fatalf("byte %d flipped to %q: read as another manifest", i, bad[i])
		}
	}
}

func FuzzManifest(f *testing.F) {
	text, err := commit(f, directory(f.TempDir()), 10).encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := DecodeManifest("m", b)
		if err != nil {
			return
		}
		if again, err := m.encode(); err != nil || len(again) == 0 {
			t.Fatalf("a manifest that was read cannot be written: %v", err)
		}
	})
}

func TestLocations(t *testing.T) {
	for _, c := range []struct{ location, name, joined string }{
		{"/data", "a/b", "/data/a/b"},
		{"s3://bucket/p?region=r", "a/b", "s3://bucket/p/a/b?region=r"},
		{"file:///data", "a/b", "file:///data/a/b"},
	} {
		if got := Join(c.location, c.name); got != c.joined {
			t.Errorf("join %s and %s: %s, want %s", c.location, c.name, got, c.joined)
		}
		if above, name := Split(c.joined, 2); above != c.location || name != c.name {
			t.Errorf("split %s: %s and %s", c.joined, above, name)
		}
	}
	for _, bad := range []string{"", "gs://x/y", "s3:///x", "file://host/x"} {
		if CheckLocation(bad) == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

func TestDifferencesAreNamed(t *testing.T) {
	column := func(name string, width uint32, optimizer string) Column {
		return Column{Name: name, Width: width, Optimizer: []byte(`{"name":"` + optimizer + `"}`)}
	}
	have := Schema{Tables: []Table{{ID: 0, Name: "rows", Columns: []Column{column("w", 1, "sgd"), column("e", 8, "lamb")}}},
		Dense: []Tensor{{ID: 1, Name: "hidden", Size: 100, Optimizer: []byte(`{"name":"lamb"}`)}}}
	if d := Differences(have, have); len(d) != 0 {
		t.Errorf("equal schemas differ: %v", d)
	}
	other := Schema{Tables: []Table{{ID: 1, Name: "rows", Columns: []Column{column("w", 1, "adam"), column("e", 4, "lamb")}}, {ID: 2, Name: "more"}},
		Dense: []Tensor{{ID: 1, Name: "hidden", Size: 101, Optimizer: []byte(`{"name":"lamb"}`)}, {ID: 2, Name: "out", Size: 1}}}
	want := []string{
		"table rows has number 0 in the checkpoint, 1 in the job",
		"column w of table rows is updated by sgd in the checkpoint, by adam in the job",
		"column e of table rows is 8 wide in the checkpoint, 4 in the job",
		"table more is not in the checkpoint",
		"dense tensor hidden has 100 elements in the checkpoint, 101 in the job",
		"dense tensor out is not in the checkpoint",
	}
	if diff := cmp.Diff(want, Differences(have, other)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestMissingFilesAreNamed(t *testing.T) {
	ctx := context.Background()
	b := directory(t.TempDir())
	m := commit(t, b, 5)
	if err := Present(ctx, b, m); err != nil {
		t.Error(err)
	}
	gone := path.Join(m.Name(), m.Files[1].Name)
	if err := b.Delete(ctx, gone); err != nil {
		t.Fatal(err)
	}
	if err := Present(ctx, b, m); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), gone) {
		t.Errorf("error %v, want one that names %s", err, gone)
	}
}
