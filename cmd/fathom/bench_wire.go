package main

import (
	"context"
	"fmt"

	"github.com/fathom-train/fathom/ps/wire"
	"github.com/fathom-train/fathom/shard"
)

// codecBench is one direction of the wire codec.
type codecBench struct {
	name  string
	rows  int
	bytes int // of the message
	run   func() error
}

// benchWire measures the codec: a lane's push and a pull of as many rows, from
// numbers to the bytes of the request and back, checksums included. A push is
// parsed as on the server: the request, then every command.
func benchWire(ctx context.Context, b *bencher) error {
	keys := keyBatches(1, fsmStepRows, 1<<40)[0]
	for _, c := range append(pushCodec(keys), pullCodec(keys)...) {
		extra := map[string]float64{"message_bytes": float64(c.bytes)}
		shape := fmt.Sprintf("%s rows=%d width=%d", c.name, c.rows, fsmWidth)
		run := func(rounds int) error {
			for range rounds {
				if err := c.run(); err != nil {
					return err
				}
			}
			return nil
		}
		for _, u := range []struct {
			unit string
			work float64
		}{{"GB/s", float64(c.bytes) / 1e9}, {"rows/s", float64(c.rows)}} {
			err := b.measure(ctx, benchCase{name: shape, threads: 1, unit: u.unit, work: u.work, extra: extra}, nil, run)
			if err != nil {
				return err
			}
		}
	}
	return nil
}

func pushCodec(keys []shard.Key) []codecBench {
	grads := smallGradient(len(keys)*fsmWidth, 4)
	counts := make([]uint32, len(keys))
	for i := range counts {
		counts[i] = 1
	}
	builder := wire.NewPush(wire.PushID{Factor: 1})
	var body []byte
	step := uint64(0)
	encode := func() error {
		step++
		builder.Reset(wire.PushID{Factor: 1, Run: 1, Phase: 1, Step: step})
		builder.Rows(0, fsmWidth, keys, counts, grads)
		body = builder.Body(wire.PushHeader{Run: 1})
		return nil
	}
	_ = encode() // to know the size; it cannot fail
	var push wire.Push
	parse := func() error {
		_, chunks, err := wire.ParsePushBody(body)
		if err != nil {
			return err
		}
		for _, c := range chunks {
			if err := wire.ParsePush(c, &push); err != nil {
				return err
			}
		}
		return nil
	}
	return []codecBench{{"encode push", len(keys), len(body), encode}, {"parse push", len(keys), len(body), parse}}
}

func pullCodec(keys []shard.Key) []codecBench {
	request := wire.PullRequest{Run: 1, Version: 1, Tables: []wire.TableKeys{{Keys: keys}}}
	body := request.Append(nil)
	weights := smallGradient(len(keys)*fsmWidth, 5)
	reply, _ := wire.NewPullReply(nil, 1, len(weights))
	var parsed wire.PullRequest
	encodeReply := func() error {
		var values []float32
		reply, values = wire.NewPullReply(reply, 1, len(weights))
		copy(values, weights)
		wire.SealPullReply(reply)
		return nil
	}
	_ = encodeReply() // so that there is one to parse; it cannot fail
	return []codecBench{
		{"encode pull request", len(keys), len(body), func() error { body = request.Append(body[:0]); return nil }},
		{"parse pull request", len(keys), len(body), func() error { return wire.ParsePullRequest(body, &parsed) }},
		{"encode pull reply", len(keys), len(reply), encodeReply},
		{"parse pull reply", len(keys), len(reply), func() error { _, _, err := wire.ParsePullReply(reply); return err }},
	}
}
