package eval

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"
	"testing"

	"pgregory.net/rapid"
)

// sealed replaces the checksum of an edited encoding with the right one.
func sealed(b []byte) []byte {
	body := b[:len(b)-sumSize]
	return binary.LittleEndian.AppendUint32(bytes.Clone(body), crc32.Checksum(body, castagnoli))
}

func TestParseReturnsWhatAppendWrote(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		scores, labels := sample(t)
		a := accumulate(scores, labels)
		encoded := a.Append([]byte("kept"))
		if string(encoded[:4]) != "kept" {
			t.Fatal("append overwrote what was there")
		}
		parsed, err := Parse(encoded[4:])
		if err != nil {
			t.Fatal(err)
		}
		if got, want := Merge([]*Accumulator{parsed}), Merge([]*Accumulator{a}); got != want {
			t.Fatalf("parsed block gives %+v, want %+v", got, want)
		}
		if !bytes.Equal(parsed.Append(nil), encoded[4:]) {
			t.Fatal("second encoding differs")
		}
	})
}

func TestParseRefusesDamage(t *testing.T) {
	good := accumulate([]float32{0.25, 0.75, 0.75}, []float32{0, 1, 1}).Append(nil)
	edit := func(f func(b []byte) []byte) []byte { return sealed(f(bytes.Clone(good))) }
	cases := map[string][]byte{
		"empty":           nil,
		"short":           good[:headerSize],
		"magic":           edit(func(b []byte) []byte { b[0]++; return b }),
		"truncated":       edit(func(b []byte) []byte { return b[:len(b)-1] }),
		"more samples":    edit(func(b []byte) []byte { b[4]++; return b }),
		"fewer samples":   edit(func(b []byte) []byte { b[4]--; return b }),
		"absurd samples":  edit(func(b []byte) []byte { b[11] = 0xff; return b }),
		"invalid":         edit(func(b []byte) []byte { b[12] = 9; return b }),
		"loss not finite": edit(func(b []byte) []byte { binary.LittleEndian.PutUint64(b[20:], math.Float64bits(math.Inf(1))); return b }),
		"loss negative":   edit(func(b []byte) []byte { b[27] |= 0x80; return b }),
		"score above 1":   edit(func(b []byte) []byte { b[headerSize+4] = 0x0f; return b }),
		"padded":          edit(func(b []byte) []byte { b[len(b)-sumSize-1] = 0x80; return append(b[:len(b)-sumSize], 0, 1, 2, 3, 4) }),
	}
	for i := range good {
		flipped := bytes.Clone(good)
		flipped[i] ^= 1
		if _, err := Parse(flipped); !errors.Is(err, ErrCorrupt) {
			t.Errorf("bit flipped in byte %d: %v", i, err)
		}
	}
	for name, b := range cases {
		if _, err := Parse(b); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Parse(sealed(good)); err != nil {
		t.Errorf("undamaged block refused: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add((&Accumulator{}).Append(nil), false)
	f.Add(accumulate([]float32{0, 1, 0.5, 0.5, 0.125}, []float32{0, 1, 1, 0, 1}).Append(nil), true)
	grouped := &Accumulator{}
	grouped.Add([]float32{0, 1, 0.5, 0.5}, []float32{0, 1, 1, 0}, []uint64{7, 7, 1 << 63, 0})
	f.Add(grouped.Append(nil), true)
	f.Fuzz(func(t *testing.T, b []byte, seal bool) {
		if seal && len(b) >= sumSize { // otherwise the checksum hides the rest
			b = sealed(b)
		}
		a, err := Parse(b)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) {
				t.Fatalf("error %v does not wrap ErrCorrupt", err)
			}
			return
		}
		if !bytes.Equal(a.Append(nil), b) {
			t.Fatal("accepted an encoding that is not the canonical one")
		}
		if r := Merge([]*Accumulator{a}); math.IsNaN(r.LogLoss) || !(r.AUC >= 0 && r.AUC <= 1) {
			t.Fatalf("%+v", r)
		}
	})
}
