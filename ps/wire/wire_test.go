package wire

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/fathom-train/fathom/shard"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "rewrite testdata/*.hex")

// golden compares bytes with a hex dump in testdata: the format is written to
// disks, so a change needs another format number.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name+".hex")
	dump := hex.Dump(got)
	if *update {
		if err := os.WriteFile(path, []byte(dump), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), dump); d != "" {
		t.Errorf("%s changed (-want +got):\n%s", name, d)
	}
}

func examplePush() *PushBuilder {
	b := NewPush(PushID{Factor: 0.5, Run: 0x0102030405060708, Phase: 9, Step: 10, Lane: 11})
	b.Dense(7, []float32{1, 2, 3})
	b.Rows(4, 2, []shard.Key{5, 1 << 63}, []uint32{1, 2}, []float32{.5, -.5, 0, 4})
	b.Rows(2, 1, []shard.Key{0}, []uint32{3}, []float32{8})
	return b
}

func exampleRequest() *PullRequest {
	return &PullRequest{
		Run: 1, Shard: 2, Version: 3, Dense: []uint16{4, 5, 6},
		Tables: []TableKeys{{Table: 7, Keys: []shard.Key{9, 8}}, {Table: 1}},
	}
}

func TestBytesAreGolden(t *testing.T) {
	golden(t, "configure", AppendConfigure(nil, []byte("schema")))
	chunks := examplePush().Chunks()
	golden(t, "push", chunks[0])
	golden(t, "push_body", AppendPushBody(nil, PushHeader{Run: 1, Shard: 2}, [][]byte{chunks[0], AppendConfigure(nil, []byte("x"))}))
	golden(t, "pull_request", exampleRequest().Append(nil))
	buf, values := NewPullReply(nil, 77, 3)
	copy(values, []float32{1, 2, 3})
	golden(t, "pull_reply", buf)
	SealPullReply(buf)
	golden(t, "pull_reply_sealed", buf)
}

// drawPush draws a push of up to several chunks.
func drawPush(t *rapid.T) (PushID, []RowSection, []DenseSection) {
	id := PushID{
		Run: rapid.Uint64().Draw(t, "run"), Phase: rapid.Uint32().Draw(t, "phase"),
		Step: rapid.Uint64().Draw(t, "step"), Lane: rapid.Uint16().Draw(t, "lane"),
		Factor: rapid.Float32Range(1e-6, 1).Draw(t, "factor"),
	}
	var rows []RowSection
	for i := range rapid.IntRange(0, 3).Draw(t, "tables") {
		width := rapid.SampledFrom([]int{1, 2, 17, 64}).Draw(t, "width")
		n := rapid.SampledFrom([]int{0, 1, 3, 999, 5000}).Draw(t, "rows")
		s := RowSection{Table: uint16(3 * i), Width: width}
		k := shard.Key(rapid.Uint64Range(0, 1<<40).Draw(t, "first key"))
		for j := range n {
			s.Keys = append(s.Keys, k)
			k += 1 + shard.Key(j%3)
			s.Counts = append(s.Counts, uint32(j+1))
		}
		for j := range n * width {
			s.Grads = append(s.Grads, float32(i)+float32(j)/16)
		}
		rows = append(rows, s)
	}
	var dense []DenseSection
	for i := range rapid.IntRange(0, 3).Draw(t, "tensors") {
		v := make([]float32, rapid.SampledFrom([]int{0, 1, 5, 65536, 150001}).Draw(t, "elements"))
		for j := range v {
			v[j] = float32(j)
		}
		dense = append(dense, DenseSection{ID: uint16(2 * i), Values: v})
	}
	return id, rows, dense
}

func TestPushRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		id, rows, dense := drawPush(t)
		b := NewPush(PushID{Factor: 1})
		b.Reset(id)
		for _, i := range rapid.Permutation(indexes(len(rows))).Draw(t, "order") {
			b.Rows(rows[i].Table, rows[i].Width, rows[i].Keys, rows[i].Counts, rows[i].Grads)
		}
		for _, d := range dense {
			b.Dense(d.ID, d.Values)
		}
		shift := rapid.IntRange(0, 7).Draw(t, "alignment")
		gotRows, gotDense := collect(t, id, b.Chunks(), shift)
		rows = slices.DeleteFunc(rows, func(s RowSection) bool { return len(s.Keys) == 0 })
		dense = slices.DeleteFunc(dense, func(s DenseSection) bool { return len(s.Values) == 0 })
		// Diffing that many numbers takes seconds, so only when they differ.
		if !slices.EqualFunc(rows, gotRows, func(a, b RowSection) bool { return reflect.DeepEqual(a, b) }) {
			t.Fatalf("rows (-want +got):\n%s", cmp.Diff(rows, gotRows))
		}
		if !slices.EqualFunc(dense, gotDense, func(a, b DenseSection) bool { return reflect.DeepEqual(a, b) }) {
			t.Fatalf("dense (-want +got):\n%s", cmp.Diff(dense, gotDense))
		}
	})
}

func indexes(n int) []int {
	v := make([]int, n)
	for i := range v {
		v[i] = i
	}
	return v
}

// collect parses chunks, each from an address shifted by some bytes, and joins
// their sections.
func collect(t *rapid.T, id PushID, chunks [][]byte, shift int) (rows []RowSection, dense []DenseSection) {
	var p Push
	for i, c := range chunks {
		if len(c) > MaxChunk {
			t.Fatalf("chunk %d has %d bytes", i, len(c))
		}
		if k, err := Kind(c); k != KindPush || err != nil {
			t.Fatalf("chunk %d is %v, error %v", i, k, err)
		}
		c = append(make([]byte, shift, shift+len(c)), c...)[shift:]
		if err := ParsePush(c, &p); err != nil {
			t.Fatalf("chunk %d: %v", i, err)
		}
		if p.ID != id || int(p.Chunk) != i || int(p.Chunks) != len(chunks) {
			t.Fatalf("chunk %d of %d reads as %v %d of %d", i, len(chunks), p.ID, p.Chunk, p.Chunks)
		}
		for _, s := range p.Rows {
			if n := len(rows); n == 0 || rows[n-1].Table != s.Table {
				rows = append(rows, RowSection{Table: s.Table, Width: s.Width})
			}
			r := &rows[len(rows)-1]
			r.Keys, r.Counts, r.Grads = append(r.Keys, s.Keys...), append(r.Counts, s.Counts...), append(r.Grads, s.Grads...)
		}
		for _, s := range p.Dense {
			if n := len(dense); n == 0 || dense[n-1].ID != s.ID {
				dense = append(dense, DenseSection{ID: s.ID})
			}
			d := &dense[len(dense)-1]
			if s.Offset != len(d.Values) {
				t.Fatalf("tensor %d goes on at %d, want %d", s.ID, s.Offset, len(d.Values))
			}
			d.Values = append(d.Values, s.Values...)
		}
	}
	return rows, dense
}

func TestEmptyPushHasOneChunk(t *testing.T) {
	t.Parallel()
	chunks := NewPush(PushID{Factor: 1, Run: 1, Step: 2}).Chunks()
	var p Push
	if len(chunks) != 1 || ParsePush(chunks[0], &p) != nil || p.Chunks != 1 {
		t.Errorf("an empty push has %d chunks: %+v", len(chunks), p)
	}
}

func TestPullRequestRoundTrip(t *testing.T) {
	t.Parallel()
	var got PullRequest
	for shift := range 8 {
		want := exampleRequest()
		b := want.Append(make([]byte, shift))[shift:]
		if err := ParsePullRequest(b, &got); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, &got, cmpopts.EquateEmpty(), cmpopts.IgnoreUnexported(PullRequest{})); d != "" {
			t.Fatalf("(-want +got):\n%s", d)
		}
	}
}

func TestPullReplyRoundTrip(t *testing.T) {
	t.Parallel()
	scratch := make([]byte, 100)
	for _, sealed := range []bool{false, true} {
		for shift := range 8 {
			buf, values := NewPullReply(scratch[shift:], 5, 9)
			for i := range values {
				values[i] = float32(i)
			}
			if sealed {
				SealPullReply(buf)
			}
			b := append(make([]byte, shift), buf...)[shift:]
			v, got, err := ParsePullReply(b)
			if err != nil || v != 5 || !slices.Equal(got, values) {
				t.Fatalf("version %d values %v error %v, want 5 %v", v, got, err, values)
			}
			b[replyHeaderSize+4] ^= 1
			if _, _, err := ParsePullReply(b); sealed != errors.Is(err, ErrCorrupt) {
				t.Errorf("sealed %v: a flipped bit in the values gives %v", sealed, err)
			}
		}
	}
	if buf, _ := NewPullReply(scratch, 1, 2); &buf[0] != &scratch[0] {
		t.Error("a large enough buffer is not reused")
	}
}

func TestPushBodyRoundTrip(t *testing.T) {
	t.Parallel()
	h := PushHeader{Run: 1 << 60, Shard: 7}
	chunks := [][]byte{bytes.Repeat([]byte{1}, 16), bytes.Repeat([]byte{2}, 21)}
	b := AppendPushBody([]byte("head"), h, chunks)[4:]
	gotH, got, err := ParsePushBody(b)
	if err != nil || gotH != h || !cmp.Equal(got, chunks) {
		t.Errorf("got %v %v %v", gotH, got, err)
	}
}

// TestEveryFlippedBitIsFound flips each bit of each kind of message once. The
// padding between frames is the only place without a checksum.
func TestBodyIsTheChunksInFrames(t *testing.T) {
	h := PushHeader{Run: 5, Shard: 6}
	b := examplePush()
	want := AppendPushBody(nil, h, b.Chunks())
	if got := b.Body(h); !bytes.Equal(got, want) {
		t.Errorf("body of %d bytes, want %d others", len(got), len(want))
	}
	// Chunks of any length, many of them.
	keys := []shard.Key{1, 2, 3}
	for n := range 70 {
		b.Reset(PushID{Step: 1, Factor: 1})
		b.Rows(1, 1+n%5, keys, []uint32{1, 2, 3}, make([]float32, 3*(1+n%5)))
		b.Dense(uint16(n), make([]float32, n*3001))
		want := AppendPushBody(nil, h, b.Chunks())
		got := b.Body(h)
		if !bytes.Equal(got, want) {
			t.Fatalf("dense tensor of %d: body of %d bytes, want %d others", n*3001, len(got), len(want))
		}
		if n%10 == 0 {
			b.Leave()
			if b.Body(h); cap(b.buf) != b.bound() {
				t.Fatalf("dense tensor of %d: %d bytes were set aside for a body of %d", n*3001, b.bound(), len(b.buf))
			}
			b.Reset(PushID{Step: 2, Factor: 1})
			if b.Body(h); !bytes.Equal(got, want) {
				t.Fatal("a body that was left changed with the next one")
			}
		}
	}
}

func TestEveryFlippedBitIsFound(t *testing.T) {
	t.Parallel()
	var p Push
	var r PullRequest
	buf, _ := NewPullReply(nil, 1, 4)
	SealPullReply(buf)
	f := func(name string, msg []byte, parse func([]byte) error) {
		t.Helper()
		for bit := range 8 * len(msg) {
			b := bytes.Clone(msg)
			b[bit/8] ^= 1 << (bit % 8)
			if err := parse(b); !errors.Is(err, ErrCorrupt) {
				t.Errorf("%s: bit %d flipped: error %v", name, bit, err)
			}
		}
		for n := range msg {
			if err := parse(msg[:n]); !errors.Is(err, ErrCorrupt) {
				t.Errorf("%s: cut to %d bytes: error %v", name, n, err)
			}
		}
	}
	f("push", examplePush().Chunks()[0], func(b []byte) error { return ParsePush(b, &p) })
	f("kind", examplePush().Chunks()[0], func(b []byte) error { _, err := Kind(b); return err })
	f("configure", AppendConfigure(nil, []byte("s")), func(b []byte) error { _, err := ParseConfigure(b); return err })
	f("request", exampleRequest().Append(nil), func(b []byte) error { return ParsePullRequest(b, &r) })
	f("reply", buf, func(b []byte) error { _, _, err := ParsePullReply(b); return err })
}

func TestKindsAreNotMistakenForEachOther(t *testing.T) {
	t.Parallel()
	var p Push
	var r PullRequest
	push, request := examplePush().Chunks()[0], exampleRequest().Append(nil)
	reply, _ := NewPullReply(nil, 0, 0)
	if err := ParsePush(AppendConfigure(nil, nil), &p); !errors.Is(err, ErrKind) {
		t.Errorf("configure as push: %v", err)
	}
	if _, err := ParseConfigure(push); !errors.Is(err, ErrKind) {
		t.Errorf("push as configure: %v", err)
	}
	if err := ParsePullRequest(reply, &r); !errors.Is(err, ErrKind) {
		t.Errorf("reply as request: %v", err)
	}
	if _, err := Kind(request); !errors.Is(err, ErrMalformed) {
		t.Errorf("request as command: %v", err)
	}
	body := AppendPushBody(nil, PushHeader{}, [][]byte{push})
	if _, _, err := ParsePullReply(body[:replyHeaderSize]); !errors.Is(err, ErrKind) {
		t.Errorf("push body as reply: %v", err)
	}
	if _, _, err := ParsePushBody(reply); !errors.Is(err, ErrKind) {
		t.Errorf("reply as push body: %v", err)
	}
}

// resealed changes a message and makes its envelope right again, as a sender
// with a bug would.
func resealed(msg []byte, kind Command, change func(b []byte)) []byte {
	b := bytes.Clone(msg)
	change(b)
	seal(b, kind)
	return b
}

func TestMalformedPushesAreRefused(t *testing.T) {
	t.Parallel()
	msg := examplePush().Chunks()[0]
	const body, first = envelopeSize, envelopeSize + pushHeaderSize
	const second = first + sectionSize + 8 + 8 + 8 // table 4, behind one row of table 2
	const dense = second + sectionSize + 16 + 8 + 16
	f := func(want string, change func(b []byte)) {
		t.Helper()
		var p Push
		err := ParsePush(resealed(msg, KindPush, change), &p)
		if !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), want) {
			t.Errorf("got error %v, want %q", err, want)
		}
	}
	f("chunk 1 of 1", func(b []byte) { b[body+22] = 1 })
	f("chunk 0 of 0", func(b []byte) { b[body+24] = 0 })
	f("learning-rate factor 0 of", func(b []byte) { le.PutUint32(b[body+32:], 0) })
	f("learning-rate factor NaN of", func(b []byte) { le.PutUint32(b[body+32:], 0x7fc00000) })
	f("learning-rate factor 2 of", func(b []byte) { le.PutUint32(b[body+32:], 0x40000000) })
	f("shorter than its header", func(b []byte) { b[body+28] = 4 })
	f("behind the last section", func(b []byte) { b[body+28] = 2 })
	f("kind 3 is unknown", func(b []byte) { b[first] = 3 })
	f("0 elements", func(b []byte) { b[first+8] = 0 })
	f("elements of width", func(b []byte) { le.PutUint32(b[first+8:], 1<<31) })
	f("elements of width", func(b []byte) { le.PutUint32(b[first+4:], MaxRowWidth+1) })
	f("1 rows of width 16384", func(b []byte) { le.PutUint32(b[first+4:], MaxRowWidth) })
	f("rows of width 0", func(b []byte) { b[first+4] = 0 })
	f("at offset 1", func(b []byte) { b[first+12] = 1 })
	f("table 4 behind table 4", func(b []byte) { b[first+2] = 4 })
	f("behind key", func(b []byte) { le.PutUint64(b[second+sectionSize:], 1<<63) })
	f("of width 1 in", func(b []byte) { b[dense+4] = 1 })
	f("elements of width 0 in 16 bytes", func(b []byte) { b[dense+8] = 5 })
	var p Push
	if err := ParsePush(resealed(msg[:body+8], KindPush, func([]byte) {}), &p); !errors.Is(err, ErrMalformed) {
		t.Errorf("a push without header: %v", err)
	}
	if err := ParsePush(resealed(make([]byte, MaxChunk+8), KindPush, func([]byte) {}), &p); !errors.Is(err, ErrMalformed) {
		t.Errorf("a push above the limit: %v", err)
	}
	future := resealed(msg, KindPush, func([]byte) {})
	le.PutUint16(future[14:], format+1)
	le.PutUint32(future[4:], 0)
	le.PutUint32(future[4:], checksum(future[8:]))
	if err := ParsePush(future, &p); !errors.Is(err, ErrMalformed) {
		t.Errorf("a push of the next format: %v", err)
	}
}

func TestSectionsOutOfOrderAreRefused(t *testing.T) {
	t.Parallel()
	b := NewPush(PushID{Factor: 1})
	b.begin()
	b.addDense(DenseSection{ID: 3, Values: []float32{1}})
	b.addDense(DenseSection{ID: 3, Values: []float32{1}})
	b.end()
	var p Push
	if err := ParsePush(b.sealAll()[0], &p); !errors.Is(err, ErrMalformed) {
		t.Errorf("a tensor twice: %v", err)
	}
	b.buf, b.starts = b.buf[:0], b.starts[:0]
	b.begin()
	b.addDense(DenseSection{ID: 3, Values: []float32{1}})
	b.addRows(RowSection{Table: 1, Width: 1, Keys: []shard.Key{1}, Counts: []uint32{1}, Grads: []float32{1}})
	b.end()
	if err := ParsePush(b.sealAll()[0], &p); !errors.Is(err, ErrMalformed) {
		t.Errorf("rows behind dense: %v", err)
	}
}

func TestMalformedRequestsAndFramesAreRefused(t *testing.T) {
	t.Parallel()
	msg := exampleRequest().Append(nil)
	var r PullRequest
	const table = envelopeSize + pullHeaderSize
	for _, change := range []func(b []byte){
		func(b []byte) { b[envelopeSize+20] = 9 },                // more tables
		func(b []byte) { b[envelopeSize+22] = 5 },                // more tensors
		func(b []byte) { le.PutUint32(b[table+4:], 1<<31) },      // more keys
		func(b []byte) { le.PutUint16(b[envelopeSize+20:], 0) },  // bytes left
		func(b []byte) { le.PutUint32(b[envelopeSize+20:], 99) }, // cut off
	} {
		if err := ParsePullRequest(resealed(msg, kindPullRequest, change), &r); !errors.Is(err, ErrMalformed) {
			t.Errorf("got error %v", err)
		}
	}
	if err := ParsePullRequest(resealed(msg[:envelopeSize], kindPullRequest, func([]byte) {}), &r); !errors.Is(err, ErrMalformed) {
		t.Errorf("no header: %v", err)
	}
	frames := AppendFrames(nil, [][]byte{make([]byte, 16), make([]byte, 24)})
	for name, change := range map[string]func(b []byte) []byte{
		"no frame":       func(b []byte) []byte { b[0] = 0; return b },
		"many frames":    func(b []byte) []byte { le.PutUint32(b, MaxChunks); return b },
		"short frame":    func(b []byte) []byte { b[8] = 8; return b },
		"huge frame":     func(b []byte) []byte { le.PutUint32(b[8:], 1<<31); return b },
		"long frame":     func(b []byte) []byte { b[8] = 100; return b },
		"bytes left":     func(b []byte) []byte { return append(b, 0) },
		"cut in a frame": func(b []byte) []byte { return b[:len(b)-1] },
		"cut at a frame": func(b []byte) []byte { b[8] = 48; return b },
		"no header":      func(b []byte) []byte { return b[:7] },
	} {
		if _, err := ParseFrames(change(bytes.Clone(frames))); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	if _, _, err := ParsePushBody(nil); !errors.Is(err, ErrCorrupt) {
		t.Errorf("empty push body: %v", err)
	}
	if _, err := ParseConfigure(resealed(make([]byte, envelopeSize+MaxSchema+1), KindConfigure, func([]byte) {})); !errors.Is(err, ErrMalformed) {
		t.Errorf("huge schema: %v", err)
	}
}

func TestMisuseOfBuildersPanics(t *testing.T) {
	t.Parallel()
	f := func(name string, use func()) {
		t.Helper()
		defer func() {
			if r := recover(); r == nil || !strings.Contains(r.(string), "BUG") {
				t.Errorf("%s: got panic %v", name, r)
			}
		}()
		use()
	}
	one := []shard.Key{1}
	b := NewPush(PushID{Factor: 1})
	f("counts", func() { b.Rows(0, 1, one, nil, []float32{1}) })
	f("grads", func() { b.Rows(0, 2, one, []uint32{1}, []float32{1}) })
	f("width", func() { b.Rows(0, 0, nil, nil, nil) })
	f("order", func() { b.Rows(0, 1, []shard.Key{1, 1}, []uint32{1, 1}, []float32{1, 1}) })
	f("table twice", func() {
		b := NewPush(PushID{Factor: 1})
		b.Rows(3, 1, one, []uint32{1}, []float32{1})
		b.Rows(3, 1, one, []uint32{1}, []float32{1})
		b.Chunks()
	})
	f("tensor twice", func() {
		b := NewPush(PushID{Factor: 1})
		b.Dense(3, nil)
		b.Dense(3, nil)
		b.Chunks()
	})
	f("schema", func() { AppendConfigure(nil, make([]byte, MaxSchema+1)) })
	f("reply", func() { NewPullReply(nil, 0, -1) })
	f("request", func() { (&PullRequest{Dense: make([]uint16, 1<<16)}).Append(nil) })
}

func TestKindsHaveNames(t *testing.T) {
	t.Parallel()
	var names []string
	for c := range Command(9) {
		names = append(names, c.String())
	}
	want := "kind 0,configure,push,pull request,pull reply,pull reply,push header,reduce,kind 8"
	if got := strings.Join(names, ","); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestReusedBuilderAndPushDoNotAllocate(t *testing.T) {
	keys, counts, grads := make([]shard.Key, 5000), make([]uint32, 5000), make([]float32, 5000*17)
	for i := range keys {
		keys[i] = shard.Key(i)
	}
	b := NewPush(PushID{Factor: 1})
	var p Push
	n := testing.AllocsPerRun(10, func() {
		b.Reset(PushID{Factor: 1, Step: 1})
		b.Rows(0, 17, keys, counts, grads)
		for _, c := range b.Chunks() {
			if err := ParsePush(c, &p); err != nil {
				t.Fatal(err)
			}
		}
	})
	if n != 0 {
		t.Errorf("building and parsing a push allocates %v times", n)
	}
}
