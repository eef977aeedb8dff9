package fsm

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"testing"

	"github.com/fathom-train/fathom/ps/wire"
)

// fuzzMax keeps one fuzzed schema from taking all memory.
const fuzzMax = 1 << 16

// sound puts a sound envelope of a kind around a body.
func sound(kind uint8, body []byte) []byte {
	// A configure command of the same length has the right envelope but for
	// kind and checksum, which are what a fuzzer cannot guess.
	b := wire.AppendConfigure(nil, body)
	binary.LittleEndian.PutUint16(b[12:], uint16(kind))
	binary.LittleEndian.PutUint32(b[4:], crc32.Checksum(b[8:], castagnoli))
	return b
}

// FuzzApply applies a stream of commands behind sound envelopes to two states:
// no panic, and both stay equal, also when one is restored on the way.
func FuzzApply(f *testing.F) {
	schema := example(2, 1)
	schema.PipelineDepth = 1
	const body = 16
	stream := func(cmds ...[]byte) []byte {
		var b []byte
		for _, c := range cmds {
			b = append(b, c[12]) // kind
			b = binary.LittleEndian.AppendUint32(b, uint32(len(c)-body))
			b = append(b, c[body:]...)
		}
		return b
	}
	f.Add(stream(whole(schema, 1, 0)[0], whole(schema, 1, 1)[0], whole(schema, 2, 1)[0], whole(schema, 2, 1)[0]))
	f.Add(stream(whole(schema, 1, 1)[0], configure(f, schema), whole(schema, 2, 1)[0], whole(schema, 1, 0)[0]))
	f.Add(stream(whole(schema, 2, 1)[0], whole(schema, 2, 0)[0], whole(schema, 1, 0)[0], whole(schema, 3, 0)[0], whole(schema, 1, 1)[0]))
	_, first := attempt(schema, 1, 1, 1)
	_, second := attempt(schema, 2, 1, 2)
	seed := stream(first[0], second[0], first[0])
	seed[0] |= 0x80
	f.Add(seed)
	f.Add(stream(sound(0, nil), sound(1, []byte("{}")), sound(3, nil)))
	f.Fuzz(func(t *testing.T, b []byte) {
		schema := schema
		if len(b) > 0 && b[0]&0x80 != 0 {
			b = bytes.Clone(b)
			b[0] &^= 0x80
			schema.Async, schema.PreImages = true, 0
		}
		one, two := configured(t, schema), configured(t, schema)
		defer func() { one.Close(); two.Close() }()
		for index := uint64(2); len(b) >= 5 && index < 20; index++ {
			kind, n := b[0], int(binary.LittleEndian.Uint32(b[1:]))
			b = b[5:]
			n = min(max(n, 0), len(b), wire.MaxSchema)
			cmd := sound(kind, b[:n])
			b = b[n:]
			r1, r2 := one.Apply(index, cmd), two.Apply(index, cmd)
			if r1.Status != r2.Status || r1.Version != r2.Version || r1.Complete != r2.Complete {
				t.Fatalf("one state says %+v, the other %+v", r1, r2)
			}
			if (r1.Err == nil) != (r1.Status == Accepted || r1.Status == Duplicate) {
				t.Fatalf("%v with error %v", r1.Status, r1.Err)
			}
			if one.Hash() != two.Hash() {
				t.Fatal("two states fed the same commands differ")
			}
			if index%4 == 0 {
				two = reopened(t, two)
			}
		}
	})
}

// FuzzRestore restores any bytes, as they are and with the checksums of their
// blocks made right: no panic, only the declared error.
func FuzzRestore(f *testing.F) {
	for _, st := range []*State{New(), halfway(f, example(2, 1))} {
		var b bytes.Buffer
		v := st.View()
		if _, err := v.WriteTo(&b); err != nil {
			f.Fatal(err)
		}
		v.Release()
		f.Add(b.Bytes())
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, p := range [][]byte{b, rechecked(b)} {
			st := New()
			err := st.Restore(bytes.NewReader(p))
			if err != nil && !errors.Is(err, ErrSnapshot) {
				t.Fatalf("undeclared error %v", err)
			}
			if err == nil {
				v := st.View()
				if _, err := v.WriteTo(io.Discard); err != nil {
					t.Fatal(err)
				}
				v.Release()
			}
			st.Close()
		}
	})
}

// rechecked makes the checksums of a snapshot's blocks right, up to the first
// block that is cut off or could configure something huge.
func rechecked(b []byte) []byte {
	b = bytes.Clone(b)
	for at := len(snapshotMagic); at+blockHeaderSize <= len(b); {
		n := int(binary.LittleEndian.Uint32(b[at+4:]))
		end := at + blockHeaderSize + n
		if end > len(b) || end < at {
			break
		}
		h, body := b[at:at+blockHeaderSize], b[at+blockHeaderSize:end]
		if binary.LittleEndian.Uint32(h) == blockMeta && n > metaSize {
			if s, err := ParseSchema(body[metaSize:]); err != nil || size(s) > fuzzMax {
				break
			}
		}
		binary.LittleEndian.PutUint32(h[8:], blockSum(h, body))
		at = end
	}
	return b
}

// size returns the floats of a schema's tensors.
func size(s Schema) (n int) {
	for _, d := range s.Dense {
		n += d.Size
	}
	return n
}
