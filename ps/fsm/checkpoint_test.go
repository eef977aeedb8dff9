package fsm

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/fathom-train/fathom/compute/optim"
	"github.com/fathom-train/fathom/ps/table"
	"github.com/fathom-train/fathom/ps/wire"
	"github.com/fathom-train/fathom/shard"
	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// goldenCheckpoint is the magic of a file, and the blocks behind the header: one row,
// one tensor, and the end up to its checksum.
const goldenCheckpoint = "46415448434b5031 " +
	"0200000018000000d3e6378b0000000008070605040302010000803f000000c00000003f00000000" +
	"0300000008000000deb709ef000000000000404000008040" +
	"ff00000020000000"

// cutModel is a model trained in several shards.
type cutModel struct {
	schema Schema
	m      shard.Map
	placed []shard.ID
	states []*State
}

// part is the schema of one shard: all tables and the tensors placed on it.
func (c *cutModel) part(at int) Schema {
	s := c.schema
	s.Dense = nil
	for i, d := range c.schema.Dense {
		if int(c.placed[i]) == at {
			s.Dense = append(s.Dense, d)
		}
	}
	return s
}

func newCut(schema Schema, shards int) *cutModel {
	sizes := make([]int, len(schema.Dense))
	for i, d := range schema.Dense {
		sizes[i] = d.Size
	}
	return &cutModel{schema: schema, m: shard.Even(shards), placed: shard.PlaceDense(sizes, shards)}
}

func (c *cutModel) close() {
	for _, s := range c.states {
		s.Close()
	}
}

// train applies the steps first to last to every shard.
func (c *cutModel) train(t rapid.TB, first, last uint64) {
	t.Helper()
	attempt := uint32(0)
	if c.schema.Async {
		attempt = 1
	}
	for step := first; step <= last; step++ {
		for lane := range c.schema.Lanes {
			w := labour(c.schema, step, lane)
			for at, s := range c.states {
				for _, cmd := range w.attempt(c.schema, step, lane, attempt, c.m, at, c.placed) {
					if r := s.Apply(s.Applied()+1, cmd); r.Status != Accepted {
						t.Fatalf("step %d lane %d shard %d: %v", step, lane, at, r.Err)
					}
				}
			}
		}
	}
}

func (c *cutModel) hash() [16]byte {
	var all [][16]byte
	for _, s := range c.states {
		all = append(all, s.Hash())
	}
	return SumHashes(all...)
}

// read is everything at a version: by table and key, and by tensor.
func (c *cutModel) read(t rapid.TB, version uint64) map[[2]uint64][]float32 {
	t.Helper()
	all := map[[2]uint64][]float32{}
	for at, s := range c.states {
		for _, tab := range everything(c.schema).Tables {
			for _, k := range tab.Keys {
				if c.m.Locate(k) == shard.ID(at) {
					all[[2]uint64{uint64(tab.Table), uint64(k)}] = lookup(t, s, version, &wire.PullRequest{Run: run, Tables: []wire.TableKeys{{Table: tab.Table, Keys: []shard.Key{k}}}})
				}
			}
		}
		for _, d := range c.part(at).Dense {
			all[[2]uint64{1 << 32, uint64(d.ID)}] = lookup(t, s, version, &wire.PullRequest{Run: run, Dense: []uint16{d.ID}})
		}
	}
	return all
}

// files writes every shard as a checkpoint file.
func (c *cutModel) files(t rapid.TB) [][]byte {
	t.Helper()
	var files [][]byte
	for _, s := range c.states {
		var out bytes.Buffer
		v := s.View()
		f, err := v.WriteCheckpoint(&out)
		v.Release()
		if err != nil || f.Bytes != int64(out.Len()) || SumHashes(f.Parts...) != s.Hash() {
			t.Fatalf("wrote %d bytes, says %+v, error %v", out.Len(), f, err)
		}
		files = append(files, out.Bytes())
	}
	return files
}

// load restores a checkpoint into another number of shards.
func load(t rapid.TB, schema Schema, version uint64, files [][]byte, shards int) *cutModel {
	t.Helper()
	c := newCut(schema, shards)
	for at, s := range c.m.Shards {
		l, err := NewLoader(c.part(at), version, s.Range)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			r, err := NewCheckpointReader(bytes.NewReader(f))
			if err == nil {
				err = l.Add(r)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		st, err := l.Finish(1)
		if err != nil {
			t.Fatal(err)
		}
		l.Close()
		c.states = append(c.states, st)
	}
	return c
}

// TestCheckpointIntoOtherShards: a checkpoint restored into any number of shards
// is the same model, and goes on to the same model.
func TestCheckpointIntoOtherShards(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		images := rapid.IntRange(0, 3).Draw(t, "images")
		schema := example(rapid.IntRange(1, 3).Draw(t, "lanes"), images)
		before, after := rapid.IntRange(1, 6).Draw(t, "shards"), rapid.IntRange(1, 6).Draw(t, "shards after")
		at, end := rapid.Uint64Range(0, 6).Draw(t, "step"), uint64(8)
		one := newCut(schema, before)
		defer one.close()
		for i := range one.m.Shards {
			one.states = append(one.states, configured(t, one.part(i)))
		}
		one.train(t, 1, at)
		files, want := one.files(t), one.hash()
		two := load(t, schema, at, files, after)
		defer two.close()
		if two.hash() != want {
			t.Fatalf("restored hash %x, want %x", two.hash(), want)
		}
		for back := range min(at, uint64(images)) + 1 {
			if diff := cmp.Diff(one.read(t, at-back), two.read(t, at-back)); diff != "" {
				t.Fatalf("read %d versions back (-before +restored):\n%s", back, diff)
			}
		}
		one.train(t, at+1, end)
		two.train(t, at+1, end)
		if one.hash() != two.hash() {
			t.Fatalf("after step %d: hash %x, want %x", end, two.hash(), one.hash())
		}
	})
}

func oneFile(t rapid.TB) []byte {
	t.Helper()
	s := halfway(t, example(2, 1))
	defer s.Close()
	c := cutModel{states: []*State{s}}
	return c.files(t)[0]
}

func TestVerifyCheckpointFindsEveryFlippedBit(t *testing.T) {
	t.Parallel()
	s := halfway(t, example(2, 1))
	defer s.Close()
	file := oneFile(t)
	f, err := VerifyCheckpoint(bytes.NewReader(file))
	if err != nil || SumHashes(f.Parts...) != s.Hash() || f.Version != 3 || f.Bytes != int64(len(file)) {
		t.Fatalf("a sound file: %+v, error %v", f, err)
	}
	for i := range file {
		bad := bytes.Clone(file)
		bad[i] ^= 1 << (i % 8)
		if _, err := VerifyCheckpoint(bytes.NewReader(bad)); !errors.Is(err, ErrSnapshot) {
			t.Fatalf("bit %d of byte %d flipped: error %v", i%8, i, err)
		}
	}
	for n := range file {
		if _, err := VerifyCheckpoint(bytes.NewReader(file[:n])); !errors.Is(err, ErrSnapshot) {
			t.Fatalf("cut off after %d of %d bytes: error %v", n, len(file), err)
		}
	}
}

// TestCheckpointGolden fails when the format of the files changes: raise the
// magic then, and say in docs/formats/checkpoint.md what is new.
func TestCheckpointGolden(t *testing.T) {
	t.Parallel()
	sgd := optim.Config{Name: optim.SGD, LearningRate: .5}
	schema := Schema{Job: "golden", Run: run, Lanes: 1,
		Tables: []table.Schema{{ID: 2, Name: "rows", Columns: []table.Column{{Name: "w", Width: 3, Optimizer: sgd}}}},
		Dense:  []DenseTensor{{ID: 1, Name: "bias", Size: 2, Optimizer: sgd}}}
	l, err := NewLoader(schema, 9, shard.Even(1).Shards[0].Range)
	if err != nil {
		t.Fatal(err)
	}
	row := binary.LittleEndian.AppendUint64(nil, 0x0102030405060708)
	row = append(row, bytesOf([]float32{1, -2, 0.5, 0})...)
	if err := l.rows(l.model.tables[0], row); err != nil {
		t.Fatal(err)
	}
	l.dense[0] = copy(l.model.dense[0].data, []float32{3, 4})
	s, err := l.Finish(1)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	c := cutModel{states: []*State{s}}
	file := c.files(t)[0]
	header := blockHeaderSize + int(binary.LittleEndian.Uint32(file[12:]))
	blocks := file[8+header : len(file)-32-8]
	if got := hex.EncodeToString(file[:8]) + " " + hex.EncodeToString(blocks); got != goldenCheckpoint {
		t.Errorf("magic and blocks are\n%s, want\n%s", got, goldenCheckpoint)
	}
}

func TestLoaderRefusesOtherTablesByName(t *testing.T) {
	t.Parallel()
	file := oneFile(t)
	for want, change := range map[string]func(*Schema){
		`"embedding" of width 4 updated by lamb, the job has column "embedding" of width 5`: func(s *Schema) { s.Tables[0].Columns[1].Width = 5 },
		`updated by lamb, the job has column "embedding" of width 4 updated by adam`:        func(s *Schema) { s.Tables[0].Columns[1].Optimizer.Name = "adam" },
		`it has 2 tables, the job 1`:                                                func(s *Schema) { s.Tables = s.Tables[:1] },
		`table 3 "more" of 1 columns, the job has table 3 "other" of 1`:             func(s *Schema) { s.Tables[1].Name = "other" },
		`dense tensor "bias" of 7 elements updated by sgd, the job has "bias" of 8`: func(s *Schema) { s.Dense[2].Size = 8 },
	} {
		schema := example(2, 1)
		change(&schema)
		l, err := NewLoader(schema, 3, shard.Even(1).Shards[0].Range)
		if err != nil {
			t.Fatal(err)
		}
		r, err := NewCheckpointReader(bytes.NewReader(file))
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Add(r); !errors.Is(err, ErrSchema) || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q in it", err, want)
		}
		l.Close()
	}
}

func TestLoaderWantsEveryTensor(t *testing.T) {
	t.Parallel()
	l, err := NewLoader(example(2, 1), 3, shard.Even(1).Shards[0].Range)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := l.Finish(1); err == nil || !strings.Contains(err.Error(), `0 of 180 numbers of dense tensor "weight"`) {
		t.Errorf("error %v", err)
	}
}

func TestViewAt(t *testing.T) {
	t.Parallel()
	schema := example(1, 1)
	s := configured(t, schema)
	defer s.Close()
	c := cutModel{schema: schema, m: shard.Even(1), placed: make([]shard.ID, len(schema.Dense)), states: []*State{s}}
	version := func(views <-chan *View) (uint64, bool) {
		v, ok := <-views
		if !ok {
			return 0, false
		}
		defer v.Release()
		return v.Version(), true
	}
	first, _ := s.ViewAt(2)
	c.train(t, 1, 1)
	select {
	case <-first:
		t.Fatal("a view of step 2 at step 1")
	default:
	}
	c.train(t, 2, 3)
	if v, ok := version(first); !ok || v != 2 {
		t.Errorf("view of version %d, %t, want 2", v, ok)
	}
	now, _ := s.ViewAt(3)
	if v, ok := version(now); !ok || v != 3 {
		t.Errorf("view of version %d, %t, want 3", v, ok)
	}
	gone, _ := s.ViewAt(2)
	if _, ok := version(gone); ok {
		t.Error("a view of a version that is gone")
	}
	withdrawn, cancel := s.ViewAt(9)
	cancel()
	cancel()
	if _, ok := version(withdrawn); ok {
		t.Error("a view after it was withdrawn")
	}
	replaced, _ := s.ViewAt(9)
	last, _ := s.ViewAt(10)
	if _, ok := version(replaced); ok {
		t.Error("a view of an order that was replaced")
	}
	s.Close()
	if _, ok := version(last); ok {
		t.Error("a view of a closed state")
	}
}

func TestHashesKeepEveryVersion(t *testing.T) {
	t.Parallel()
	schema := example(1, 1)
	s := configured(t, schema)
	defer s.Close()
	c := cutModel{schema: schema, m: shard.Even(1), placed: make([]shard.ID, len(schema.Dense)), states: []*State{s}}
	var want [][16]byte
	for step := uint64(0); step <= 9; step++ {
		if step > 0 {
			c.train(t, step, step)
		}
		want = append(want, s.Hash())
	}
	got := s.Hashes(0, 100)
	if len(got) != len(want) || len(got[0].Parts) != len(schema.PartNames()) {
		t.Fatalf("%d versions of %d parts", len(got), len(got[0].Parts))
	}
	for i, h := range got {
		if h.Version != uint64(i) || SumHashes(h.Parts...) != want[i] {
			t.Errorf("version %d: %x, want %x", h.Version, SumHashes(h.Parts...), want[i])
		}
	}
	if some := s.Hashes(4, 3); len(some) != 3 || some[0].Version != 4 {
		t.Errorf("three versions from 4 on: %v", some)
	}
	s = reopened(t, s)
	if h := s.Hashes(0, 100); len(h) != 1 || h[0].Version != 9 || SumHashes(h[0].Parts...) != want[9] {
		t.Errorf("after a restore: %v", h)
	}
}

// TestHashHistoryIsARing goes round it; the model never changes, only the version.
func TestHashHistoryIsARing(t *testing.T) {
	t.Parallel()
	s := configured(t, example(1, 1))
	defer s.Close()
	for range historyVersions + 10 {
		s.model.version++
		s.model.note()
	}
	h := s.Hashes(0, 2*historyVersions)
	if len(h) != historyVersions || h[0].Version != 11 || h[len(h)-1].Version != historyVersions+10 {
		t.Errorf("%d versions from %d to %d", len(h), h[0].Version, h[len(h)-1].Version)
	}
}

// FuzzCheckpoint reads any bytes as a checkpoint file, as they are and with the
// checksums of their blocks made right: no panic, only the declared error.
func FuzzCheckpoint(f *testing.F) {
	f.Add(oneFile(f))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > fuzzMax {
			return
		}
		for _, b := range [][]byte{b, mended(b)} {
			if _, err := VerifyCheckpoint(bytes.NewReader(b)); err != nil && !errors.Is(err, ErrSnapshot) {
				t.Fatal(err)
			}
			l, err := NewLoader(example(2, 1), 3, shard.Even(2).Shards[1].Range)
			if err != nil {
				t.Fatal(err)
			}
			r, err := NewCheckpointReader(bytes.NewReader(b))
			if err == nil {
				err = l.Add(r)
			}
			if err != nil && !errors.Is(err, ErrSnapshot) && !errors.Is(err, ErrSchema) {
				t.Fatal(err)
			}
			l.Close()
		}
	})
}

// mended makes the checksums of all blocks right.
func mended(b []byte) []byte {
	b = bytes.Clone(b)
	for rest := b[min(8, len(b)):]; len(rest) >= blockHeaderSize; {
		n := int(binary.LittleEndian.Uint32(rest[4:]))
		if n > len(rest)-blockHeaderSize {
			break
		}
		binary.LittleEndian.PutUint32(rest[8:], blockSum(rest[:blockHeaderSize], rest[blockHeaderSize:blockHeaderSize+n]))
		rest = rest[blockHeaderSize+n:]
	}
	return b
}
