package worker

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"github.com/fathom-train/fathom/compute/eval"
	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/fathom-train/fathom/proto"
	"github.com/fathom-train/fathom/ps/frame"
	"github.com/fathom-train/fathom/ps/fsm"
	"github.com/fathom-train/fathom/ps/table"
	"github.com/fathom-train/fathom/ps/wire"
)

const limit = 2 * time.Minute // when something has failed that does not come

// coordinator is the other side of an agent's session: the test sends orders
// and reads reports.
type coordinator struct {
	proto.UnimplementedMembershipServer
	orders  chan *proto.NodeOrder
	reports chan *proto.NodeReport
	blocks  chan *proto.EvaluationBlock
}

func (c *coordinator) Join(s grpc.BidiStreamingServer[proto.NodeReport, proto.NodeOrder]) error {
	go func() {
		for {
			r, err := s.Recv()
			if err != nil {
				return
			}
			select {
			case c.reports <- r:
			case <-s.Context().Done():
				return
			}
		}
	}()
	for {
		select {
		case o := <-c.orders:
			if err := s.Send(o); err != nil {
				return err
			}
		case <-s.Context().Done():
			return nil
		}
	}
}

func (c *coordinator) ReportEvaluation(_ context.Context, b *proto.EvaluationBlock) (*proto.EvaluationAck, error) {
	c.blocks <- b
	return &proto.EvaluationAck{}, nil
}

// until returns the first report that the condition holds for.
func (c *coordinator) until(t *testing.T, what string, holds func(*proto.NodeReport) bool) *proto.NodeReport {
	t.Helper()
	deadline := time.After(limit)
	for {
		select {
		case r := <-c.reports:
			if f := r.GetWorker().GetFailure(); f != nil && what != "failure" {
				t.Fatalf("the worker failed: %s", f.GetMessage())
			}
			if holds(r) {
				return r
			}
		case <-deadline:
			t.Fatalf("no report of %s within %v", what, limit)
		}
	}
}

// server is a parameter server of one shard without raft.
type server struct {
	proto.UnimplementedParameterServerServer
	state *fsm.State
	index chan uint64
}

func (s *server) Pull(ctx context.Context, f *proto.Frame) (*proto.Frame, error) {
	var req wire.PullRequest
	if err := wire.ParsePullRequest(f.GetBody(), &req); err != nil {
		return nil, err
	}
	for {
		changed := s.state.Changed()
		if v, _ := s.state.Version(); v >= req.Version {
			break
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	n, err := s.state.Floats(&req)
	if err != nil {
		return nil, err
	}
	body, values := wire.NewPullReply(nil, req.Version, n)
	return &proto.Frame{Body: body}, s.state.Lookup(req.Version, &req, values)
}

func (s *server) Push(_ context.Context, f *proto.Frame) (*proto.Frame, error) {
	_, chunks, err := wire.ParsePushBody(f.GetBody())
	if err != nil {
		return nil, err
	}
	index := <-s.index
	defer func() { s.index <- index }()
	for _, c := range chunks {
		index++
		if r := s.state.Apply(index, c); r.Err != nil {
			return nil, r.Err
		}
	}
	return &proto.Frame{}, nil
}

func (s *server) ShardStatus(context.Context, *proto.ShardStatusRequest) (*proto.ShardStatusReply, error) {
	v, ok := s.state.Version()
	return &proto.ShardStatusReply{Version: v, Configured: ok}, nil
}

func listen(t *testing.T, register func(*grpc.Server), o ...grpc.ServerOption) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer(o...)
	register(g)
	go g.Serve(l)
	t.Cleanup(g.Stop)
	return l.Addr().String()
}

// startAgent runs an agent against a coordinator of the test.
func startAgent(t *testing.T) *coordinator {
	t.Helper()
	c := &coordinator{orders: make(chan *proto.NodeOrder, 1), reports: make(chan *proto.NodeReport, 64), blocks: make(chan *proto.EvaluationBlock, 8)}
	address := listen(t, func(g *grpc.Server) { proto.RegisterMembershipServer(g, c) })
	a, err := New(Config{Node: "worker-0", Coordinators: []string{address}, Registerer: prometheus.NewRegistry()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run returned %v after its context ended", err)
		}
	})
	return c
}

const spec = `
apiVersion: fathom.dev/v1alpha1
kind: TrainingJob
metadata: {name: small}
spec:
  data:
    format: synthetic
    synthetic: {train_rows: 1000, valid_rows: 0, test_rows: 300, numeric: 1, categorical: 2, vocabulary: 50}
  model: {name: fm, embedding_dim: 4}
  train: {batch_size: 256, lanes: 2, optimizer: {name: adam}}
`

// shardOf starts the job's only shard and returns the route to it.
func shardOf(t *testing.T, j *job.Job) *proto.ShardRoute {
	t.Helper()
	schema := fsm.Schema{Job: "small-1", Run: 1, Seed: 1, Lanes: 2, PreImages: j.PreImages(), PipelineDepth: j.Depth(), Async: j.Async()}
	tables, err := j.Tables()
	if err != nil {
		t.Fatal(err)
	}
	for _, tb := range tables {
		st := table.Schema{ID: tb.ID, Name: tb.Name}
		for _, c := range tb.Columns {
			st.Columns = append(st.Columns, table.Column{Name: c.Name, Width: c.Width, Init: c.Init, Optimizer: c.Optimizer})
		}
		schema.Tables = append(schema.Tables, st)
	}
	dense, err := j.Dense()
	if err != nil {
		t.Fatal(err)
	}
	route := &proto.ShardRoute{KeyHi: 1<<64 - 1}
	for _, d := range dense {
		schema.Dense = append(schema.Dense, fsm.DenseTensor{ID: d.ID, Name: d.Name, Size: d.Size, Init: d.Init, Optimizer: d.Optimizer})
		route.Dense = append(route.Dense, uint32(d.ID))
	}
	body, err := fsm.MarshalSchema(schema)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{state: fsm.New(), index: make(chan uint64, 1)}
	t.Cleanup(s.state.Close)
	s.index <- 1
	if r := s.state.Apply(1, wire.AppendConfigure(nil, body)); r.Err != nil {
		t.Fatal(r.Err)
	}
	address := listen(t, func(g *grpc.Server) { proto.RegisterParameterServerServer(g, s) }, grpc.ForceServerCodecV2(frame.Codec{}))
	route.Members = []*proto.Member{{Node: "ps-0", Address: address}}
	return route
}

func TestAgentInspectsTrainsAndEvaluatesAsOrdered(t *testing.T) {
	j, err := job.Parse("small.yaml", []byte(spec), nil)
	if err != nil {
		t.Fatal(err)
	}
	c := startAgent(t)
	route := shardOf(t, j)
	order := &proto.WorkerOrder{Job: "small-1", Run: 1, Spec: j.JSON(), Task: proto.Task_TASK_INSPECT}
	c.orders <- &proto.NodeOrder{Revision: 1, Worker: order}
	data := c.until(t, "data", func(r *proto.NodeReport) bool { return r.GetWorker().GetData() != nil }).GetWorker().GetData()
	if got := data.GetSplits()[0]; got.GetSplit() != "train" || got.GetRows() != 1000 || data.GetTeacherAuc() <= 0.5 {
		t.Errorf("data report %v", data)
	}

	train := &proto.WorkerOrder{Job: "small-1", Run: 1, Spec: j.JSON(), Task: proto.Task_TASK_TRAIN, DataDigest: data.GetDigest(),
		Routes: []*proto.ShardRoute{route}, Lanes: []uint32{0, 1}, LastStep: 4, LearningRateFactor: 1}
	c.orders <- &proto.NodeOrder{Revision: 2, Worker: train}
	r := c.until(t, "the last step", func(r *proto.NodeReport) bool {
		lanes := r.GetWorker().GetLanes()
		return len(lanes) == 2 && lanes[0].GetStep() == 4 && lanes[1].GetStep() == 4
	})
	samples := uint64(0)
	for _, l := range r.GetWorker().GetLanes() {
		samples += l.GetSamples()
		if l.GetLossSum() <= 0 {
			t.Errorf("lane %d reports a loss of %v", l.GetLane(), l.GetLossSum())
		}
	}
	if samples != 1000 || r.GetOrderRevision() != 2 {
		t.Errorf("%d samples under order %d, want 1000 under 2", samples, r.GetOrderRevision())
	}

	evaluate := &proto.WorkerOrder{Job: "small-1", Run: 1, Spec: j.JSON(), Task: proto.Task_TASK_EVALUATE, DataDigest: data.GetDigest(),
		Routes: []*proto.ShardRoute{route}, Epoch: 1, Split: "test", Version: 4, Blocks: []uint64{0}}
	// The second time as a leader orders it that was elected after the first
	// delivery and has nothing of it.
	for revision := uint64(3); revision < 5; revision++ {
		c.orders <- &proto.NodeOrder{Revision: revision, Worker: evaluate}
		select {
		case b := <-c.blocks:
			acc, err := eval.Parse(b.GetScores())
			if err != nil {
				t.Fatal(err)
			}
			if got := eval.Merge([]*eval.Accumulator{acc}).Samples; got != 300 || b.GetSplit() != "test" {
				t.Errorf("block of %d scores of %s, want 300 of test", got, b.GetSplit())
			}
		case <-time.After(limit):
			t.Fatalf("no scores arrived after order %d", revision)
		}
	}
}

func TestAgentReportsBadInputAsSuch(t *testing.T) {
	path := filepath.Join(t.TempDir(), "train.csv")
	if err := os.WriteFile(path, []byte("label,a\n1,x\n7,y\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	j, err := job.Parse("job.yaml", []byte(`
apiVersion: fathom.dev/v1alpha1
kind: TrainingJob
metadata: {name: bad}
spec:
  data: {format: csv, train: [`+path+`], fields: [{name: a}]}
  model: {name: lr}
`), nil)
	if err != nil {
		t.Fatal(err)
	}
	c := startAgent(t)
	c.orders <- &proto.NodeOrder{Revision: 1, Worker: &proto.WorkerOrder{Job: "bad-1", Spec: j.JSON(), Task: proto.Task_TASK_INSPECT}}
	f := c.until(t, "failure", func(r *proto.NodeReport) bool { return r.GetWorker().GetFailure() != nil }).GetWorker().GetFailure()
	if !f.GetInput() || !strings.Contains(f.GetMessage(), "train.csv:3") {
		t.Errorf("failure %v, want an input error that names train.csv:3", f)
	}
	// Another job begins with a clean report.
	c.orders <- &proto.NodeOrder{Revision: 2, Worker: &proto.WorkerOrder{Job: "other-1", Task: proto.Task_TASK_IDLE}}
	c.until(t, "failure", func(r *proto.NodeReport) bool {
		return r.GetWorker().GetJob() == "other-1" && r.GetWorker().GetFailure() == nil
	})
}

func TestAgentRefusesToJoinWithoutNameOrAddress(t *testing.T) {
	for _, c := range []Config{{}, {Node: "w"}, {Coordinators: []string{"x"}}} {
		if _, err := New(c); err == nil {
			t.Errorf("%+v was accepted", c)
		}
	}
}

func TestProgressIsThatOfTheNewestStep(t *testing.T) {
	a, err := New(Config{Node: "worker-0", Coordinators: []string{"127.0.0.1:1"}})
	if err != nil {
		t.Fatal(err)
	}
	a.progress(4, 1, 0.5, 10)
	a.progress(3, 1, 0.25, 10)
	if l := a.nodeReport().GetWorker().GetLanes(); len(l) != 1 || l[0].GetStep() != 4 || l[0].GetSamples() != 20 || l[0].GetLossSum() != 0.75 {
		t.Errorf("lanes %v, want step 4 and both pushes counted", l)
	}
}
