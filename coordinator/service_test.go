package coordinator

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/fathom-train/fathom/proto"
)

// servers starts three parameter servers.
func (c *cluster) servers(coordinators ...string) []*simNode {
	var nodes []*simNode
	for i := range 3 {
		nodes = append(nodes, c.server(fmt.Sprintf("ps-%d", i), nil, coordinators...))
	}
	return nodes
}

func TestJobLivesToTheEnd(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		c.coordinator("c0")
		ctl := c.control("c0")
		nodes := c.servers("c0")
		for _, name := range []string{"worker-0", "worker-1"} {
			nodes = append(nodes, c.worker(name, simWorker{digest: "d"}, "c0"))
		}
		submitted := spec(t, "life", nil)
		got := await(t, ctl, submit(t, ctl, submitted), inPhase(proto.Phase_PHASE_DONE))
		type summary struct {
			Epoch, Step, Steps  uint64
			Hash, Digest, Spec  string
			Loss, TeacherAUC    float64
			Scores              []string
			Tables, Usage, Rows string
		}
		sum := summary{got.GetEpoch(), got.GetStep(), got.GetSteps(), got.GetModelHash(), got.GetSpecDigest(), string(got.GetSpec()),
			got.GetLoss(), got.GetTeacherAuc(), nil, fmt.Sprint(len(got.GetTables()), got.GetTables()[0].GetRows(), got.GetTables()[0].GetStateBytes()),
			fmt.Sprint(got.GetUsage()[0].GetRole(), got.GetUsage()[0].GetProcesses(), got.GetUsage()[1].GetRole(), got.GetUsage()[1].GetProcesses()),
			fmt.Sprint(len(got.GetSplits()), got.GetSplits()[0].GetRows())}
		for _, s := range got.GetScores() {
			sum.Scores = append(sum.Scores, fmt.Sprintf("%d %s %d %d %g", s.GetEpoch(), s.GetSplit(), s.GetVersion(), s.GetSamples(), s.GetAuc()))
		}
		parsed, err := job.FromJSON(submitted)
		if err != nil {
			t.Fatal(err)
		}
		// The hashes of shards 0 and 1 at step 20 are {1, 20} and {2, 20}.
		want := summary{2, 20, 20, "03000000000000002800000000000000", parsed.Digest(), string(submitted), 0.5, 0.75,
			[]string{"1 valid 10 100 0.5", "2 valid 20 100 0.5", fmt.Sprintf("2 test 20 %d 0.5", simTestRows)}, "1 20 160", "ps3worker2", "3 1000"}
		if d := cmp.Diff(want, sum); d != "" {
			t.Error(d)
		}
		if got.GetStartedUnixNano() < got.GetCreatedUnixNano() || got.GetEndedUnixNano() <= got.GetStartedUnixNano() ||
			got.GetTrainSeconds() <= 0 || got.GetSamplesPerSecond() <= 0 || got.GetUsage()[1].GetCpuSeconds() <= 0 {
			t.Errorf("times and speed: %v", got)
		}
		for _, n := range nodes {
			n.checkRevisions(t)
		}
	})
}

func TestGroupsAreOrderedByTheSchemaAndFormedOnce(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		c.coordinator("c0")
		ctl := c.control("c0")
		nodes := append(c.servers("c0"), c.worker("worker-0", simWorker{digest: "d"}, "c0"))
		name := submit(t, ctl, spec(t, "form", nil))
		await(t, ctl, name, inPhase(proto.Phase_PHASE_DONE))

		orders := nodes[0].orders
		var bootstraps []bool
		for _, o := range orders {
			if g := o.GetGroups(); len(g) > 0 {
				bootstraps = append(bootstraps, g[0].GetBootstrap())
			}
		}
		if d := cmp.Diff([]bool{true, false}, slices.Compact(bootstraps)); d != "" {
			t.Errorf("bootstrap over time: %s", d)
		}
		last := orders[len(orders)-1].GetGroups() // hosted after the end
		if len(last) != 2 || last[0].GetKeyLo() != 0 || last[1].GetKeyHi() != 1<<64-1 || last[0].GetKeyHi()+1 != last[1].GetKeyLo() {
			t.Fatalf("groups %v", last)
		}
		s := last[0].GetSchema()
		if s.GetJob() != last[0].GetJob() || !strings.HasPrefix(s.GetJob(), "form-") || s.GetRun() == 0 || s.GetSeed() != 7 || s.GetLanes() != 4 || s.GetPreImages() != 3 || s.GetPipelineDepth() != 1 {
			t.Errorf("schema %v", s)
		}
		if len(s.GetTables()) != 1 || s.GetTables()[0].GetColumns()[0].GetWidth() != 1 || !strings.Contains(string(s.GetTables()[0].GetColumns()[0].GetOptimizer()), "lamb") {
			t.Errorf("tables %v", s.GetTables())
		}
		// The one tensor of lr, the bias, is on shard 0 and in its route.
		if d := s.GetDense(); len(d) != 1 || d[0].GetSize() != 1 || len(last[1].GetSchema().GetDense()) != 0 {
			t.Errorf("dense tensors %v", d)
		}
		for _, o := range nodes[3].orders {
			w := o.GetWorker()
			if w.GetTask() != proto.Task_TASK_TRAIN {
				continue
			}
			r := w.GetRoutes()
			if len(r) != 2 || len(r[0].GetDense()) != 1 || r[0].GetLeader() != "ps-0" || r[1].GetLeader() != "ps-1" || r[0].GetMembers()[1].GetAddress() != "ps-1:7000" ||
				w.GetJob() != s.GetJob() || w.GetRun() != s.GetRun() || w.GetDataDigest() != "d" || w.GetMapVersion() != 1 {
				t.Fatalf("order %v", w)
			}
		}
	})
}

func TestDeadWorkersLanesGoToTheOthers(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		c.coordinator("c0")
		ctl := c.control("c0")
		c.servers("c0")
		survivor := c.worker("worker-0", simWorker{digest: "d"}, "c0")
		victim := c.worker("worker-1", simWorker{digest: "d"}, "c0")
		name := submit(t, ctl, spec(t, "death", func(j *job.Job) { j.Spec.Train.Epochs = 10 }))
		await(t, ctl, name, func(s *proto.JobStatus) bool { return s.GetStep() >= 20 })
		died := time.Now()
		victim.stop()
		o := awaitOrder(t, survivor, func(o *proto.NodeOrder) bool { return len(o.GetWorker().GetLanes()) == 4 })
		if waited := time.Since(died); waited > 2*streamGrace {
			t.Errorf("the lanes moved after %s, want %s", waited, streamGrace)
		}
		if d := cmp.Diff([]uint32{0, 1, 2, 3}, o.GetWorker().GetLanes()); d != "" {
			t.Error(d)
		}
		newcomer := c.worker("worker-2", simWorker{digest: "d"}, "c0")
		awaitOrder(t, newcomer, func(o *proto.NodeOrder) bool { return len(o.GetWorker().GetLanes()) == 2 })
		await(t, ctl, name, inPhase(proto.Phase_PHASE_DONE))
	})
}

// awaitOrder waits until a node is told what the condition asks for.
func awaitOrder(t *testing.T, n *simNode, until func(*proto.NodeOrder) bool) *proto.NodeOrder {
	t.Helper()
	limit := time.After(time.Minute) // virtual
	for {
		o, changed := n.current()
		if until(o) {
			return o
		}
		select {
		case <-changed:
		case <-limit:
			t.Fatalf("%s was never told so; last %v", n.name, o)
		}
	}
}

// TestWorkerThatStandsStillIsOvertaken has one that is alive and does nothing
// from some moment on.
func TestWorkerThatStandsStillIsOvertaken(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		c.coordinator("c0")
		ctl := c.control("c0")
		c.servers("c0")
		fast := c.worker("worker-0", simWorker{digest: "d"}, "c0")
		slow := c.worker("worker-1", simWorker{digest: "d", stopAt: 15}, "c0")
		name := submit(t, ctl, spec(t, "straggler", func(j *job.Job) { j.Spec.Train.Epochs = 5 }))
		await(t, ctl, name, func(s *proto.JobStatus) bool { return s.GetStep() >= 14 })
		awaitOrder(t, fast, func(o *proto.NodeOrder) bool { return len(o.GetWorker().GetLanes()) == 4 })
		if o, _ := slow.current(); len(o.GetWorker().GetLanes()) != 2 {
			t.Errorf("the slow worker was told %v, it should keep its lanes", o.GetWorker().GetLanes())
		}
		await(t, ctl, name, inPhase(proto.Phase_PHASE_DONE))
	})
}

// TestAllWorkersMayBeReplaced stops every worker and starts others later.
func TestAllWorkersMayBeReplaced(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		c.coordinator("c0")
		ctl := c.control("c0")
		c.servers("c0")
		first := []*simNode{c.worker("worker-0", simWorker{digest: "d"}, "c0"), c.worker("worker-1", simWorker{digest: "d"}, "c0")}
		name := submit(t, ctl, spec(t, "replaced", func(j *job.Job) { j.Spec.Train.Epochs = 5 }))
		await(t, ctl, name, func(s *proto.JobStatus) bool { return s.GetStep() >= 25 })
		for _, n := range first {
			n.stop()
		}
		time.Sleep(5 * time.Minute) // virtual: nobody works
		c.worker("worker-7", simWorker{digest: "d"}, "c0")
		s := await(t, ctl, name, inPhase(proto.Phase_PHASE_DONE))
		if s.GetStep() != 50 {
			t.Errorf("the job ended at step %d, want 50", s.GetStep())
		}
	})
}

func TestSilentWorkerIsReplacedAndALateOneWithOtherDataLeftOut(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		c.coordinator("c0")
		ctl := c.control("c0")
		c.servers("c0")
		c.worker("worker-0", simWorker{digest: "d"}, "c0")
		stuck := c.worker("worker-1", simWorker{digest: "d", stuck: true}, "c0")
		name := submit(t, ctl, spec(t, "silent", nil))
		await(t, ctl, name, inPhase(proto.Phase_PHASE_TRAINING))
		awaitOrder(t, stuck, func(o *proto.NodeOrder) bool { return len(o.GetWorker().GetLanes()) == 2 })
		stranger := c.worker("worker-2", simWorker{digest: "other"}, "c0")
		o := awaitOrder(t, stranger, func(o *proto.NodeOrder) bool { return o.GetWorker().GetJob() != "" })
		if o.GetWorker().GetTask() != proto.Task_TASK_INSPECT || o.GetWorker().GetDataDigest() != "d" {
			t.Fatalf("order of a worker that has not opened the data: %v", o)
		}
		defer stuck.hang()()
		await(t, ctl, name, inPhase(proto.Phase_PHASE_DONE))
		for _, o := range stranger.orders {
			if len(o.GetWorker().GetLanes())+len(o.GetWorker().GetBlocks()) > 0 {
				t.Fatalf("a worker with other data was given work: %v", o)
			}
		}
	})
}

func TestNewCoordinatorGoesOnFromTheStore(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		_, stop := c.coordinator("c0")
		ctl := c.control("c0")
		nodes := append(c.servers("c0"), c.worker("worker-0", simWorker{digest: "d", stepMs: 200}, "c0"), c.worker("worker-1", simWorker{digest: "d", stepMs: 200}, "c0"))
		name := submit(t, ctl, spec(t, "resume", func(j *job.Job) { j.Spec.Train.Epochs = 4 }))
		before := await(t, ctl, name, func(s *proto.JobStatus) bool { return s.GetEpoch() == 3 && s.GetStep() > 20 })
		stop()
		c.coordinator("c0")
		after := await(t, ctl, name, func(s *proto.JobStatus) bool { return s.GetStep() >= before.GetStep() })
		if after.GetPhase() != proto.Phase_PHASE_TRAINING || after.GetEpoch() < 3 || len(after.GetScores()) < 2 || after.GetSpecDigest() != before.GetSpecDigest() {
			t.Errorf("before %v\nafter %v", before, after)
		}
		done := await(t, ctl, name, inPhase(proto.Phase_PHASE_DONE))
		if len(done.GetScores()) != 5 || done.GetStep() != 40 {
			t.Errorf("final %v", done)
		}
		for _, n := range nodes {
			n.checkRevisions(t)
			runs := map[uint64]bool{}
			for _, o := range n.orders {
				for _, g := range o.GetGroups() {
					runs[g.GetSchema().GetRun()] = true
				}
			}
			if len(runs) > 1 {
				t.Errorf("%s saw %d runs of one job", n.name, len(runs))
			}
		}
		// A lane moves at most when its worker leaves: nobody was given all of
		// them while the others came back.
		for _, o := range nodes[3].orders {
			if len(o.GetWorker().GetLanes()) > 2 {
				t.Errorf("worker-0 was given lanes %v although worker-1 lives", o.GetWorker().GetLanes())
			}
		}
	})
}

func TestEvaluationIsRepeatedByANewLeader(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		_, stop := c.coordinator("c0")
		ctl := c.control("c0")
		c.servers("c0")
		c.worker("worker-0", simWorker{digest: "d"}, "c0")
		lazy := c.worker("worker-1", simWorker{digest: "d", blocked: true}, "c0")
		name := submit(t, ctl, spec(t, "again", func(j *job.Job) { j.Spec.Train.Epochs = 1 }))
		got := await(t, ctl, name, func(s *proto.JobStatus) bool {
			return strings.Contains(s.GetDetail(), "test split") && !strings.Contains(s.GetDetail(), " 0 of")
		})
		t.Log(got.GetDetail())
		stop()
		c.coordinator("c0")
		await(t, ctl, name, inPhase(proto.Phase_PHASE_EVALUATING))
		lazy.stop()
		done := await(t, ctl, name, inPhase(proto.Phase_PHASE_DONE))
		if s := done.GetScores(); len(s) != 2 || s[1].GetSamples() != simTestRows {
			t.Errorf("scores %v", s)
		}
	})
}

func TestExpiredLeaderIsReplacedAndItsClientsFollow(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		first, _ := c.coordinator("c0")
		ctl := c.control("c0") // knows only the first
		name := submit(t, ctl, spec(t, "follow", func(j *job.Job) { j.Spec.Train.Epochs = 4 }))
		second, _ := c.coordinator("c1")
		c.servers("c0")
		c.worker("worker-0", simWorker{digest: "d"}, "c0")
		await(t, ctl, name, func(s *proto.JobStatus) bool { return s.GetStep() > 5 })
		if !first.Leading() || second.Leading() {
			t.Fatal("the first coordinator does not lead")
		}
		c.memory.Expire("fathom/leader")
		await(t, ctl, name, inPhase(proto.Phase_PHASE_DONE))
		if first.Leading() || !second.Leading() {
			t.Error("the second coordinator does not lead")
		}
		all, err := ctl.Nodes(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var listed []string
		for _, n := range all {
			listed = append(listed, fmt.Sprint(n.GetRole(), " ", n.GetNode(), " ", n.GetAlive()))
		}
		want := []string{"coordinator c1 true", "ps ps-0 true", "ps ps-1 true", "ps ps-2 true", "worker worker-0 true"}
		if d := cmp.Diff(want, listed); d != "" {
			t.Error(d)
		}
	})
}

func TestJobsWaitInOrderAndAreCancelled(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		c.coordinator("c0")
		ctl := c.control("c0")
		ctx := t.Context()
		first, second, third := submit(t, ctl, spec(t, "first", nil)), submit(t, ctl, spec(t, "second", nil)), submit(t, ctl, spec(t, "third", nil))
		s := await(t, ctl, first, inPhase(proto.Phase_PHASE_STARTING))
		if want := "waits for parameter servers: 0 of 3 have joined; waits for a worker to join"; s.GetDetail() != want {
			t.Errorf("detail %q, want %q", s.GetDetail(), want)
		}
		if s, _ = ctl.Status(ctx, second); s.GetDetail() != "waits for job first to end" {
			t.Errorf("detail %q of a waiting job", s.GetDetail())
		}
		if s, err := ctl.Cancel(ctx, second); err != nil || s.GetPhase() != proto.Phase_PHASE_CANCELLED {
			t.Fatalf("cancel of a waiting job: %v, %v", s, err)
		}
		c.servers("c0")
		c.worker("worker-0", simWorker{digest: "d", stepMs: 1000}, "c0")
		await(t, ctl, first, func(s *proto.JobStatus) bool { return s.GetStep() > 2 && s.GetEtaSeconds() > 0 })
		if s, err := ctl.Cancel(ctx, first); err != nil || s.GetPhase() != proto.Phase_PHASE_CANCELLED || s.GetStep() < 2 || s.GetEndedUnixNano() == 0 {
			t.Fatalf("cancel of an active job: %v, %v", s, err)
		}
		if s, err := ctl.Cancel(ctx, first); err != nil || s.GetPhase() != proto.Phase_PHASE_CANCELLED {
			t.Fatalf("cancel of a cancelled job: %v, %v", s, err)
		}
		await(t, ctl, third, inPhase(proto.Phase_PHASE_TRAINING))
		jobs, err := ctl.List(ctx)
		if err != nil {
			t.Fatal(err)
		}
		var listed []string
		for _, s := range jobs {
			listed = append(listed, s.GetJob()+" "+phaseName(s.GetPhase()))
		}
		if d := cmp.Diff([]string{"third training", "second cancelled", "first cancelled"}, listed); d != "" {
			t.Error(d)
		}
		if _, err := ctl.Cancel(ctx, "nobody"); status.Code(unwrapAll(err)) != codes.NotFound {
			t.Errorf("cancel of an unknown job: %v", err)
		}
	})
}

// unwrapAll returns the innermost error.
func unwrapAll(err error) error {
	for {
		u, ok := err.(interface{ Unwrap() error })
		if !ok {
			return err
		}
		err = u.Unwrap()
	}
}

func TestSubmitRefusesWhatItCannotRun(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		c.coordinator("c0")
		ctl := c.control("c0")
		if _, err := ctl.Status(t.Context(), ""); status.Code(unwrapAll(err)) != codes.NotFound {
			t.Errorf("status without any job: %v", err)
		}
		for name, f := range map[string]struct {
			spec []byte
			code codes.Code
		}{
			"no json":   {[]byte("metadata:"), codes.InvalidArgument},
			"no job":    {[]byte(`{"kind":"Pod"}`), codes.InvalidArgument},
			"too large": {[]byte(strings.Repeat(" ", specBytesMax+1)), codes.InvalidArgument},
			"valid":     {spec(t, "name", nil), codes.OK},
		} {
			if _, err := ctl.Submit(t.Context(), f.spec); status.Code(unwrapAll(err)) != f.code {
				t.Errorf("%s: %v, want %s", name, err, f.code)
			}
		}
		if _, err := ctl.Submit(t.Context(), spec(t, "name", nil)); status.Code(unwrapAll(err)) != codes.AlreadyExists {
			t.Errorf("a second active job of one name: %v", err)
		}
		for i := range pendingMax {
			submit(t, ctl, spec(t, fmt.Sprint("more-", i), nil))
		}
		if _, err := ctl.Submit(t.Context(), spec(t, "name-2", nil)); status.Code(unwrapAll(err)) != codes.ResourceExhausted {
			t.Errorf("one job too many: %v", err)
		}
	})
}

// A coordinator submits the job it was started with once; another job of the
// same name is not run in its place, and it says so.
func TestTheFirstJobIsSubmittedOnceAndAnotherOfItsNameNever(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		first := spec(t, "ads", nil)
		var said strings.Builder
		for i, submitted := range [][]byte{first, first, spec(t, "ads", func(j *job.Job) { j.Spec.Train.Epochs += 3 })} {
			said.Reset()
			node := fmt.Sprint("c", i)
			_, stop := c.coordinatorOf(Config{Node: node, Store: c.memory.Open(), Submit: submitted,
				Logger: slog.New(slog.NewTextHandler(&said, nil))})
			ctl := c.control(node)
			if _, err := ctl.List(t.Context()); err != nil { // it leads
				t.Fatal(err)
			}
			synctest.Wait()
			all, err := ctl.List(t.Context())
			if err != nil || len(all) != 1 {
				t.Fatalf("%d jobs, %v", len(all), err)
			}
			got, err := ctl.Status(t.Context(), "ads")
			if err != nil || string(got.GetSpec()) != string(first) {
				t.Errorf("started with %d: it is now %s, %v", i, got.GetSpec(), err)
			}
			stop()
			if warned := strings.Contains(said.String(), "give it another name"); warned != (i == 2) {
				t.Errorf("started with %d: warned %v: %s", i, warned, said.String())
			}
		}
	})
}

func TestWatchEndsWithItsContextAndItsFunction(t *testing.T) {
	inBubble(t, func(t *testing.T, c *cluster) {
		c.coordinator("c0")
		ctl := c.control("c0")
		name := submit(t, ctl, spec(t, "watched", nil))
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		messages := 0
		err := ctl.Watch(ctx, name, func(*proto.JobStatus) error { messages++; return nil })
		if status.Code(unwrapAll(err)) != codes.DeadlineExceeded {
			t.Errorf("watch: %v", err)
		}
		if messages > 3 {
			t.Errorf("%d messages about a job that does nothing", messages)
		}
		if err := ctl.Watch(t.Context(), name, func(*proto.JobStatus) error { return errFound }); err != errFound {
			t.Errorf("watch: %v, want the function's own error", err)
		}
	})
}
