package export

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/fathom-train/fathom/compute/optim"
	"github.com/fathom-train/fathom/compute/random"
	"github.com/fathom-train/fathom/ps/checkpoint"
	"github.com/fathom-train/fathom/ps/client"
	"github.com/fathom-train/fathom/ps/fsm"
	"github.com/fathom-train/fathom/ps/table"
	"github.com/fathom-train/fathom/shard"
)

// TestSortedRowsAscendWhateverTheMemory spills, or not, and finds keys that are
// there twice.
func TestSortedRowsAscendWhateverTheMemory(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		width := rapid.IntRange(1, 5).Draw(t, "width")
		keys := rapid.SliceOfN(rapid.Uint64Range(0, 500), 0, 200).Draw(t, "keys")
		s := &sorter{dir: dir, memory: rapid.Int64Range(1, 4000).Draw(t, "memory")}
		s.begin(width)
		for from := 0; from < len(keys); {
			n := min(len(keys)-from, rapid.IntRange(1, 40).Draw(t, "rows"))
			var some []shard.Key
			var weights []float32
			for _, k := range keys[from : from+n] {
				some = append(some, shard.Key(k))
				for c := range width {
					weights = append(weights, float32(k)+float32(c)/8)
				}
			}
			if err := s.add(some, weights); err != nil {
				t.Fatal(err)
			}
			from += n
		}
		var got []uint64
		err := s.finish(func(k shard.Key, row []float32) error {
			got = append(got, uint64(k))
			for c, v := range row {
				if v != float32(k)+float32(c)/8 {
					t.Fatalf("key %d has %v", k, row)
				}
			}
			return nil
		})
		if err := s.close(); err != nil {
			t.Fatal(err)
		}
		slices.Sort(keys)
		if twice := len(slices.Compact(slices.Clone(keys))) != len(keys); twice != errors.Is(err, ErrDamaged) || !twice && err != nil {
			t.Fatalf("a key is there twice: %v; error %v", twice, err)
		} else if !twice && !slices.Equal(got, keys) {
			t.Fatalf("got %v, want %v", got, keys)
		}
	})
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, error %v", left, err)
	}
}

// made is a model of given rows, the shards being ranges of keys.
type made struct {
	head   Head
	shards [][]shard.Key
	dense  [][]float32
	fail   error
}

func (m *made) Head(context.Context) (Head, error) { return m.head, nil }
func (m *made) Shards() int                        { return len(m.shards) }

func (m *made) Read(_ context.Context, i int, rows func(int, []shard.Key, []float32) error, dense func(uint16, []float32) error) error {
	for at, t := range m.head.Schema.Tables {
		keys := m.shards[i]
		for n := range keys { // from the last, so that they must be sorted
			k := keys[len(keys)-1-n]
			if err := rows(at, []shard.Key{k}, rowOf(at, k, t.Width())); err != nil {
				return err
			}
		}
	}
	for id, d := range m.dense {
		if id%len(m.shards) != i {
			continue
		}
		if err := dense(uint16(id), d); err != nil {
			return err
		}
	}
	return m.fail
}

func rowOf(at int, k shard.Key, width int) []float32 {
	row := make([]float32, width)
	for c := range row {
		row[c] = float32(at)*1000 + float32(k%1000) + float32(c)/16
	}
	return row
}

// madeModel has two tables, the second one closed, with every third key.
func madeModel(keys, shards int) (*made, About) {
	adam := optim.Config{Name: "adam", LearningRate: 0.1}.WithDefaults()
	normal := random.Init{Kind: "normal", Scale: 1}
	m := &made{shards: make([][]shard.Key, shards), head: Head{Version: 12, Schema: fsm.Schema{Seed: 1 << 63, Base: 2, Tables: []table.Schema{
		{ID: 0, Name: "wide", Columns: []table.Column{{Name: "linear", Width: 1, Init: normal, Optimizer: adam}, {Name: "embedding", Width: 7, Init: normal, Optimizer: adam}}},
		{ID: 1, Name: "narrow", Columns: []table.Column{{Name: "embedding", Width: 1, Init: normal, Optimizer: adam}}, Closed: true},
	}}}}
	for i := range keys {
		s := i * shards / keys
		m.shards[s] = append(m.shards[s], shard.Key(3*i))
	}
	m.dense = [][]float32{{1, 2, 3, 4, 5, 6}, {float32(math.Inf(1)), -0}}
	about := About{Name: "made", Job: json.RawMessage(`{"a":1}`), Scores: []checkpoint.Score{{Split: "test", AUC: 0.5}},
		Tensors: []Tensor{{Name: "mlp.0.weight", Shape: []int{2, 3}}, {Name: "a \"name\"", Shape: []int{2}, Running: true}}}
	return m, about
}

func TestArtifactAnswersAsTheServers(t *testing.T) {
	const keys = 40_000 // several record batches
	var first *Manifest
	for _, c := range []struct {
		shards int
		memory int64
	}{{1, 1 << 20}, {4, 1 << 14}, {3, 1 << 30}} {
		m, about := madeModel(keys, c.shards)
		dir := filepath.Join(t.TempDir(), "artifact")
		manifest, err := write(t.Context(), dir, about, m, c.memory)
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = manifest
		}
		if d := cmp.Diff(first, manifest); d != "" {
			t.Errorf("%d shards: the manifest differs:\n%s", c.shards, d)
		}
		a, err := Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(manifest, a.Manifest); d != "" {
			t.Errorf("read back:\n%s", d)
		}
		a.cache = newRowCache(3 * batchBytes) // less than there is
		checkPull(t, a, m, 3*keys)
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}
}

// checkPull pulls some keys, of which every third has a row.
func checkPull(t *testing.T, a *Artifact, m *made, most int) {
	t.Helper()
	for at, schema := range m.head.Schema.Tables {
		empty, err := table.New(schema, m.head.Schema.Seed)
		if err != nil {
			t.Fatal(err)
		}
		defer empty.Close()
		width := schema.Width()
		var keys []shard.Key
		for k := 0; k < most+200; k += 7 {
			keys = append(keys, shard.Key(k))
		}
		got := make([]float32, len(keys)*width)
		if err := a.Pull(t.Context(), 0, []client.Rows{{Table: uint16(at), Width: width, Keys: keys, Values: got}}, nil); err != nil {
			t.Fatal(err)
		}
		want := make([]float32, width)
		for i, k := range keys {
			if k%3 == 0 && int(k) < most {
				copy(want, rowOf(at, k, width))
			} else {
				empty.Gather(want, []shard.Key{k})
			}
			if row := got[i*width : (i+1)*width]; !slices.Equal(row, want) {
				t.Fatalf("table %d key %d: %v, want %v", at, k, row, want)
			}
		}
	}
	dense := [][]float32{nil, make([]float32, 2)}
	if err := a.Pull(t.Context(), 0, nil, dense); err != nil || dense[1][0] != m.dense[1][0] {
		t.Errorf("dense tensor %v, error %v", dense[1], err)
	}
	for _, wrong := range []client.Rows{{Table: 2}, {Table: 0, Width: 3}} {
		if err := a.Pull(t.Context(), 0, []client.Rows{wrong}, nil); err == nil {
			t.Errorf("pulled %+v", wrong)
		}
	}
}

// TestHalfAnArtifactIsNone: what fails, and what is there already, leaves nothing.
func TestHalfAnArtifactIsNone(t *testing.T) {
	work := t.TempDir()
	dir := filepath.Join(work, "artifact")
	m, about := madeModel(100, 2)
	m.fail = errors.New("the server is gone")
	if _, err := Write(t.Context(), dir, about, m); !errors.Is(err, m.fail) {
		t.Errorf("error %v", err)
	}
	m.fail = nil
	lacking := *m
	lacking.dense = m.dense[:1]
	if _, err := Write(t.Context(), dir, about, &lacking); !errors.Is(err, ErrDamaged) || !strings.Contains(err.Error(), "no shard has dense tensor") {
		t.Errorf("a tensor is missing: %v", err)
	}
	overlapping := *m
	overlapping.shards = [][]shard.Key{{4, 9}, {9, 12}}
	if _, err := Write(t.Context(), dir, about, &overlapping); !errors.Is(err, ErrDamaged) {
		t.Errorf("a key is in two shards: %v", err)
	}
	if left, err := os.ReadDir(work); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, error %v", left, err)
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Write(t.Context(), dir, about, m); !errors.Is(err, ErrExists) {
		t.Errorf("something is there: %v", err)
	}
}

func TestManifestsOfOtherKinds(t *testing.T) {
	m, about := madeModel(10, 1)
	dir := filepath.Join(t.TempDir(), "artifact")
	manifest, err := Write(t.Context(), dir, about, m)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		change func(*Manifest)
		want   error
	}{
		"format":      {func(m *Manifest) { m.Format = 2 }, ErrFormat},
		"keys":        {func(m *Manifest) { m.KeyFunction = "other" }, ErrFormat},
		"path":        {func(m *Manifest) { m.Dense.Name = "../x" }, ErrDamaged},
		"same file":   {func(m *Manifest) { m.Tables[0].File.Name = m.Dense.Name }, ErrDamaged},
		"bytes":       {func(m *Manifest) { m.Tables[0].Bytes++ }, ErrDamaged},
		"rows":        {func(m *Manifest) { m.Tables[0].Rows, m.Tables[0].Parameters = math.MaxInt64, 0 }, ErrDamaged},
		"shape":       {func(m *Manifest) { m.Tensors[0].Shape = []int{1 << 20, 1 << 20} }, ErrDamaged},
		"table's id":  {func(m *Manifest) { m.Tables[1].Schema.ID = 7 }, ErrDamaged},
		"table's row": {func(m *Manifest) { m.Tables[1].Schema.Columns = nil }, ErrDamaged},
	} {
		var other Manifest
		text, err := json.Marshal(manifest)
		if err := errors.Join(err, json.Unmarshal(text, &other)); err != nil {
			t.Fatal(err)
		}
		c.change(&other)
		if text, err = other.encode(); err != nil {
			t.Fatal(err)
		}
		if _, err := parseManifest(text); !errors.Is(err, c.want) {
			t.Errorf("%s: error %v, want %v", name, err, c.want)
		}
	}
}

// FuzzManifest: whatever is read is refused or can be written again.
func FuzzManifest(f *testing.F) {
	m, about := madeModel(10, 1)
	manifest, err := Write(f.Context(), filepath.Join(f.TempDir(), "artifact"), about, m)
	if err != nil {
		f.Fatal(err)
	}
	text, err := json.Marshal(manifest)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"format":1,"tables":[{"schema":{"columns":[{"width":-1}]}}]}`))
	f.Fuzz(func(t *testing.T, inner []byte) {
		// Sealed, so that the fuzzer gets past the checksum.
		var m Manifest
		if json.Unmarshal(inner, &m) != nil {
			_, _ = parseManifest(inner) // must not panic
			return
		}
		text, err := m.encode()
		if err != nil {
			return
		}
		got, err := parseManifest(text)
		if err != nil {
			return
		}
		if again, err := got.encode(); err != nil || !bytes.Equal(again, text) {
			t.Errorf("written again: error %v\n%s\n%s", err, text, again)
		}
	})
}

// FuzzTensors: whatever is read is refused or is all of the file.
func FuzzTensors(f *testing.F) {
	m, about := madeModel(0, 1)
	var b bytes.Buffer
	if err := writeTensors(&b, about.Tensors, m.dense); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add(append(binary.LittleEndian.AppendUint64(nil, 1<<40), "{}"...))
	f.Add(append(binary.LittleEndian.AppendUint64(nil, 20), `{"a":{},"a":{"dtype"`...))
	f.Fuzz(func(t *testing.T, b []byte) {
		values, err := parseTensors(b, about.Tensors)
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Errorf("error %v", err)
			}
			return
		}
		n := 0
		for i, v := range values {
			if len(v) != about.Tensors[i].Size() {
				t.Errorf("tensor %d has %d elements", i, len(v))
			}
			n += 4 * len(v)
		}
		if header := int(binary.LittleEndian.Uint64(b)); 8+header+n != len(b) {
			t.Errorf("%d bytes of %d are tensors behind a header of %d", n, len(b), header)
		}
	})
}

// BenchmarkWrite writes and BenchmarkPull reads a table of eight weights a row,
// given from the last key to the first.
func BenchmarkWrite(b *testing.B) {
	const keys = 200_000
	m, about := madeModel(keys, 4)
	for _, c := range []struct {
		name   string
		memory int64
	}{{"in_memory", sortMemory}, {"spilled", 1 << 20}} {
		b.Run(c.name, func(b *testing.B) {
			for range b.N {
				if _, err := write(b.Context(), filepath.Join(b.TempDir(), "artifact"), about, m, c.memory); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(2*keys*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
		})
	}
}

func BenchmarkPull(b *testing.B) {
	const keys, asked = 200_000, 20_000
	m, about := madeModel(keys, 1)
	dir := filepath.Join(b.TempDir(), "artifact")
	if _, err := Write(b.Context(), dir, about, m); err != nil {
		b.Fatal(err)
	}
	a, err := Open(dir)
	if err != nil {
		b.Fatal(err)
	}
	defer a.Close()
	rows := client.Rows{Width: 8, Values: make([]float32, 8*asked)}
	for i := range asked {
		rows.Keys = append(rows.Keys, shard.Key(i*3*keys/asked))
	}
	for b.Loop() {
		if err := a.Pull(b.Context(), 0, []client.Rows{rows}, nil); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(asked*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}
