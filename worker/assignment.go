package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	pb "google.golang.org/protobuf/proto"

	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/fathom-train/fathom/proto"
	"github.com/fathom-train/fathom/proto/identity"
	"github.com/fathom-train/fathom/ps/client"
	"github.com/fathom-train/fathom/shard"
	"github.com/fathom-train/fathom/worker/dataset"
	"github.com/fathom-train/fathom/worker/trainer"
)

// assignment is one task under way, with what it has open.
type assignment struct {
	agent *Agent
	// order is never changed once the task runs.
	order  *proto.WorkerOrder
	cancel context.CancelFunc
	// done is closed when the task has ended; data and ps are the task's until then.
	done chan struct{}
	data *openData
	ps   *client.Client

	// mu guards what follows, of an evaluation.
	mu sync.Mutex
	// again is set when it is ordered anew, ended when it has ended.
	again, ended bool
}

// openData is the data of one run, shown in the metrics while it is open.
type openData struct {
	*dataset.Set
	unregister func()
}

func (a *Agent) open(ctx context.Context, d job.Data) (*openData, error) {
	set, err := dataset.Open(ctx, d, a.log)
	if err != nil {
		return nil, err
	}
	o := &openData{Set: set, unregister: func() {}}
	if a.cfg.Registerer != nil {
		if o.unregister, err = set.Register(a.cfg.Registerer); err != nil {
			return nil, errors.Join(err, set.Close())
		}
	}
	a.log.Info("data opened", "digest", set.Digest())
	return o, nil
}

func (o *openData) close() error {
	o.unregister()
	return o.Close()
}

// start begins the ordered task; data may be the already open data of the run.
func (a *Agent) start(ctx context.Context, order *proto.WorkerOrder, data *openData) *assignment {
	ctx, cancel := context.WithCancel(ctx)
	s := &assignment{agent: a, order: order, cancel: cancel, done: make(chan struct{}), data: data,
		ps: client.Dial(order.GetJob(), order.GetRun(), a.cfg.dialOptions(identity.PS)...)}
	s.ps.SetRoutes(routes(order))
	go func() {
		defer close(s.done)
		if err := s.run(ctx); err != nil && ctx.Err() == nil {
			a.fail(err)
		}
	}()
	return s
}

// sameJob tells whether the order belongs to the same submission of a job, so
// that the open data can be used again. The run number changes when the job's
// tables are formed anew.
func (s *assignment) sameJob(o *proto.WorkerOrder) bool { return s.order.GetJob() == o.GetJob() }

// serves tells whether the running task is what the order asks for; only the
// routes may differ.
func (s *assignment) serves(o *proto.WorkerOrder) bool {
	was, is := pb.CloneOf(s.order), pb.CloneOf(o)
	for _, w := range []*proto.WorkerOrder{was, is} {
		w.Routes, w.MapVersion = nil, 0
	}
	return pb.Equal(was, is)
}

// adopt takes over the order's routes. An evaluation that is ordered anew is to
// be delivered again: the order comes from a leader that does not have its
// scores, because the one that took them lost its office. adopt returns false
// when it has ended already.
func (s *assignment) adopt(o *proto.WorkerOrder) bool {
	s.ps.SetRoutes(routes(o))
	switch o.GetTask() {
	case proto.Task_TASK_EVALUATE, proto.Task_TASK_SCORE, proto.Task_TASK_SURVEY:
	default:
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.again = true
	return !s.ended
}

// repeats tells, at the end of an evaluation, whether it was ordered anew.
func (s *assignment) repeats() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	again := s.again
	s.again, s.ended = false, !again
	return again
}

// release hands the open data to the next assignment of the run. Only after done.
func (s *assignment) release() *openData {
	d := s.data
	s.data = nil
	return d
}

// stop ends the task and closes what it has open. It may be called twice, and on nil.
func (s *assignment) stop() {
	if s == nil {
		return
	}
	s.cancel()
	<-s.done
	if err := s.ps.Close(); err != nil {
		s.agent.log.Warn("close connections", "error", err)
	}
	if s.data != nil {
		if err := s.data.close(); err != nil {
			s.agent.log.Warn("close data", "error", err)
		}
		s.data = nil
	}
}

func (s *assignment) run(ctx context.Context) error {
	if s.order.GetTask() == proto.Task_TASK_IDLE {
		return nil
	}
	spec, err := job.FromJSON(s.order.GetSpec())
	if err != nil {
		return fmt.Errorf("read the ordered job: %w", err)
	}
	if s.data == nil {
		if s.data, err = s.agent.open(ctx, spec.Spec.Data); err != nil {
			return err
		}
	}
	if s.order.GetTask() == proto.Task_TASK_INSPECT {
		s.agent.reportData(describe(s.data.Set))
		return nil
	}
	if want, got := s.order.GetDataDigest(), s.data.Digest(); want != "" && want != got {
		return fmt.Errorf("the data here differ from what the job began with (digest %.12s, want %.12s): every worker must see the same files", got, want)
	}
	t, err := trainer.New(trainer.Config{Job: spec, Run: s.order.GetRun(), Data: s.data.Set, Client: s.ps, Base: s.order.GetStart(), Start: s.order.GetStart(), Factor: s.order.GetLearningRateFactor(), Metrics: s.agent.metrics})
	if err != nil {
		return err
	}
	switch s.order.GetTask() {
	case proto.Task_TASK_EVALUATE, proto.Task_TASK_SCORE, proto.Task_TASK_SURVEY:
		work := s.evaluate
		if s.order.GetTask() == proto.Task_TASK_SURVEY {
			work = s.survey
		}
		for {
			if err := work(ctx, t); err != nil || !s.repeats() {
				return err
			}
		}
	}
	lanes := make([]int, len(s.order.GetLanes()))
	for i, l := range s.order.GetLanes() {
		lanes[i] = int(l)
	}
	s.agent.log.Debug("train", "lanes", lanes, "last_step", s.order.GetLastStep())
	if err := t.Train(ctx, lanes, s.order.GetLastStep(), s.agent.progress); err != nil {
		return err
	}
	s.agent.session.Poke()
	return nil
}

// evaluate scores the ordered blocks and delivers each as soon as it is done.
func (s *assignment) evaluate(ctx context.Context, t *trainer.Trainer) error {
	split, ok := s.data.Split(s.order.GetSplit())
	if !ok {
		return fmt.Errorf("the data have no %s split", s.order.GetSplit())
	}
	blocks := slices.Sorted(slices.Values(s.order.GetBlocks()))
	for _, b := range blocks {
		lo := int64(b) * job.EvaluationBlockRows
		hi := min(lo+job.EvaluationBlockRows, split.Rows())
		if lo >= hi {
			return fmt.Errorf("block %d lies outside the %s split of %d rows", b, s.order.GetSplit(), split.Rows())
		}
		report, err := s.score(ctx, t, lo, hi)
		if errors.Is(err, client.ErrVersionGone) {
			return nil // the evaluation is over, another order is on its way
		}
		if err != nil {
			return err
		}
		if err := s.deliver(ctx, b, report); err != nil {
			return err
		}
	}
	return nil
}

// describe reports what opening the data found.
func describe(d *dataset.Set) *proto.DataReport {
	r := &proto.DataReport{Digest: d.Digest()}
	for _, name := range []string{"train", "valid", "test"} {
		split, ok := d.Split(name)
		if !ok {
			continue
		}
		info := &proto.SplitInfo{Split: name, Rows: uint64(split.Rows()), Positives: -1}
		if n, ok := split.Positives(); ok && split.Rows() > 0 {
			info.Positives = float64(n) / float64(split.Rows())
		}
		r.Splits = append(r.Splits, info)
	}
	if auc, ok := d.TeacherAUC(); ok {
		r.TeacherAuc = auc
	}
	return r
}

// routes converts the order's routes to the client's.
func routes(o *proto.WorkerOrder) []client.Route {
	rs := make([]client.Route, 0, len(o.GetRoutes()))
	for _, r := range o.GetRoutes() {
		route := client.Route{Shard: shard.ID(r.GetShard()), Leader: r.GetLeader(),
			Range: shard.Range{Lo: shard.Key(r.GetKeyLo()), Hi: shard.Key(r.GetKeyHi())}}
		for _, m := range r.GetMembers() {
			route.Members = append(route.Members, client.Member{Node: m.GetNode(), Address: m.GetAddress()})
		}
		for _, d := range r.GetDense() {
			route.Dense = append(route.Dense, uint16(d))
		}
		rs = append(rs, route)
	}
	return rs
}
