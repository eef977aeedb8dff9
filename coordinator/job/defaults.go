package job

import (
	"strconv"

	"github.com/fathom-train/fathom/compute/embedding"
	"github.com/fathom-train/fathom/compute/model"
	"github.com/fathom-train/fathom/compute/random"
)

// WithDefaults returns the job with every value filled in that was left out.
// It is the one place where defaults are decided. It is idempotent, and it
// shares no memory with j that it changes.
func (j Job) WithDefaults() Job {
	setDefault(&j.APIVersion, APIVersion)
	setDefault(&j.Kind, Kind)
	j.Spec.Data = j.Spec.Data.withDefaults()
	setDefault(&j.Spec.Model.Name, "deepfm")
	j.Spec.Model = j.Spec.Model.WithDefaults()
	if j.Spec.Search != nil {
		setDefault(&j.Spec.Embedding.Tables, embedding.PerField)
	}
	j.Spec.Embedding = j.Spec.Embedding.WithDefaults()
	j.Spec.Train = j.Spec.Train.withDefaults()
	if j.Spec.Search != nil {
		s := j.Spec.Search.withDefaults(j.Spec.Train)
		j.Spec.Search = &s
	}
	j.Spec.Cluster = j.Spec.Cluster.withDefaults()
	setDefault(&j.Spec.Checkpoint.Keep, 3)
	return j
}

func setDefault[T comparable](v *T, value T) {
	var zero T
	if *v == zero {
		*v = value
	}
}

func (d Data) withDefaults() Data {
	if d.Synthetic != nil {
		s := d.Synthetic.withDefaults()
		d.Synthetic = &s
	}
	if d.Format == FormatCSV || d.Format == FormatTSV {
		if d.Header == nil {
			yes := true
			d.Header = &yes
		}
		if d.Format == FormatCSV {
			setDefault(&d.Delimiter, ",")
		} else {
			setDefault(&d.Delimiter, "\t")
		}
	}
	if d.hasColumns() {
		setDefault(&d.Label, "label")
	}
	setDefault(&d.NegativeRate, 1)
	setDefault(&d.ShuffleWindowRows, 1<<20)
	setDefault(&d.CacheBytes, 1<<30)
	d.Fields = d.ResolvedFields()
	return d
}

// The accepted values of Data.Format.
const (
	FormatCSV       = "csv"
	FormatTSV       = "tsv"
	FormatLibSVM    = "libsvm"
	FormatLibFFM    = "libffm"
	FormatParquet   = "parquet"
	FormatArrow     = "arrow"
	FormatSynthetic = "synthetic"
)

// hasColumns tells whether the format's files have named columns.
func (d Data) hasColumns() bool {
	switch d.Format {
	case FormatCSV, FormatTSV, FormatParquet, FormatArrow:
		return true
	}
	return false
}

// ResolvedFields returns the fields of the model with their defaults. Synthetic
// data that lists no fields has all it generates: i1, i2, ... numeric and
// bucketed, then c1, c2, ... categorical.
func (d Data) ResolvedFields() []Field {
	fields := d.Fields
	if len(fields) == 0 && d.Format == FormatSynthetic && d.Synthetic != nil {
		fields = d.Synthetic.withDefaults().fields()
	}
	resolved := make([]Field, 0, len(fields))
	for _, f := range fields {
		resolved = append(resolved, f.withDefaults())
	}
	return resolved
}

func (f Field) withDefaults() Field {
	setDefault(&f.Column, f.Name)
	setDefault(&f.Type, "categorical")
	switch f.Type {
	case "numeric":
		setDefault(&f.Transform, "none")
	case "categorical":
		setDefault(&f.Pooling, "mean")
		setDefault(&f.MaxValues, 64)
	}
	return f
}

// generatedFieldsMax bounds the generated fields of each kind, also while the
// job is not validated yet.
const generatedFieldsMax = 1000

func (s Synthetic) fields() []Field {
	var fields []Field
	for i := range min(s.Numeric, generatedFieldsMax) {
		fields = append(fields, Field{Name: "i" + strconv.Itoa(i+1), Type: "numeric", Transform: "bucket"})
	}
	for i := range min(s.Categorical, generatedFieldsMax) {
		fields = append(fields, Field{Name: "c" + strconv.Itoa(i+1)})
	}
	return fields
}

func (s Synthetic) withDefaults() Synthetic {
	if s.Numeric == 0 && s.Categorical == 0 {
		s.Numeric, s.Categorical = 13, 26
	}
	setDefault(&s.Vocabulary, 100_000)
	setDefault(&s.Zipf, 1.1)
	setDefault(&s.TeacherDim, 8)
	return s
}

// The modes of training.
const (
	ModeSync  = "sync"
	ModeAsync = "async"
)

const (
	// defaultPipelineDepth overlaps computing a step with pushing and applying the
	// one before it.
	defaultPipelineDepth = 1
	// defaultStaleness lets a worker that is held up for a moment catch up.
	defaultStaleness = 4
)

func (t Train) withDefaults() Train {
	setDefault(&t.Epochs, 1)
	setDefault(&t.BatchSize, 4096)
	setDefault(&t.Lanes, 4)
	setDefault(&t.Mode, ModeSync)
	switch depth, staleness := defaultPipelineDepth, defaultStaleness; {
	case t.Mode == ModeSync && t.PipelineDepth == nil:
		t.PipelineDepth = &depth
	case t.Mode == ModeAsync && t.Staleness == nil:
		t.Staleness = &staleness
	}
	setDefault(&t.Compute, model.F32)
	setDefault(&t.PositiveWeight, 1)
	setDefault(&t.Optimizer.Name, "lamb")
	t.Optimizer = t.Optimizer.WithDefaults()
	dense := t.Optimizer.Dense()
	if t.DenseOptimizer != nil {
		dense = *t.DenseOptimizer
		setDefault(&dense.Name, t.Optimizer.Dense().Name)
		dense = dense.WithDefaults()
	}
	t.DenseOptimizer = &dense
	if t.Freeze != nil {
		f := *t.Freeze
		setDefault(&f.Active, 1)
		setDefault(&f.Every, 100)
		t.Freeze = &f
	}
	setDefault(&t.ScaleRule, ScaleNone)
	if t.ScaleRule != ScaleNone {
		setDefault(&t.BaseBatchSize, 1024)
	}
	setDefault(&t.Monitor.Metric, MetricAUC)
	setDefault(&t.Monitor.PerEpoch, 1)
	setDefault(&t.Monitor.MinDelta, 1e-6)
	if t.Plateau != nil {
		p := *t.Plateau
		setDefault(&p.Factor, 0.1)
		setDefault(&p.Patience, 1)
		setDefault(&p.Least, 0.001)
		t.Plateau = &p
	}
	if t.EarlyStopping != nil {
		e := *t.EarlyStopping
		setDefault(&e.Patience, 2)
		t.EarlyStopping = &e
	}
	if t.EmbeddingInit == (random.Init{}) {
		t.EmbeddingInit = random.Init{Kind: "normal", Scale: 0.01}
	}
	return t
}

func (c Cluster) withDefaults() Cluster {
	setDefault(&c.Workers, 2)
	setDefault(&c.PS, 3)
	if c.PS < 3 {
		setDefault(&c.Replicas, 1)
	}
	setDefault(&c.Replicas, 3)
	setDefault(&c.Shards, 4)
	return c
}
