// Package frame is the gRPC codec of servers and their clients: the body of a
// proto.Frame passes through as it is, every other message is protobuf. On the
// wire both are protobuf, so a client with the default codec is understood too.
//
// Ownership. A frame that is sent is not copied: its body must stay unchanged
// until the call has returned without being cancelled (a cancelled call may
// still be writing), or for ever; a Reply hands its body to gRPC instead, which
// recycles it. A received body is a fresh slice that starts at a multiple of
// eight bytes and belongs to the receiver for good, so that commands may alias
// it all the way into the raft log.
//
// The codec keeps no state and is safe for concurrent use.
package frame

import (
	"encoding/binary"
	"fmt"

	"google.golang.org/grpc/encoding"
	grpcproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"

	"github.com/fathom-train/fathom/proto"
)

// MaxMessage bounds one message in either direction.
const MaxMessage = 64 << 20

// bodyTag is the protobuf tag of Frame.body: field 1, length-delimited.
const bodyTag = 1<<3 | 2

// headerMax is the longest tag and length in front of a body.
const headerMax = 1 + binary.MaxVarintLen64

// Codec is the gRPC codec; the zero value is ready for grpc.ForceCodecV2 and
// grpc.ForceServerCodecV2.
type Codec struct{}

var _ encoding.CodecV2 = Codec{}

// Reply is a frame whose body came from Get; sending it gives the body back.
type Reply struct{ Body *[]byte }

// Get returns a buffer of n bytes with arbitrary content for a Reply.
func Get(n int) *[]byte { return Pool.Get(n) }

// Put gives a buffer back that was not sent.
func Put(b *[]byte) { Pool.Put(b) }

// Name is that of the protobuf codec, whose wire format this one speaks.
func (Codec) Name() string { return grpcproto.Name }

// Marshal returns the wire format of v.
func (Codec) Marshal(v any) (mem.BufferSlice, error) {
	switch f := v.(type) {
	case *proto.Frame:
		return appendBody(mem.SliceBuffer(f.GetBody())), nil
	case *Reply:
		return appendBody(mem.NewBuffer(f.Body, Pool)), nil
	}
	return encoding.GetCodecV2(grpcproto.Name).Marshal(v)
}

func appendBody(body mem.Buffer) mem.BufferSlice {
	if body.Len() == 0 {
		body.Free()
		return nil
	}
	header := make([]byte, 1, headerMax)
	header[0] = bodyTag
	header = binary.AppendUvarint(header, uint64(body.Len()))
	return mem.BufferSlice{mem.SliceBuffer(header), body}
}

// Unmarshal parses the wire format into v.
func (Codec) Unmarshal(data mem.BufferSlice, v any) error {
	f, ok := v.(*proto.Frame)
	if !ok {
		return encoding.GetCodecV2(grpcproto.Name).Unmarshal(data, v)
	}
	n := data.Len()
	if n == 0 {
		f.Body = nil
		return nil
	}
	r := data.Reader()
	defer r.Close()
	tag, err := r.ReadByte()
	if err != nil {
		return fmt.Errorf("read frame: %w", err)
	}
	if tag != bodyTag {
		return slow(data, f)
	}
	size, err := binary.ReadUvarint(r)
	if err != nil {
		return fmt.Errorf("read length of frame: %w", err)
	}
	if size != uint64(r.Remaining()) {
		return slow(data, f) // further fields, or damage: protobuf decides
	}
	body := make([]byte, size)
	for at := 0; at < len(body); {
		k, err := r.Read(body[at:])
		if err != nil {
			return fmt.Errorf("read body of frame: %w", err)
		}
		at += k
	}
	f.Body = body
	return nil
}

// slow decodes a frame that is not exactly one body.
func slow(data mem.BufferSlice, f *proto.Frame) error {
	return encoding.GetCodecV2(grpcproto.Name).Unmarshal(data, f)
}
