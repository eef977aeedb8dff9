package job

import (
	"math"
	"regexp"

	"github.com/fathom-train/fathom/compute/embedding"
	"github.com/fathom-train/fathom/compute/model"
	"github.com/fathom-train/fathom/compute/optim"
	"github.com/fathom-train/fathom/compute/random"
	"github.com/fathom-train/fathom/compute/supernet"
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
	// Fields are the numbers of the fields whose values it holds.
	Fields []int
	// RowsMax bounds its rows; 0: a row for every different key.
	RowsMax int64
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
	// Layer is the number, from 1, of the layer that can be frozen; 0: none.
	Layer int
}

// runningMomentum is the share of a batch's statistics in the running ones.
const runningMomentum = 0.1

// Embedding returns which rows of which tables make up the fields' values.
func (j *Job) Embedding() (*embedding.Plan, error) {
	m, err := j.model()
	if err != nil {
		return nil, err
	}
	var fields []embedding.FieldName
	for _, f := range j.Spec.Data.ResolvedFields() {
		fields = append(fields, embedding.FieldName{Name: f.Name, Share: f.Share})
	}
	plan, err := embedding.New(j.Spec.Embedding, m.Columns(), fields)
	if s := j.Spec.Search; err == nil && s != nil {
		for i := range plan.Tables {
			plan.Tables[i].OOV = s.OOV
			if p := s.Pruning; p != nil && p.Per == PerFeature {
				plan.Tables[i].Extend(model.Column{Name: ThresholdColumn, Width: 1})
			}
			if len(s.Rows) > 0 {
				plan.Tables[i].Extend(model.Column{Name: UsesColumn, Width: supernet.Uses})
			}
		}
	}
	return plan, err
}

// UsesColumn is a column of a supernet that chooses rows: what it counts of the samples
// that have the value of a row (supernet.Uses), as far as the learning rates were not
// lowered. Workers push it as a gradient.
const UsesColumn = "uses"

// ThresholdColumn is a column of a supernet with a threshold for every row: what the
// row adds to the threshold of its table.
const ThresholdColumn = "threshold"

// Tables returns the embedding tables the job trains.
func (j *Job) Tables() ([]Table, error) {
	plan, err := j.Embedding()
	if err != nil {
		return nil, err
	}
	rows, _ := j.Spec.Train.Optimizers()
	var tables []Table
	for id, of := range plan.Tables {
		t := Table{ID: uint16(id), Name: of.Name, Fields: of.Fields, RowsMax: of.RowsMax}
		for _, c := range of.Columns {
			switch {
			case c.Width == 0:
				continue
			case c.Name == UsesColumn:
				t.Columns = append(t.Columns, Column{Name: c.Name, Width: c.Width, Optimizer: optim.Config{Name: optim.SGD, LearningRate: 1}})
				continue
			case c.Name == ThresholdColumn:
				t.Columns = append(t.Columns, Column{Name: c.Name, Width: c.Width, Optimizer: j.thresholdDescent()})
				continue
			}
			init := j.Spec.Train.EmbeddingInit
			if of.Factor && c.Name == model.Embedding {
				// So that a product of two has the scale.
				init.Scale = float32(math.Sqrt(math.Abs(float64(init.Scale))))
			}
			optimizer := rows
			if c.Name == model.Linear {
				optimizer = optimizer.Unclipped()
			}
			t.Columns = append(t.Columns, Column{Name: c.Name, Width: c.Width, Init: init, Optimizer: optimizer})
		}
		tables = append(tables, t)
	}
	return tables, nil
}

// Dense returns the tensors of the network in the model's order.
func (j *Job) Dense() ([]Dense, error) {
	m, err := j.model()
	if err != nil {
		return nil, err
	}
	_, optimizer := j.Spec.Train.Optimizers()
	var all []Dense
	for i, p := range m.Params() {
		d := Dense{ID: uint16(i), Name: p.Name, Size: p.Size(), Init: p.Init, Optimizer: optimizer.ForTensor(len(p.Shape))}
		if p.Kind == model.Running {
			d.Running = true
			d.Optimizer = optim.Config{Name: "ema", Momentum: runningMomentum}.WithDefaults()
		}
		all = append(all, d)
	}
	if j.Spec.Train.Freeze != nil {
		numberLayers(all)
	}
	all = append(all, j.selectorTensors(len(all))...)
	if j.Spec.Search != nil && j.Spec.Search.Pruning != nil {
		tables, err := j.Tables()
		if err != nil {
			return nil, err
		}
		all = append(all, j.thresholds(len(all), len(tables)))
	}
	if j.Spec.Search != nil && j.Spec.Search.HeldGates() {
		all = append(all, j.gates(len(all), len(j.Spec.Data.ResolvedFields())))
	}
	return all, nil
}

// numbered is a tensor of one of several layers, like mlp.2.weight.
var numbered = regexp.MustCompile(`^(.*\.\d+)\.`)

// numberLayers numbers the layers that can be frozen: all numbered ones but the
// last, which makes the logit.
func numberLayers(all []Dense) (layers int) {
	last := ""
	for i := range all {
		found := numbered.FindStringSubmatch(all[i].Name)
		if found == nil || all[i].Running {
			continue
		}
		if found[1] != last {
			layers, last = layers+1, found[1]
		}
		all[i].Layer = layers
	}
	for i := range all {
		if all[i].Layer == layers {
			all[i].Layer = 0
		}
	}
	return max(0, layers-1)
}

// FreezableLayers returns how many layers of the network can be frozen.
func (j *Job) FreezableLayers() (int, error) {
	dense, err := j.Dense()
	if err != nil {
		return 0, err
	}
	return numberLayers(dense), nil
}

// Reduces reports whether a step needs sums over all shards before it is applied.
func (j *Job) Reduces() bool {
	o := j.Spec.Train.Optimizer
	return j.Spec.Train.ClipNorm > 0 || j.Spec.Train.NoiseScale > 0 || o.Layerwise() && o.Granularity != optim.Row
}

func (j *Job) model() (model.Model, error) {
	return model.New(j.Spec.Model, len(j.Spec.Data.ResolvedFields()))
}
