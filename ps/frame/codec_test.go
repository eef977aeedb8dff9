package frame

import (
	"bytes"
	"testing"
	"unsafe"

	"google.golang.org/grpc/mem"
	pb "google.golang.org/protobuf/proto"

	"github.com/fathom-train/fathom/proto"
)

// pieces cuts b into buffers of n bytes, as the network does.
func pieces(b []byte, n int) mem.BufferSlice {
	var s mem.BufferSlice
	for len(b) > n {
		s = append(s, mem.SliceBuffer(b[:n]))
		b = b[n:]
	}
	return append(s, mem.SliceBuffer(b))
}

func TestFrameSpeaksProtobuf(t *testing.T) {
	for _, n := range []int{0, 1, 7, 127, 128, 5000, 1 << 18} {
		body := bytes.Repeat([]byte{0x5a, 1, 0}, n)[:n]
		want, err := pb.Marshal(&proto.Frame{Body: body})
		if err != nil {
			t.Fatal(err)
		}
		sent, err := Codec{}.Marshal(&proto.Frame{Body: body})
		if err != nil {
			t.Fatal(err)
		}
		if got := sent.Materialize(); !bytes.Equal(got, want) {
			t.Fatalf("frame of %d bytes encodes to other bytes than protobuf's", n)
		}
		pooled := Get(n)
		copy(*pooled, body)
		reply, err := Codec{}.Marshal(&Reply{Body: pooled})
		if err != nil {
			t.Fatal(err)
		}
		if got := reply.Materialize(); !bytes.Equal(got, want) {
			t.Fatalf("reply of %d bytes encodes to other bytes than protobuf's", n)
		}
		reply.Free()
		var got proto.Frame
		if err := (Codec{}).Unmarshal(pieces(want, 1000), &got); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Body, body) {
			t.Fatalf("frame of %d bytes does not survive", n)
		}
		if n >= 8 && uintptr(unsafe.Pointer(&got.Body[0]))%8 != 0 {
			t.Error("body is not aligned")
		}
	}
}

func TestFrameSendsWithoutCopy(t *testing.T) {
	body := make([]byte, 1<<20)
	sent, err := Codec{}.Marshal(&proto.Frame{Body: body})
	if err != nil {
		t.Fatal(err)
	}
	if last := sent[len(sent)-1].ReadOnlyData(); &last[0] != &body[0] {
		t.Error("the body was copied")
	}
}

func TestUnmarshalFallsBackToProtobuf(t *testing.T) {
	one, _ := pb.Marshal(&proto.Frame{Body: []byte("first")})
	two, _ := pb.Marshal(&proto.Frame{Body: []byte("second")})
	unknown := []byte{0x10, 0x07} // field 2, varint
	for name, b := range map[string][]byte{
		"two bodies":           append(bytes.Clone(one), two...),
		"unknown field first":  append(bytes.Clone(unknown), two...),
		"unknown field behind": append(bytes.Clone(two), unknown...),
	} {
		var got proto.Frame
		if err := (Codec{}).Unmarshal(pieces(b, 3), &got); err != nil {
			t.Errorf("%s: %v", name, err)
		} else if string(got.Body) != "second" {
			t.Errorf("%s: body %q", name, got.Body)
		}
	}
}

func TestOtherMessagesAreProtobuf(t *testing.T) {
	want := &proto.ShardStatusRequest{Job: "job", Shard: 7}
	b, err := Codec{}.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got proto.ShardStatusRequest
	if err := (Codec{}).Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	if !pb.Equal(want, &got) {
		t.Errorf("got %v, want %v", &got, want)
	}
}

func FuzzUnmarshal(f *testing.F) {
	good, _ := pb.Marshal(&proto.Frame{Body: []byte("body of a frame")})
	f.Add(good)
	f.Add([]byte{bodyTag})
	f.Add([]byte{bodyTag, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01})
	f.Add([]byte{bodyTag, 200, 1, 2, 3})
	f.Fuzz(func(t *testing.T, b []byte) {
		var got, want proto.Frame
		err := Codec{}.Unmarshal(pieces(bytes.Clone(b), 5), &got)
		if wantErr := pb.Unmarshal(b, &want); err == nil && wantErr == nil && !bytes.Equal(got.Body, want.Body) {
			t.Errorf("body %x, protobuf says %x", got.Body, want.Body)
		}
		if err == nil && len(got.Body) > len(b) {
			t.Errorf("%d bytes from %d", len(got.Body), len(b))
		}
	})
}

func TestPoolGivesWhatIsAskedFor(t *testing.T) {
	for _, n := range []int{0, 1, 255, 256, 257, 5000, 1 << 20, 1<<20 + 1, MaxMessage, MaxMessage + 1} {
		b := Get(n)
		if len(*b) != n {
			t.Fatalf("a buffer of %d bytes has %d", n, len(*b))
		}
		if n > 0 && n <= MaxMessage && cap(*b) >= max(2*n, 512) {
			t.Errorf("a buffer of %d bytes holds %d", n, cap(*b))
		}
		Put(b)
	}
	odd := make([]byte, 3000)
	Put(&odd) // not the pool's
	if b := Get(3000); cap(*b) != 4096 {
		t.Errorf("the pool hands out a buffer of %d bytes that is not its own", cap(*b))
	}
}
