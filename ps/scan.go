package ps

import (
	"context"

	"github.com/fathom-train/fathom/proto"
	"github.com/fathom-train/fathom/ps/fsm"
)

// scanFloatsMax bounds the weights of one reply of Scan.
const scanFloatsMax = 1 << 20

// Scan reads a part of a table. Any replica may answer: all have created their
// rows in the same order.
func (v *service) Scan(ctx context.Context, req *proto.ScanRequest) (*proto.ScanReply, error) {
	h, err := v.find(groupKey{req.GetRun(), req.GetShard()})
	if err != nil {
		return nil, v.server.statusOf(nil, err)
	}
	reply, err := v.scan(ctx, h, req)
	if err != nil {
		return nil, v.server.statusOf(h, err)
	}
	return reply, nil
}

func (v *service) scan(ctx context.Context, h *hosted, req *proto.ScanRequest) (*proto.ScanReply, error) {
	g, err := h.replica()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, v.server.cfg.PullWait)
	defer cancel()
	reply := &proto.ScanReply{}
	err = g.Read(ctx, req.GetVersion(), func(state *fsm.State) (err error) {
		if req.GetDescribe() {
			reply.Schema, reply.Factors, err = state.Describe(req.GetRun())
			return err
		}
		rows := int(min(uint64(req.GetRows()), scanFloatsMax/uint64(max(1, state.Width(uint16(req.GetTable()))))))
		keys, weights, total, err := state.Scan(req.GetRun(), req.GetVersion(), uint16(req.GetTable()), int(req.GetFrom()), max(1, rows))
		if err != nil {
			return err
		}
		reply.Total, reply.Weights, reply.Keys = uint64(total), weights, make([]uint64, len(keys))
		for i, k := range keys {
			reply.Keys[i] = uint64(k)
		}
		return nil
	})
	return reply, err
}
