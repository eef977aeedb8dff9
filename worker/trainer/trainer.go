// Package trainer computes the steps of a job: it reads a lane's samples,
// pulls their rows, runs the model forward and backward, and pushes the
// gradients. What a lane's push contains is a pure function of the job, the
// data, the step and the lane; who computes it, and how often, does not matter.
package trainer

import (
	"context"
	"fmt"
	"sync"

	"github.com/fathom-train/fathom/compute/embedding"
	"github.com/fathom-train/fathom/compute/model"
	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/fathom-train/fathom/ps/client"
	"github.com/fathom-train/fathom/worker/dataset"
)

// Config is what a Trainer needs for one run of a job.
type Config struct {
	Job    *job.Job
	Run    uint64 // names the run in every push
	Data   *dataset.Set
	Client *client.Client
	// Weights is where scoring reads the model; nil: from Client. Without a Client
	// a Trainer only scores, and needs no training data.
	Weights Weights
	// Base is the version that the tables were formed at; steps follow it.
	Base uint64
	// Start is the version that the first epoch begins with: steps are counted
	// from it.
	Start uint64
	// Factor scales the learning rates of the steps that are trained.
	Factor float32
	// Metrics may be nil.
	Metrics *Metrics
}

// Weights is a model that can be read.
type Weights interface {
	// Pull fills the values of rows and of the dense tensors that are not nil, by id,
	// as they are at a version.
	Pull(ctx context.Context, version uint64, rows []client.Rows, dense [][]float32) error
}

// Trainer trains and evaluates one job. Its methods may not run concurrently:
// they share the model and its buffers.
type Trainer struct {
	cfg     Config
	train   *dataset.Split
	net     model.Model
	columns []model.Column
	// plan says which rows of which tables the samples read; plain, that it is one
	// row of one table per occurrence, as wide as the columns side by side.
	plan  *embedding.Plan
	plain bool
	super *super // nil unless a supernet is trained
	// selector hides dimensions from single samples, nil: all see all.
	selector *selector
	// separate is the model if a lane's samples go through it in pieces, else nil.
	separate model.Separate
	// sizes and names are those of the dense tensors, by id.
	sizes   []int
	names   []string
	input   [][]float32 // per column [n, fields*width]
	dInput  [][]float32
	dLogits []float32
	probs   []float32
	weights []float32 // of the samples, where they are not the data's own

	// spareMu guards spare, the dense buffer sets not in use.
	spareMu sync.Mutex
	spare   [][][]float32
}

// New prepares the model and its buffers.
func New(cfg Config) (*Trainer, error) {
	train, ok := cfg.Data.Split("train")
	if !ok && cfg.Client != nil {
		return nil, fmt.Errorf("the data have no train split")
	}
	if cfg.Weights == nil {
		cfg.Weights = cfg.Client
	}
	net, err := model.New(cfg.Job.Spec.Model, cfg.Data.Fields())
	if err != nil {
		return nil, fmt.Errorf("build the model: %w", err)
	}
	if err := model.SetCompute(net, cfg.Job.Spec.Model.Name, cfg.Job.Spec.Train.Compute); err != nil {
		return nil, fmt.Errorf("build the model: %w", err)
	}
	plan, err := cfg.Job.Embedding()
	if err != nil {
		return nil, fmt.Errorf("plan the embedding: %w", err)
	}
	t := &Trainer{cfg: cfg, train: train, net: net, columns: net.Columns(), plan: plan, plain: plan.Plain()}
	for _, p := range net.Params() {
		t.sizes, t.names = append(t.sizes, p.Size()), append(t.names, p.Name)
	}
	t.selector = newSelector(cfg.Job, t)
	t.super = newSuper(cfg.Job, t)
	if t.plain && t.super == nil && t.selector == nil {
		t.separate, _ = net.(model.Separate)
	}
	t.input = make([][]float32, len(t.columns))
	t.dInput = make([][]float32, len(t.columns))
	return t, nil
}

// takeDense returns a buffer set that nobody uses; giveDense takes it back.
func (t *Trainer) takeDense() [][]float32 {
	t.spareMu.Lock()
	defer t.spareMu.Unlock()
	if n := len(t.spare); n > 0 {
		d := t.spare[n-1]
		t.spare = t.spare[:n-1]
		return d
	}
	return t.newDense()
}

func (t *Trainer) giveDense(d [][]float32) {
	t.spareMu.Lock()
	defer t.spareMu.Unlock()
	t.spare = append(t.spare, d)
}

// Progress is told of every push that was acknowledged: the sum of the lane's
// sample losses and their number. It may be called from several goroutines.
type Progress func(step uint64, lane int, lossSum float64, samples int)

// newDense allocates one buffer per dense tensor.
func (t *Trainer) newDense() [][]float32 {
	d := make([][]float32, len(t.sizes))
	for i, n := range t.sizes {
		d[i] = make([]float32, n)
	}
	return d
}

// Train computes the given lanes from the first step that not every shard has
// yet, up to lastStep, and returns when their pushes are acknowledged or ctx
// ends. Steps that others complete meanwhile are skipped.
func (t *Trainer) Train(ctx context.Context, lanes []int, lastStep uint64, progress Progress) error {
	for {
		version, err := t.cfg.Client.Version(ctx)
		if err != nil {
			return err
		}
		if version >= lastStep || len(lanes) == 0 {
			return nil
		}
		again, err := t.runPipeline(ctx, lanes, version+1, lastStep, progress)
		if err != nil || !again {
			return err
		}
	}
}
