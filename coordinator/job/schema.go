package job

import (
	"github.com/fathom-train/fathom/compute/model"
	"github.com/fathom-train/fathom/compute/optim"
	"github.com/fathom-train/fathom/compute/random"
)

// Column is one part of every row of a table: Width weights that share an
// initial distribution and an optimizer.
type Column struct {
	Name      string
	Width     int
	Init      random.Init
	Optimizer optim.Config
}

// Table is one embedding table of the model.
type Table struct {
	ID      uint16
	Name    string
	Columns []Column
}

// Dense is one tensor of the network. Running tensors are statistics, not
// weights: what is pushed is their new value, which the optimizer blends in.
type Dense struct {
	ID        uint16
	Name      string
	Size      int
	Init      random.Init
	Optimizer optim.Config
	Running   bool
}

// runningMomentum is the share of a batch's statistics in the running ones.
const runningMomentum = 0.1

// Tables returns the embedding tables the job trains: one, which all fields
// share.
func (j *Job) Tables() ([]Table, error) {
	m, err := j.model()
	if err != nil {
		return nil, err
	}
	rows := Table{ID: 0, Name: "rows"}
	for _, c := range m.Columns() {
		rows.Columns = append(rows.Columns, Column{
			Name: c.Name, Width: c.Width,
			Init: j.Spec.Train.EmbeddingInit, Optimizer: j.Spec.Train.Optimizer,
		})
	}
	return []Table{rows}, nil
}

// Dense returns the tensors of the network in the model's order.
func (j *Job) Dense() ([]Dense, error) {
	m, err := j.model()
	if err != nil {
		return nil, err
	}
	optimizer := j.Spec.Train.Optimizer
	if o := j.Spec.Train.DenseOptimizer; o != nil {
		optimizer = *o
	}
	var all []Dense
	for i, p := range m.Params() {
		d := Dense{ID: uint16(i), Name: p.Name, Size: p.Size(), Init: p.Init, Optimizer: optimizer}
		if p.Kind == model.Running {
			d.Running = true
			d.Optimizer = optim.Config{Name: "ema", Momentum: runningMomentum}.WithDefaults()
		}
		all = append(all, d)
	}
	return all, nil
}

func (j *Job) model() (model.Model, error) {
	return model.New(j.Spec.Model, len(j.Spec.Data.ResolvedFields()))
}
