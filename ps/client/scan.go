package client

import (
	"context"
	"fmt"

	"github.com/fathom-train/fathom/proto"
	"github.com/fathom-train/fathom/ps/fsm"
	"github.com/fathom-train/fathom/ps/table"
	"github.com/fathom-train/fathom/shard"
)

// scanRows is how many rows are asked for at once; a server may give fewer.
const scanRows = 1 << 14

// Scan calls f for the rows of a table that shard i (its place in the routes)
// holds, in the order of their creation, part by part. The shard must stand at
// the version: earlier ones are not kept whole. f must not keep its arguments.
func (c *Client) Scan(ctx context.Context, i int, version uint64, table uint16, f func(keys []shard.Key, weights []float32) error) error {
	route := c.current()[i]
	for from := uint64(0); ; {
		req := &proto.ScanRequest{Run: c.run, Shard: uint32(route.Shard), Version: version, Table: uint32(table), From: from, Rows: scanRows}
		reply, err := c.transport.scan(ctx, i, req)
		if err != nil {
			return fmt.Errorf("scan table %d of shard %d at version %d: %w", table, route.Shard, version, err)
		}
		n := len(reply.GetKeys())
		if n == 0 && from < reply.GetTotal() || n > 0 && len(reply.GetWeights())%n != 0 {
			return fmt.Errorf("scan table %d of shard %d at version %d: row %d of %d: the answer has %d keys and %d weights",
				table, route.Shard, version, from, reply.GetTotal(), n, len(reply.GetWeights()))
		}
		keys := make([]shard.Key, n)
		for j, k := range reply.GetKeys() {
			keys[j] = shard.Key(k)
		}
		if n > 0 {
			if err := f(keys, reply.GetWeights()); err != nil {
				return err
			}
		}
		if from += uint64(n); from >= reply.GetTotal() {
			return nil
		}
	}
}

// Describe returns the schema of shard i (its place in the routes) at a version,
// and the factors of the learning rates that rows of lazy tables were updated with.
func (c *Client) Describe(ctx context.Context, i int, version uint64) (schema fsm.Schema, factors []table.Factor, err error) {
	route := c.current()[i]
	req := &proto.ScanRequest{Run: c.run, Shard: uint32(route.Shard), Version: version, Describe: true}
	reply, err := c.transport.scan(ctx, i, req)
	if err == nil {
		schema, err = fsm.ParseSchema(reply.GetSchema())
	}
	if err == nil {
		factors, err = fsm.ParseFactors(reply.GetFactors())
	}
	if err != nil {
		return fsm.Schema{}, nil, fmt.Errorf("describe shard %d at version %d: %w", route.Shard, version, err)
	}
	return schema, factors, nil
}

// Shards is the number of shards.
func (c *Client) Shards() int { return len(c.current()) }

func (r *remote) scan(ctx context.Context, i int, req *proto.ScanRequest) (*proto.ScanReply, error) {
	var reply proto.ScanReply
	err := r.call(ctx, i, proto.ParameterServer_Scan_FullMethodName, req, &reply)
	return &reply, err
}

func (l *local) scan(_ context.Context, i int, req *proto.ScanRequest) (*proto.ScanReply, error) {
	if req.GetDescribe() {
		schema, factors, err := l.states[i].Describe(req.GetRun())
		return &proto.ScanReply{Schema: schema, Factors: factors}, err
	}
	keys, weights, total, err := l.states[i].Scan(req.GetRun(), req.GetVersion(), uint16(req.GetTable()), int(req.GetFrom()), int(req.GetRows()))
	if err != nil {
		return nil, err
	}
	reply := &proto.ScanReply{Total: uint64(total), Weights: weights}
	for _, k := range keys {
		reply.Keys = append(reply.Keys, uint64(k))
	}
	return reply, nil
}
