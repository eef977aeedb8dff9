package wire

import (
	"bytes"
	"errors"
	"hash/crc32"
	"slices"
	"testing"
)

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// FuzzParse feeds every parser with bytes as they are and behind a sound
// envelope: no panic, only the declared errors, and what parses can be built
// again to the same bytes.
func FuzzParse(f *testing.F) {
	f.Add(uint8(KindConfigure), AppendConfigure(nil, []byte("schema")))
	f.Add(uint8(KindReduce), AppendReduce(nil, Reduce{Run: 1, Step: 2, Round: 3, Totals: []float64{0, 0.5}}))
	f.Add(uint8(KindPush), examplePush().Chunks()[0])
	f.Add(uint8(kindPullRequest), exampleRequest().Append(nil))
	reply, _ := NewPullReply(nil, 1, 2)
	f.Add(uint8(kindPullReply), reply)
	f.Add(uint8(kindSealedReply), reply)
	f.Add(uint8(kindPushHeader), AppendPushBody(nil, PushHeader{}, examplePush().Chunks()))
	f.Fuzz(func(t *testing.T, kind uint8, b []byte) {
		parseAll(t, b)
		if len(b) >= envelopeSize {
			sound := bytes.Clone(b)
			head := len(b)
			switch Command(kind) {
			case kindPullReply, kindSealedReply:
				head = min(head, replyHeaderSize)
			case kindPushHeader:
				head = min(head, envelopeSize+headerBodySize)
			}
			seal(sound[:head], Command(kind))
			parseAll(t, sound)
		}
	})
}

func parseAll(t *testing.T, b []byte) {
	t.Helper()
	declared := func(err error) {
		t.Helper()
		if err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrKind) {
			t.Errorf("undeclared error %v", err)
		}
	}
	_, err := Kind(b)
	declared(err)
	if schema, err := ParseConfigure(b); err == nil {
		if !bytes.Equal(AppendConfigure(nil, schema), b) {
			t.Error("a configure command is not built again")
		}
	} else {
		declared(err)
	}
	if r, err := ParseReduce(b); err == nil {
		if !bytes.Equal(AppendReduce(nil, r), b) {
			t.Error("a reduce command is not built again")
		}
	} else {
		declared(err)
	}
	var p Push
	if err := ParsePush(b, &p); err == nil {
		rebuild(t, &p)
	} else {
		declared(err)
	}
	var r PullRequest
	if err := ParsePullRequest(b, &r); err == nil {
		var again PullRequest
		if err := ParsePullRequest(r.Append(nil), &again); err != nil || len(again.Tables) != len(r.Tables) || !slices.Equal(again.Dense, r.Dense) {
			t.Errorf("a request is not built again: %v", err)
		}
	} else {
		declared(err)
	}
	_, _, err = ParsePullReply(b)
	declared(err)
	if h, frames, err := ParsePushBody(b); err == nil {
		if h2, again, err := ParsePushBody(AppendPushBody(nil, h, frames)); err != nil || h2 != h || !slices.EqualFunc(again, frames, bytes.Equal) {
			t.Errorf("a push body is not built again: %v", err)
		}
	} else {
		declared(err)
	}
}

// rebuild builds a parsed chunk again when it is a whole push.
func rebuild(t *testing.T, p *Push) {
	t.Helper()
	if p.Chunks != 1 {
		return
	}
	b := NewPush(p.ID)
	for _, s := range p.Rows {
		b.Rows(s.Table, s.Width, s.Keys, s.Counts, s.Grads)
	}
	for _, s := range p.Dense {
		if s.Offset != 0 {
			return
		}
		b.Dense(s.ID, s.Values)
	}
	var again Push
	if err := ParsePush(b.Chunks()[0], &again); err != nil || len(again.Rows) != len(p.Rows) || len(again.Dense) != len(p.Dense) {
		t.Errorf("a push is not built again: %v", err)
	}
}
