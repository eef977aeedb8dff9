package identity

import (
	"bytes"
	"encoding/binary"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"testing/iotest"
)

// TestReadsEndWithTheNextHeader reads records that arrive in pieces of any size
// with room of any size: all bytes come as they were sent, and no read that begins
// within a record goes further than the header of the next one.
func TestReadsEndWithTheNextHeader(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		var sent []byte
		begins := map[int]bool{} // where records do
		for range 1 + random.IntN(20) {
			body := random.IntN(300)
			begins[len(sent)] = true
			sent = binary.BigEndian.AppendUint16(append(sent, 23, 3, 3), uint16(body))
			for range body {
				sent = append(sent, byte(random.Uint32()))
			}
		}
		begins[len(sent)] = true
		var from io.Reader = bytes.NewReader(sent)
		switch random.IntN(3) {
		case 0:
			from = iotest.OneByteReader(from)
		case 1:
			from = iotest.HalfReader(from)
		}
		b := &batched{Conn: readOnly{Reader: from}}
		var got []byte
		for {
			p := make([]byte, 1+random.IntN(400))
			n, err := b.Read(p)
			if err == io.EOF {
				break
			}
			if err != nil || n == 0 {
				t.Fatalf("read %d bytes after %d of %d: %v", n, len(got), len(sent), err)
			}
			for at := len(got); !begins[len(got)] && at < len(got)+n-recordHeader; at++ {
				if begins[at] {
					t.Fatalf("a read from %d to %d goes past the header of the record at %d", len(got), len(got)+n, at)
				}
			}
			got = append(got, p[:n]...)
		}
		if !bytes.Equal(got, sent) {
			t.Fatalf("%d bytes were read, %d sent, or they differ", len(got), len(sent))
		}
	}
}

// readOnly is a connection that is only read from.
type readOnly struct {
	net.Conn
	io.Reader
}

func (r readOnly) Read(p []byte) (int, error) { return r.Reader.Read(p) }
