package ps

import (
	"strings"
	"testing"

	"github.com/fathom-train/fathom/proto"
)

// TestReplicaThatDivergedStopsForGood: a replica that is told so leaves service,
// says so, and does not come back with its data when the server is started again.
func TestReplicaThatDivergedStopsForGood(t *testing.T) {
	cfg := Config{Node: "ps-0", DataDir: t.TempDir()}
	n := run(t, cfg)
	member := &proto.Member{Node: "ps-0", Address: n.server.Addr()}
	n.obey(1, order(0, true, member))
	eventually(t, "the shard is configured", func() bool { return n.group(0).GetConfigured() })
	o := order(0, false, member)
	o.Diverged = "the others hold other bits at step 7"
	n.obey(2, o)
	told := func(n *node) func() bool {
		return func() bool {
			g := n.group(0)
			return g.GetLost() && strings.Contains(g.GetError(), "other bits at step 7")
		}
	}
	eventually(t, "the replica says that it diverged", told(n))
	if err := n.stop(); err != nil {
		t.Fatal(err)
	}
	again := run(t, cfg)
	again.obey(1, order(0, false, &proto.Member{Node: "ps-0", Address: again.server.Addr()}))
	eventually(t, "it stays out of service", told(again))
}
