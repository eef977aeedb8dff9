package coordinator

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/fathom-train/fathom/compute/eval"
	"github.com/fathom-train/fathom/coordinator/client"
	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/fathom-train/fathom/proto"
)

// awaitNodes waits until the coordinator lists that many living members,
// itself included.
func awaitNodes(t *testing.T, ctl *client.Control, alive int) {
	t.Helper()
	for range 600 {
		nodes, err := ctl.Nodes(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, node := range nodes {
			if node.GetAlive() {
				n++
			}
		}
		if n == alive {
			return
		}
		<-time.After(100 * time.Millisecond) // virtual
	}
	t.Fatalf("there were never %d living members", alive)
}

// join opens a bare stream and sends one report.
func (c *cluster) join(t *testing.T, coordinator string, r *proto.NodeReport) grpc.BidiStreamingClient[proto.NodeReport, proto.NodeOrder] {
	t.Helper()
	conn, err := grpc.NewClient(address(coordinator), c.dial(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	c.stopAtEnd(func() { cancel(); conn.Close() })
	stream, err := proto.NewMembershipClient(conn).Join(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(r); err != nil {
		t.Fatal(err)
	}
	return stream
}

func refusal(t *testing.T, stream grpc.BidiStreamingClient[proto.NodeReport, proto.NodeOrder]) codes.Code {
	t.Helper()
	for {
		if _, err := stream.Recv(); err != nil {
			return status.Code(err)
		}
	}
}

func TestOrdersAreRepeatedWhileNothingChanges(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		c.coordinator("c0")
		synctest.Wait()
		stream := c.join(t, "c0", &proto.NodeReport{Node: "w", Role: "worker", Incarnation: 1})
		first, err := stream.Recv()
		if err != nil || first.GetWorker().GetTask() != proto.Task_TASK_IDLE {
			t.Fatalf("first order %v, %v", first, err)
		}
		begin := time.Now()
		again, err := stream.Recv()
		if err != nil || again.GetRevision() != first.GetRevision() || time.Since(begin) > client.EchoInterval {
			t.Fatalf("second order %v, %v after %s", again, err, time.Since(begin))
		}
	})
}

func TestNewerProcessOfANodeReplacesTheOlder(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		c.coordinator("c0")
		synctest.Wait()
		report := func(incarnation uint64) *proto.NodeReport {
			return &proto.NodeReport{Node: "w", Role: "worker", Incarnation: incarnation}
		}
		second := c.join(t, "c0", report(2))
		if _, err := second.Recv(); err != nil {
			t.Fatal(err)
		}
		if code := refusal(t, c.join(t, "c0", report(1))); code != codes.Aborted {
			t.Errorf("an older process beside a newer: %s", code)
		}
		third := c.join(t, "c0", report(3))
		if code := refusal(t, second); code != codes.Aborted {
			t.Errorf("the older process's stream ended with %s", code)
		}
		// The same process may come back while its old stream is not known to
		// be broken.
		back := c.join(t, "c0", report(3))
		if code := refusal(t, third); code != codes.Aborted {
			t.Errorf("the earlier stream ended with %s", code)
		}
		if _, err := back.Recv(); err != nil {
			t.Errorf("the new stream: %v", err)
		}
	})
}

func TestReportsOfNobodyAreRefused(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		c.coordinator("c0")
		synctest.Wait()
		for name, r := range map[string]*proto.NodeReport{
			"no name":    {Role: "worker"},
			"no role":    {Node: "n"},
			"no address": {Node: "n", Role: "ps"},
		} {
			if code := refusal(t, c.join(t, "c0", r)); code != codes.InvalidArgument {
				t.Errorf("%s: %s", name, code)
			}
		}
		stream := c.join(t, "c0", &proto.NodeReport{Node: "n", Role: "worker"})
		if err := stream.Send(&proto.NodeReport{Node: "another", Role: "worker"}); err != nil {
			t.Fatal(err)
		}
		if code := refusal(t, stream); code != codes.InvalidArgument {
			t.Errorf("another node's report: %s", code)
		}
	})
}

func TestDeadNodesAreListedAndForgotten(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		c.coordinator("c0")
		ctl := c.control("c0")
		n := c.worker("w", simWorker{}, "c0")
		awaitNodes(t, ctl, 2)
		n.stop()
		awaitNodes(t, ctl, 1)
		if nodes, _ := ctl.Nodes(t.Context()); len(nodes) != 2 || nodes[1].GetAlive() {
			t.Errorf("members %v", nodes)
		}
		<-time.After(nodeForget + time.Minute)
		if nodes, _ := ctl.Nodes(t.Context()); len(nodes) != 1 {
			t.Errorf("members %v after %s", nodes, nodeForget)
		}
	})
}

func TestEvaluationBlocksAreCheckedAndCountOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		c.coordinator("c0")
		c.servers("c0")
		w := c.worker("w", simWorker{digest: "d", blocked: true}, "c0")
		ctl := c.control("c0")
		name := submit(t, ctl, spec(t, "blocks", nil))
		await(t, ctl, name, inPhase(proto.Phase_PHASE_EVALUATING))
		o := awaitOrder(t, w, func(o *proto.NodeOrder) bool { return len(o.GetWorker().GetBlocks()) > 0 }).GetWorker()
		block := func(block uint64, n int) *proto.EvaluationBlock {
			var a eval.Accumulator
			a.Add(make([]float32, n), make([]float32, n), nil)
			return &proto.EvaluationBlock{Job: o.GetJob(), Run: o.GetRun(), Version: o.GetVersion(), Split: "valid", Block: block, Scores: a.Append(nil)}
		}
		damaged, stale := block(0, 1), block(0, 1)
		damaged.Scores[5] ^= 1
		stale.Version = 9
		for name, f := range map[string]struct {
			block *proto.EvaluationBlock
			code  codes.Code
		}{
			"damaged":    {damaged, codes.InvalidArgument},
			"beyond":     {block(1, 1), codes.InvalidArgument},
			"too large":  {block(0, job.EvaluationBlockRows+1), codes.InvalidArgument},
			"out of use": {stale, codes.OK},
		} {
			if err := w.session.ReportEvaluation(t.Context(), f.block); status.Code(unwrapAll(err)) != f.code {
				t.Errorf("%s: %v, want %s", name, err, f.code)
			}
		}
		if s, _ := ctl.Status(t.Context(), name); len(s.GetScores()) > 0 {
			t.Fatalf("a useless block was counted: %v", s.GetScores())
		}
		for _, n := range []int{100, 50} { // the second copy is another, to see which counts
			if err := w.session.ReportEvaluation(t.Context(), block(0, n)); err != nil {
				t.Fatal(err)
			}
		}
		s := await(t, ctl, name, func(s *proto.JobStatus) bool { return len(s.GetScores()) > 0 })
		if s.GetScores()[0].GetSamples() != 100 {
			t.Errorf("score %v", s.GetScores()[0])
		}
	})
}
