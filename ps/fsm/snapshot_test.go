package fsm

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/fathom-train/fathom/ps/wire"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// goldenHash belongs to TestGoldenHash; it was computed by a separate program.
const goldenHash = "718192a6278ad2a8e7470f9ac992b87a"

func hexOf(h [16]byte) string { return hex.EncodeToString(h[:]) }

// write writes a snapshot.
func write(t rapid.TB, s *State, to *bytes.Buffer) {
	t.Helper()
	v := s.View()
	defer v.Release()
	n, err := v.WriteTo(to)
	if err != nil || n != int64(to.Len()) {
		t.Fatalf("wrote %d bytes of %d, error %v", n, to.Len(), err)
	}
}

// reopened returns a state restored from a snapshot of s, which it closes, and
// checks that a snapshot of it is the same bytes.
func reopened(t rapid.TB, s *State) *State {
	t.Helper()
	var first, second bytes.Buffer
	write(t, s, &first)
	again := New()
	if err := again.Restore(bytes.NewReader(first.Bytes())); err != nil {
		t.Fatal(err)
	}
	write(t, again, &second)
	if !bytes.Equal(first.Bytes(), second.Bytes()) {
		t.Fatal("a restored state gives another snapshot")
	}
	if again.Hash() != s.Hash() || again.Applied() != s.Applied() {
		t.Fatal("a restored state has another hash or index")
	}
	s.Close()
	return again
}

// halfway returns a state with images and a step half delivered.
func halfway(t rapid.TB, schema Schema) *State {
	st := configured(t, schema)
	for step := uint64(1); step <= 3; step++ {
		for lane := range schema.Lanes {
			for _, cmd := range whole(schema, step, lane) {
				st.Apply(step, cmd)
			}
		}
	}
	st.Apply(4, whole(schema, 4, 1)[0])
	return st
}

func TestViewKeepsItsStateWhileStepsGoOn(t *testing.T) {
	t.Parallel()
	schema := example(2, 2)
	st := halfway(t, schema)
	defer st.Close()
	var want, got bytes.Buffer
	write(t, st, &want)
	v := st.View()
	for step := uint64(4); step <= 9; step++ {
		for lane := range 2 {
			for _, cmd := range whole(schema, step, lane) {
				st.Apply(step, cmd)
			}
		}
	}
	if _, err := v.WriteTo(&got); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want.Bytes()) {
		t.Error("a view changed while steps were applied")
	}
	v.Release()
	v.Release()
	if _, err := v.WriteTo(io.Discard); err == nil {
		t.Error("a released view can be written")
	}
}

func TestUnconfiguredStateIsRestored(t *testing.T) {
	t.Parallel()
	st := New()
	st.Apply(6, one(wire.PushID{Factor: 1}, func(*wire.PushBuilder) {}))
	again := reopened(t, st)
	if _, ok := again.Version(); ok || again.Applied() != 6 {
		t.Errorf("configured %v at index %d", ok, again.Applied())
	}
}

func TestCloseTellsAndLeavesNothing(t *testing.T) {
	t.Parallel()
	st := halfway(t, example(1, 1))
	changed := st.Changed()
	st.Close()
	st.Close()
	select {
	case <-changed:
	default:
		t.Error("Changed was not closed by Close")
	}
	if _, ok := st.Version(); ok {
		t.Error("a closed state is configured")
	}
}

func TestRestoreReplacesTheStateAndTells(t *testing.T) {
	t.Parallel()
	schema := example(2, 1)
	from, to := halfway(t, schema), configured(t, example(1, 0))
	defer from.Close()
	defer to.Close()
	var b bytes.Buffer
	write(t, from, &b)
	b.WriteString("behind")
	changed := to.Changed()
	if err := to.Restore(&b); err != nil {
		t.Fatal(err)
	}
	select {
	case <-changed:
	default:
		t.Error("Changed was not closed by Restore")
	}
	if b.String() != "behind" {
		t.Errorf("%q is left, Restore must stop at the end of the snapshot", b.String())
	}
	if v, _ := to.Version(); v != 3 || to.Hash() != from.Hash() {
		t.Errorf("restored version %d", v)
	}
}

// TestEveryDamageOfASnapshotIsFound changes and cuts a snapshot at every byte.
func TestEveryDamageOfASnapshotIsFound(t *testing.T) {
	t.Parallel()
	schema := example(2, 1)
	schema.Dense[0].Size = 8
	st := halfway(t, schema)
	defer st.Close()
	var b bytes.Buffer
	write(t, st, &b)
	to := configured(t, example(1, 0))
	defer to.Close()
	before := to.Hash()
	restore := func(what string, at int, p []byte) {
		if err := to.Restore(bytes.NewReader(p)); !errors.Is(err, ErrSnapshot) {
			t.Fatalf("%s at byte %d of %d: error %v", what, at, b.Len(), err)
		}
	}
	for i := range b.Len() {
		p := bytes.Clone(b.Bytes())
		p[i] ^= 1 << (i % 8)
		restore("flipped", i, p)
		if i%16 == 0 {
			restore("cut", i, b.Bytes()[:i])
		}
	}
	if to.Hash() != before {
		t.Error("a restore that failed changed the state")
	}
	broken := errors.New("disk")
	if err := to.Restore(io.MultiReader(bytes.NewReader(b.Bytes()[:99]), iotest.ErrReader(broken))); !errors.Is(err, broken) {
		t.Errorf("an error of the reader: %v", err)
	}
}

// failing fails after some bytes.
type failing struct{ left int }

func (f *failing) Write(p []byte) (int, error) {
	if len(p) > f.left {
		return f.left, errors.New("full")
	}
	f.left -= len(p)
	return len(p), nil
}

func TestWriteErrorsAreReported(t *testing.T) {
	t.Parallel()
	st := halfway(t, example(2, 1))
	defer st.Close()
	for left := 0; left < 3000; left += 100 {
		v := st.View()
		if _, err := v.WriteTo(&failing{left}); err == nil || err.Error() != "full" {
			t.Errorf("a disk of %d bytes: error %v", left, err)
		}
		if _, err := v.WriteTo(io.Discard); err == nil {
			t.Error("a view was written twice")
		}
		v.Release()
	}
}

// forged builds snapshots block by block, with sound checksums.
func forged(blocks func(b *blockWriter)) []byte {
	var out bytes.Buffer
	b := newBlockWriter(&out)
	b.magic(snapshotMagic)
	blocks(b)
	b.block(blockEnd, 0, b.digest.Sum(nil))
	return out.Bytes()
}

// TestForgedSnapshotsAreRefused checks what no checksum can find.
func TestForgedSnapshotsAreRefused(t *testing.T) {
	t.Parallel()
	st := halfway(t, example(2, 1))
	defer st.Close()
	v := st.View()
	defer v.Release()
	meta := func(b *blockWriter) { b.block(blockMeta, 0, v.meta) }
	changed := func(at int, to byte) func(b *blockWriter) {
		return func(b *blockWriter) {
			m := bytes.Clone(v.meta)
			m[at] = to
			b.block(blockMeta, 0, m)
		}
	}
	f := func(want string, blocks ...func(b *blockWriter)) {
		t.Helper()
		s := New()
		err := s.Restore(bytes.NewReader(forged(func(b *blockWriter) {
			for _, w := range blocks {
				w(b)
			}
		})))
		if !errors.Is(err, ErrSnapshot) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
		if _, ok := s.Version(); ok {
			t.Errorf("%s: restored all the same", want)
		}
	}
	block := func(kind, which int, body []byte) func(b *blockWriter) {
		return func(b *blockWriter) { b.block(kind, which, body) }
	}
	version := func(v byte) []byte { return []byte{v, 0, 0, 0, 0, 0, 0, 0} }
	full := func(b *blockWriter) {
		for i, d := range v.dense {
			b.floats(blockDense, i, d)
		}
	}
	f("begins with a block of kind 2", block(blockRows, 0, nil))
	f("begins with a block of kind 11")
	f("meta block of 3 bytes", block(blockMeta, 0, make([]byte, 3)))
	f("decode schema", changed(metaSize, 'x'))
	f("9 images, the schema keeps 1", changed(20, 9))
	f("1 images of version 0", changed(0, 0))
	f("behind kind 1", block(blockMeta, 0, make([]byte, metaSize)), block(blockRows, 0, nil))
	f("kind 2 behind kind 3", meta, full, block(blockRows, 0, nil))
	f("number 7 of 2", meta, block(blockRows, 7, nil))
	f("multiple of", meta, block(blockRows, 0, make([]byte, 3)))
	rows := block(blockRows, 0, v.tables[0].Block(nil, 0))
	f("twice", meta, rows, rows)
	f("bytes of floats", meta, full, block(blockDense, 2, make([]byte, 4)))
	f("bytes of floats", meta, block(blockDense, 0, make([]byte, 3)))
	f("0 of 180 floats of dense tensor 1", meta)
	f("image before it", meta, full, block(blockImageRows, 0, nil))
	f("image block of 3 bytes", meta, block(blockImage, 0, make([]byte, 3)))
	f("image of version 1, want 2", meta, block(blockImage, 0, version(1)))
	f("image of version 3, want 3", meta, block(blockImage, 0, version(2)), block(blockImage, 0, version(3)))
	f("image rows of 0 bytes", meta, block(blockImage, 0, version(2)), block(blockImageRows, 0, nil))
	f("255 image rows", meta, block(blockImage, 0, version(2)), block(blockImageRows, 0, version(255)))
	f("image row 0x0 behind row 0x0", meta, block(blockImage, 0, version(2)), block(blockImageRows, 0, append(version(2), make([]byte, 2*28)...)))
	f("244 bytes of floats", meta, block(blockImage, 0, version(2)), block(blockImageDense, 0, make([]byte, 244)))
	f("0 of 1 images", meta, full)
	f("1 of 60 floats of an image", meta, full, block(blockImage, 0, version(2)), block(blockImageDense, 0, make([]byte, 4)))
	f("state hash", meta, full, block(blockImage, 0, version(2)))
	f("corrupt", meta, block(blockChunk, 0, nil))
	f("is a duplicate", meta, block(blockChunk, 0, whole(example(2, 1), 3, 0)[0]))
	f("ahead", meta, block(blockChunk, 0, whole(example(2, 1), 5, 0)[0]))
	f("complete and not applied", meta, block(blockChunk, 0, whole(example(2, 1), 4, 0)[0]), block(blockChunk, 0, whole(example(2, 1), 4, 1)[0]))
	f("totals of 3 bytes", meta, block(blockTotals, 0, make([]byte, 3)))
	f("unknown kind 12", meta, block(12, 0, nil))
	f("at most 1048576", meta, block(blockChunk, 0, make([]byte, blockMax+1)))
}

func TestLookupRefusals(t *testing.T) {
	t.Parallel()
	schema := example(2, 1)
	st := halfway(t, schema)
	defer st.Close()
	f := func(want error, version uint64, req wire.PullRequest, size int) {
		t.Helper()
		req.Run += run
		if err := st.Lookup(version, &req, make([]float32, size)); !errors.Is(err, want) || err == nil {
			t.Errorf("got error %v, want %v", err, want)
		}
	}
	huge := make([]wire.TableKeys, 1+wire.MaxPullFloats/(5*40))
	keys := everything(schema).Tables[0].Keys[:40]
	for i := range huge {
		huge[i].Keys = keys
	}
	f(ErrNotReached, 4, wire.PullRequest{}, 0)
	f(ErrVersionGone, 1, wire.PullRequest{}, 0)
	f(ErrWrongRun, 3, wire.PullRequest{Run: 1}, 0)
	f(ErrUnknownTable, 3, wire.PullRequest{Tables: []wire.TableKeys{{Table: 9}}}, 0)
	f(ErrUnknownTensor, 3, wire.PullRequest{Dense: []uint16{9}}, 0)
	f(ErrTooLarge, 3, wire.PullRequest{Tables: huge}, 0)
	if err := st.Lookup(3, &wire.PullRequest{Run: run, Dense: []uint16{1}}, nil); err == nil {
		t.Error("a destination of another length is not refused")
	}
	if n, err := st.Floats(&wire.PullRequest{Run: run, Dense: slices.Repeat([]uint16{1}, 1000)}); n != 60000 || err != nil {
		t.Errorf("a tensor a thousand times: %d %v", n, err)
	}
}

func TestStats(t *testing.T) {
	t.Parallel()
	st := halfway(t, example(2, 1))
	defer st.Close()
	got := st.Stats()
	var stored uint64
	for i := range got.Tables {
		n := got.Tables[i].Rows
		stored += n
		if got.Tables[i].MemoryBytes < n*8 {
			t.Errorf("table %d holds %d bytes", i, got.Tables[i].MemoryBytes)
		}
		got.Tables[i].MemoryBytes, got.Tables[i].Rows = 0, 0
		for j := range got.Tables[i].Columns {
			c := &got.Tables[i].Columns[j]
			c.Parameters, c.Bytes, c.StateBytes = c.Parameters/n, c.Bytes/n, c.StateBytes/n
		}
	}
	if stored == 0 || got.PendingBytes < 100 || got.ImageBytes == 0 {
		t.Errorf("%d rows, %d bytes pending, %d of images", stored, got.PendingBytes, got.ImageBytes)
	}
	got.PendingBytes, got.ImageBytes = 0, 0
	want := Stats{
		Configured: true, Version: 3, PendingChunks: 1,
		Tables: []TableStats{
			{ID: 0, Name: "rows", Columns: []ColumnStats{{"linear", 1, 4, 4}, {"embedding", 4, 16, 48}}},
			{ID: 3, Name: "more", Columns: []ColumnStats{{"w", 2, 8, 24}}},
		},
		Dense: DenseStats{Tensors: 3, Parameters: 67, Running: 3, Bytes: 280, StateBytes: 280 + 2*240},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestSchemaFaultsAreAllNamed(t *testing.T) {
	t.Parallel()
	s := example(0, -1)
	s.Tables[1].ID, s.Tables[1].Columns[0].Width = 0, 0
	s.Dense[1].ID, s.Dense[1].Size, s.Dense[2].Optimizer.Name, s.Dense[0].Init.Kind = 1, MaxDenseFloats, "odd", "odd"
	_, err := MarshalSchema(s)
	for _, want := range []string{"0 lanes", "-1 pre-images", "table 0 twice", "0 wide", "tensor 1 twice", "67108864 elements", "optimizer", "init"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not say %q", err, want)
		}
	}
	long := example(1, 0)
	long.Job = strings.Repeat("x", wire.MaxSchema)
	if _, err := MarshalSchema(long); err == nil || !strings.Contains(err.Error(), "bytes, at most") {
		t.Errorf("a schema above the limit: %v", err)
	}
	many := example(1, 0)
	many.Tables = slices.Repeat(many.Tables, MaxTables)
	if err := many.Validate(); err == nil || !strings.Contains(err.Error(), "tables, at most") {
		t.Errorf("too many tables: %v", err)
	}
	b, err := MarshalSchema(example(1, 0))
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseSchema(b)
	if d := cmp.Diff(example(1, 0), got); err != nil || d != "" {
		t.Errorf("error %v (-want +got):\n%s", err, d)
	}
}

func TestStatusesHaveNames(t *testing.T) {
	t.Parallel()
	var names []string
	for s := range Status(8) {
		names = append(names, s.String())
	}
	want := "status 0,accepted,duplicate,ahead,unconfigured,mismatch,invalid,status 7"
	if got := strings.Join(names, ","); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
