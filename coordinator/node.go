package coordinator

import (
	"fmt"
	"time"

	"github.com/fathom-train/fathom/proto"
)

const (
	rolePS          = "ps"
	roleWorker      = "worker"
	roleCoordinator = "coordinator"
)

const (
	// nodeTTL is how long a node may be silent before it counts as dead.
	nodeTTL = 3 * time.Second
	// streamGrace is how long a node whose stream broke may take to come back.
	streamGrace = time.Second
	// nodeForget is how long a dead node stays listed.
	nodeForget = 10 * time.Minute
	// nodesMax bounds the members of one cluster.
	nodesMax = 4096
	// nodeNameMax is the longest name, that of a DNS host.
	nodeNameMax = 253
	// poolNameMax is the longest name of a pool, that of a DNS label.
	poolNameMax = 63
)

// node is one member: what it last reported and what it is told. The leader's
// mutex guards it.
type node struct {
	name        string
	role        string
	address     string
	incarnation uint64
	report      *proto.NodeReport // the newest; never nil
	heard       time.Time         // when it came
	link        *link             // nil while the stream is broken
	broken      time.Time         // when it broke
	dead        bool              // as of the last look
	deadSince   time.Time
	order       *proto.NodeOrder // wanted; nil: it may go on as it is
}

// link is one Join stream.
type link struct {
	node    string
	changed chan struct{} // capacity 1: there is an order not sent yet
	closed  chan struct{} // closed when another stream of the node took over
}

// alive tells whether the node counts as a member now.
func (n *node) alive(now time.Time) bool {
	if n.link == nil && now.Sub(n.broken) > streamGrace {
		return false
	}
	return now.Sub(n.heard) <= nodeTTL
}

// worker is what the worker reports of the given job; nil when it has not
// begun with it.
func (n *node) worker(id string) *proto.WorkerReport {
	if w := n.report.GetWorker(); w.GetJob() == id {
		return w
	}
	return nil
}

// group is what the server reports of one shard of the given job.
func (n *node) group(id string, shard uint32) *proto.GroupReport {
	for _, g := range n.report.GetGroups() {
		if g.GetJob() == id && g.GetShard() == shard {
			return g
		}
	}
	return nil
}

// checkReport refuses a report that cannot be of a member.
func checkReport(r *proto.NodeReport) error {
	switch {
	case r.GetNode() == "" || len(r.GetNode()) > nodeNameMax:
		return fmt.Errorf("a node's name has 1 to %d bytes, not %d", nodeNameMax, len(r.GetNode()))
	case r.GetRole() != rolePS && r.GetRole() != roleWorker:
		return fmt.Errorf("node %s has the role %q, want %s or %s", r.GetNode(), r.GetRole(), rolePS, roleWorker)
	case r.GetRole() == rolePS && r.GetAddress() == "":
		return fmt.Errorf("parameter server %s reports no address", r.GetNode())
	case len(r.GetPool()) > poolNameMax:
		return fmt.Errorf("parameter server %s is of a pool whose name has %d bytes, want at most %d", r.GetNode(), len(r.GetPool()), poolNameMax)
	}
	return nil
}
