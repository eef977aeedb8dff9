package coordinator

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fathom-train/fathom/proto"
)

func TestJobLivesToTheEnd(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		_, stop := c.coordinator("c0")
		defer stop()
		ctl := c.control("c0")
		defer ctl.Close()
		var nodes []*simNode
		for _, name := range []string{"ps-0", "ps-1", "ps-2"} {
			nodes = append(nodes, c.server(name, nil, "c0"))
		}
		for _, name := range []string{"worker-0", "worker-1"} {
			nodes = append(nodes, c.worker(name, simWorker{digest: "d"}, "c0"))
		}
		name := submit(t, ctl, spec(t, "life", nil))
		var phases []string
		var last *proto.JobStatus
		err := ctl.Watch(t.Context(), name, func(s *proto.JobStatus) error {
			p := phaseName(s.GetPhase())
			if len(phases) == 0 || phases[len(phases)-1] != p {
				phases = append(phases, p)
			}
			last = s
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Log(phases, last)
		for _, n := range nodes {
			n.stop()
			n.checkRevisions(t)
		}
		if d := cmp.Diff("done", phaseName(last.GetPhase())); d != "" {
			t.Fatal(d)
		}
	})
}
