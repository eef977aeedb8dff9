package ps

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/fathom-train/fathom/ps/fsm"
)

// FuzzHashes reads any bytes as a log of state hashes: where it ends, what was
// read before stands, and reading that part gives the same.
func FuzzHashes(f *testing.F) {
	record := func(version uint64, parts ...byte) []byte {
		var h [16]byte
		binary.LittleEndian.PutUint64(h[:], version)
		binary.LittleEndian.PutUint32(h[8:], uint32(len(parts)))
		var body []byte
		for _, p := range parts {
			body = append(body, bytes.Repeat([]byte{p}, 16)...)
		}
		binary.LittleEndian.PutUint32(h[12:], hashSum(h[:12], body))
		return append(h[:], body...)
	}
	f.Add(append(record(1, 2, 3), record(2, 4, 5)...))
	f.Add(record(7)[:9])
	f.Fuzz(func(t *testing.T, b []byte) {
		count := func(b []byte) (n int, end int64) {
			end = readHashes(bytes.NewReader(b), func(fsm.VersionHash) bool { n++; return true })
			return n, end
		}
		n, end := count(b)
		if end > int64(len(b)) {
			t.Fatalf("%d bytes end at %d", len(b), end)
		}
		if again, to := count(b[:end]); again != n || to != end {
			t.Fatalf("%d records up to %d, then %d up to %d", n, end, again, to)
		}
	})
}
