package replica

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/hashicorp/raft"
)

// FuzzEntry seals entries, and reads entries whose checksum was not made by
// seal: what was sealed comes back, anything else is told apart.
func FuzzEntry(f *testing.F) {
	f.Add(uint64(1), uint64(1), []byte("command"), []byte(nil), uint(0))
	f.Add(uint64(7), uint64(3), []byte(nil), []byte{0, 0, 0, 0, 9}, uint(77))
	f.Fuzz(func(t *testing.T, index, term uint64, data, extensions []byte, flip uint) {
		raw := raft.Log{Index: index, Term: term, Data: data, Extensions: bytes.Clone(extensions)}
		if err := unseal(&raw); err != nil && !errors.Is(err, errChecksum) {
			t.Fatalf("undeclared error %v", err)
		}
		want := &raft.Log{Index: index, Term: term, Data: data, Extensions: extensions}
		got := *seal(want)
		if err := unseal(&got); err != nil || got.Index != index || !bytes.Equal(got.Data, data) || !bytes.Equal(got.Extensions, extensions) {
			t.Fatalf("%+v comes back as %+v, %v", want, got, err)
		}
		damaged := *seal(want)
		damaged.Data, damaged.Extensions = bytes.Clone(data), bytes.Clone(damaged.Extensions)
		if n := uint(8 * (len(data) + len(damaged.Extensions))); flip%n < uint(8*len(data)) {
			damaged.Data[flip%n/8] ^= 1 << (flip % 8)
		} else {
			damaged.Extensions[flip%n/8-uint(len(data))] ^= 1 << (flip % 8)
		}
		if err := unseal(&damaged); !errors.Is(err, errChecksum) {
			t.Fatalf("a flipped bit is not seen: %v", err)
		}
	})
}

// FuzzTail reads any bytes as the file with the end of the log.
func FuzzTail(f *testing.F) {
	dir := f.TempDir()
	path := filepath.Join(dir, "tail")
	sound, err := openTail(path)
	if err != nil {
		f.Fatal(err)
	}
	if err := errors.Join(sound.set(42, true), sound.close()); err != nil {
		f.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add(b[:7])
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(t.TempDir(), "tail")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := readTail(path); err != nil && !errors.Is(err, ErrDamaged) {
			t.Fatalf("undeclared error %v", err)
		}
	})
}

// FuzzSnapshotMeta reads any bytes as the description of a snapshot.
func FuzzSnapshotMeta(f *testing.F) {
	f.Add([]byte(`{"Version":1,"ID":"1-2-3","Index":2,"Term":1,"Size":5,"CRC":"AAAAAAAAAAA="}`))
	f.Add([]byte(`{"ID":"1-2-3","Index":2,"Term":1,"Size":0,"CRC":""}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		dir := filepath.Join(t.TempDir(), "1-2-3")
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.WriteFile(filepath.Join(dir, "meta.json"), b, 0o600), os.WriteFile(filepath.Join(dir, "state.bin"), []byte("state"), 0o600)); err != nil {
			t.Fatal(err)
		}
		if s := inspectSnapshot(dir); s.err != nil && !errors.Is(s.err, ErrDamaged) || s.meta.Index != 2 || s.meta.Term != 1 {
			t.Fatalf("snapshot %+v", s)
		}
	})
}
