package ps

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fathom-train/fathom/proto"
	"github.com/fathom-train/fathom/shard"
)

// The order of the next phase reshapes the group on all replicas; it can be
// scanned afterwards, and a server that missed it catches up.
func TestOrderOfTheNextPhaseReshapesTheGroup(t *testing.T) {
	t.Parallel()
	nodes, members := runCluster(t, 3)
	for _, n := range nodes {
		n.obey(1, order(0, true, members...))
	}
	leaderOf(t, nodes, 0)
	push(t, nodes, 0, 1, 0)
	push(t, nodes, 0, 1, 1)

	scan := func(version uint64) map[shard.Key][]float32 {
		rows := map[shard.Key][]float32{}
		for from := uint64(0); ; from++ {
			r, err := nodes[from%3].client.Scan(t.Context(), &proto.ScanRequest{Run: testRun, Version: version, From: from, Rows: 1})
			if err != nil {
				t.Fatal(err)
			}
			if from == r.GetTotal() {
				return rows
			}
			rows[shard.Key(r.GetKeys()[0])] = r.GetWeights()
		}
	}
	before := scan(1)
	if len(before) != 2 || len(before[5]) != testWidth {
		t.Fatalf("rows before: %v", before)
	}

	next := func() *proto.GroupOrder {
		o := order(0, false, members...)
		o.NotifyVersion = 2
		o.Schema.Phase, o.Schema.Base = 1, 2
		o.Schema.Tables[0].Closed = true
		o.Schema.Tables[0].Columns[0].Width = 2
		// Steps of rate 0.5 on the gradients 1..4 and 5..8: norms of about 5 and 13.
		o.Schema.Tables[0].Carry = &proto.Carry{Column: "embedding", Norm: "l1", Above: 10, Weights: true}
		return o
	}
	for _, n := range nodes {
		n.obey(2, next())
	}
	for i, n := range nodes {
		eventually(t, "the new phase on every replica", func() bool { return n.group(0).Version == 2 })
		if g := n.group(0); g.Tables[0].Rows != 1 || g.Tables[0].Parameters != 2 {
			t.Errorf("tables of ps-%d: %v", i, g.Tables)
		}
	}
	if diff := cmp.Diff(map[shard.Key][]float32{9: before[9][:2]}, scan(2)); diff != "" {
		t.Errorf("rows after (-want +got)\n%s", diff)
	}
	if _, err := nodes[0].client.Scan(t.Context(), &proto.ScanRequest{Run: testRun, Version: 1, Rows: 1}); err == nil {
		t.Error("a scan of the version before was answered")
	}
	_, err := nodes[0].client.Scan(t.Context(), &proto.ScanRequest{Run: testRun, Shard: 7, Version: 1})
	wantReason(t, "scan of another shard", err, proto.Reason_REASON_WRONG_SHARD)
}
