// Package worker is the process that computes: it joins the coordinator, does
// the task it is ordered to do (open the data, train lanes, evaluate blocks),
// and reports. It holds no state that would be missed when it dies.
package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"github.com/fathom-train/fathom/compute/gemm"
	"github.com/fathom-train/fathom/coordinator/client"
	"github.com/fathom-train/fathom/proto"
	"github.com/fathom-train/fathom/proto/identity"
	"github.com/fathom-train/fathom/worker/dataset"
	"github.com/fathom-train/fathom/worker/trainer"
)

// Config configures an Agent.
type Config struct {
	Node         string   // stable name, unique in the cluster
	Coordinators []string // addresses to join
	Threads      int      // goroutines of one matrix product; 0 means 1
	// Until is the name of the job whose end is the agent's; empty: it works on.
	Until          string
	MetricsAddress string // told to the coordinator
	// Identity secures all connections; nil: plain text, for tests and loopback.
	Identity    *identity.Source
	DialOptions []grpc.DialOption // added to those of every connection
	Logger      *slog.Logger
	Registerer  prometheus.Registerer
}

// dialOptions are those of the connections to processes of the role.
func (c Config) dialOptions(role identity.Role) []grpc.DialOption {
	secure := grpc.WithTransportCredentials(c.Identity.Dialer(role))
	return append([]grpc.DialOption{secure}, c.DialOptions...)
}

// Agent is one worker process.
type Agent struct {
	cfg         Config
	log         *slog.Logger
	session     *client.Session
	metrics     *trainer.Metrics
	incarnation uint64
	orders      chan *proto.NodeOrder // newest order only

	// mu guards the report.
	mu     sync.Mutex
	report proto.WorkerReport
	lanes  map[int]*proto.LaneReport
	obeyed uint64
}

// New prepares an agent; Run makes it join.
func New(cfg Config) (*Agent, error) {
	if cfg.Node == "" || len(cfg.Coordinators) == 0 {
		return nil, errors.New("a worker needs a name and the address of a coordinator")
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	gemm.SetThreads(max(1, cfg.Threads))
	a := &Agent{
		cfg:         cfg,
		log:         cfg.Logger,
		session:     client.NewSession(cfg.Coordinators, cfg.Logger, cfg.dialOptions(identity.Coordinator)...),
		incarnation: uint64(time.Now().UnixNano()),
		orders:      make(chan *proto.NodeOrder, 1),
		lanes:       map[int]*proto.LaneReport{},
	}
	if cfg.Registerer != nil {
		a.metrics = trainer.NewMetrics(cfg.Registerer)
	}
	return a, nil
}

// ErrJobFailed is what Run returns when the job of Config.Until has failed.
var ErrJobFailed = errors.New("the job failed")

// Run joins the cluster and works until ctx ends, or until the job of
// Config.Until has ended well or was cancelled; then it returns nil.
func (a *Agent) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- a.session.Run(ctx, a.nodeReport, a.receive) }()
	outcome := a.work(ctx)
	cancel()
	if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("session with the coordinator: %w", err)
	}
	return outcome
}

// receive keeps the newest order for the working loop.
func (a *Agent) receive(order *proto.NodeOrder) {
	for {
		select {
		case a.orders <- order:
			return
		default:
		}
		select {
		case <-a.orders:
		default:
		}
	}
}

// work obeys one order after the other; a new order that asks for something
// else ends the task before.
func (a *Agent) work(ctx context.Context) error {
	var current *assignment
	defer func() { current.stop() }()
	for {
		select {
		case <-ctx.Done():
			return nil
		case order := <-a.orders:
			if ended := order.GetWorker().GetEnded(); ended != nil && ended.GetJob() == a.cfg.Until {
				if ended.GetPhase() == proto.Phase_PHASE_FAILED {
					return fmt.Errorf("%w: %s", ErrJobFailed, ended.GetError())
				}
				return nil
			}
			current = a.obey(ctx, current, order)
		}
	}
}

// obey returns the assignment that serves the order: the current one when it
// still does, a new one otherwise.
func (a *Agent) obey(ctx context.Context, current *assignment, order *proto.NodeOrder) *assignment {
	w := order.GetWorker()
	if current != nil && w != nil && current.serves(w) && current.adopt(w) {
		// It goes on.
	} else {
		var keep *openData
		if current != nil {
			current.cancel()
			<-current.done
			if w != nil && current.sameJob(w) {
				keep = current.release()
			}
			current.stop()
		}
		current = nil
		if w != nil && w.GetJob() != "" {
			a.beginReport(w)
			current = a.start(ctx, w, keep)
		}
	}
	a.mu.Lock()
	a.obeyed = order.GetRevision()
	a.mu.Unlock()
	return current
}

// beginReport forgets what was reported for another job.
func (a *Agent) beginReport(w *proto.WorkerOrder) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.report.GetJob() != w.GetJob() {
		a.report = proto.WorkerReport{Job: w.GetJob()}
		clear(a.lanes)
	}
}

// nodeReport is the actual state, as the session asks for it.
func (a *Agent) nodeReport() *proto.NodeReport {
	a.mu.Lock()
	defer a.mu.Unlock()
	w := &proto.WorkerReport{Job: a.report.Job, Data: a.report.Data, Failure: a.report.Failure}
	for _, l := range a.lanes {
		w.Lanes = append(w.Lanes, &proto.LaneReport{Lane: l.Lane, Step: l.Step, LossSum: l.LossSum, Samples: l.Samples})
	}
	return &proto.NodeReport{
		Node: a.cfg.Node, Role: "worker", MetricsAddress: a.cfg.MetricsAddress,
		Incarnation: a.incarnation, CpuSeconds: cpuSeconds(), OrderRevision: a.obeyed, Worker: w,
	}
}

// progress records an acknowledged push. Those of several steps are under way
// at a time, and may be acknowledged in another order.
func (a *Agent) progress(step uint64, lane int, lossSum float64, samples int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	l := a.lanes[lane]
	if l == nil {
		l = &proto.LaneReport{Lane: uint32(lane)}
		a.lanes[lane] = l
	}
	l.Step, l.LossSum, l.Samples = max(l.Step, step), l.LossSum+lossSum, l.Samples+uint64(samples)
}

// fail reports an error that ends the job.
func (a *Agent) fail(err error) {
	var input *dataset.InputError
	a.log.Error("task failed", "error", err)
	a.mu.Lock()
	a.report.Failure = &proto.Failure{Message: err.Error(), Input: errors.As(err, &input)}
	a.mu.Unlock()
	a.session.Poke()
}

func (a *Agent) reportData(d *proto.DataReport) {
	a.mu.Lock()
	a.report.Data = d
	a.mu.Unlock()
	a.session.Poke()
}
