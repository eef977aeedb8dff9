// Package job owns the training job: its specification (the YAML a user
// writes), the defaults, the validation, and what can be computed from the
// specification alone. It is pure: no files, network, clock or randomness.
package job

import (
	"github.com/fathom-train/fathom/compute/embedding"
	"github.com/fathom-train/fathom/compute/model"
	"github.com/fathom-train/fathom/compute/optim"
	"github.com/fathom-train/fathom/compute/random"
)

// APIVersion and Kind are the only accepted header of a job file.
const (
	APIVersion = "fathom.dev/v1alpha1"
	Kind       = "TrainingJob"
)

// Job is one training job, in the shape of a Kubernetes object.
type Job struct {
	APIVersion string   `json:"apiVersion"`
	Kind       string   `json:"kind"`
	Metadata   Metadata `json:"metadata"`
	Spec       Spec     `json:"spec"`
}

// Metadata names the job.
type Metadata struct {
	// Name is a DNS label: lower-case letters, digits and '-', at most 63.
	Name string `json:"name"`
}

// Spec says what to train, on what, and how. Data, Model, Embedding, Train
// and Search determine the trained model to the last bit; Cluster and Checkpoint
// never do.
type Spec struct {
	Data  Data       `json:"data"`
	Model model.Spec `json:"model"`
	// Embedding says which rows of which tables make up a field's values.
	Embedding embedding.Spec `json:"embedding"`
	Train     Train          `json:"train"`
	// Search makes the job a dimension search; nil: the model is trained as it is.
	Search  *Search `json:"search,omitempty"`
	Cluster Cluster `json:"cluster"`
	// Checkpoint says where checkpoints go and when they are made.
	Checkpoint Checkpoint `json:"checkpoint,omitzero"`
}

// Data says where the samples are and how to read them.
type Data struct {
	// Root is the directory relative file names are relative to; default: the
	// job file's own directory (filled in by the command line).
	Root string `json:"root,omitempty"`
	// Format is csv, tsv, libsvm, libffm, parquet, arrow or synthetic.
	Format string `json:"format"`
	// Train, Valid and Test list files or globs; a glob's matches are sorted by
	// name. Valid and Test may be empty.
	Train []string `json:"train,omitempty"`
	Valid []string `json:"valid,omitempty"`
	Test  []string `json:"test,omitempty"`
	// Header tells whether csv and tsv files start with a line of column names
	// (default true). Without one, columns are named "0", "1", ...
	Header *bool `json:"header,omitempty"`
	// Delimiter of csv files (default ","); tsv has a tab.
	Delimiter string `json:"delimiter,omitempty"`
	// Label names the column of the 0/1 label (default "label"). libsvm and
	// libffm have it in front of the line.
	Label string `json:"label,omitempty"`
	// Weight names the column of the samples' weights: what their losses are
	// multiplied with in training.
	Weight string `json:"weight,omitempty"`
	// Group names the column of the groups of the metric gauc, such as the user.
	Group string `json:"group,omitempty"`
	// NegativeRate is the share of the negatives of the training split that is
	// used (default 1); scores are corrected for it.
	NegativeRate float64 `json:"negative_rate"`
	// Fields lists the fields of the model in order. For libffm and libsvm a
	// field's column is the number of the libffm field (libsvm: see docs).
	Fields []Field `json:"fields,omitempty"`
	// Synthetic configures format synthetic.
	Synthetic *Synthetic `json:"synthetic,omitempty"`
	// MaxBadRecords is how many malformed records may be skipped (default 0).
	MaxBadRecords int64 `json:"max_bad_records"`
	// ShuffleWindowRows is how many rows are permuted together (default 1048576).
	ShuffleWindowRows int64 `json:"shuffle_window_rows"`
	// CacheBytes bounds the decoded records a worker keeps in memory (default 1 GiB).
	CacheBytes int64 `json:"cache_bytes"`
}

// Field turns one column into keys of the embedding table.
type Field struct {
	Name string `json:"name"`
	// Column is the column read (default: the field's name).
	Column string `json:"column,omitempty"`
	// Type is categorical (default) or numeric.
	Type string `json:"type,omitempty"`
	// Transform of a numeric field: none (default; the value scales the field's
	// one row), log (the same with sign(x)*ln(1+|x|)), bucket (categorical
	// floor(ln(x)^2) for x > 2, floor(x) otherwise, as for Criteo).
	Transform string `json:"transform,omitempty"`
	// Separator splits a categorical column into several values.
	Separator string `json:"separator,omitempty"`
	// Pooling of several values: mean (default) or sum.
	Pooling string `json:"pooling,omitempty"`
	// MaxValues bounds the values of one sample; more are cut off (default 64 of
	// a categorical field, a numeric one has one).
	MaxValues int `json:"max_values,omitempty"`
	// Share makes this field use the rows of the named field.
	Share string `json:"share,omitempty"`
}

// Synthetic describes generated data: Criteo-shaped fields with Zipf ids and
// labels drawn from a hidden teacher whose fields have planted embedding widths.
type Synthetic struct {
	TrainRows   int64   `json:"train_rows"`
	ValidRows   int64   `json:"valid_rows"`
	TestRows    int64   `json:"test_rows"`
	Numeric     int     `json:"numeric"`     // default 13, when categorical is 0 too
	Categorical int     `json:"categorical"` // default 26, when numeric is 0 too
	Vocabulary  int64   `json:"vocabulary"`  // ids of the largest field, default 100000
	Zipf        float64 `json:"zipf"`        // exponent of the id frequencies, default 1.1
	TeacherDim  int     `json:"teacher_dim"` // largest planted width, default 8
	Seed        uint64  `json:"seed"`
}

// Train says how to train.
type Train struct {
	Epochs    int `json:"epochs"`     // default 1
	BatchSize int `json:"batch_size"` // samples of one global step, default 4096
	// Lanes is into how many parts every global batch is cut (default 4). It is
	// part of the result: it fixes the order of every sum.
	Lanes int    `json:"lanes"`
	Seed  uint64 `json:"seed"`
	// Seeds trains the job once with each of them instead of Seed, one after the
	// other.
	Seeds []uint64 `json:"seeds,omitempty"`
	// Monitor says what a validation is judged by.
	Monitor Monitor `json:"monitor"`
	// Plateau lowers the learning rates when validations no longer improve.
	Plateau *Plateau `json:"plateau,omitempty"`
	// EarlyStopping ends the training when they no longer improve.
	EarlyStopping *EarlyStopping `json:"early_stopping,omitempty"`
	// RestoreBest scores the test split, and ends, with the model of the best
	// validation instead of the last one.
	RestoreBest bool `json:"restore_best,omitempty"`
	// Mode is sync, the bit-identical mode, or async.
	Mode string `json:"mode"`
	// PipelineDepth k makes step s start from version s-1-k, so that a step is
	// computed while those in front of it are pushed and applied.
	PipelineDepth *int `json:"pipeline_depth,omitempty"`
	// Staleness is, in mode async, by how many steps a lane may be ahead of the
	// slowest one.
	Staleness *int `json:"staleness,omitempty"`
	// Compute is f32 (default) or bf16: the format of the operands of the
	// networks' matrix products.
	Compute string `json:"compute"`
	// PositiveWeight is the weight of the samples of label 1 (default 1).
	PositiveWeight float32 `json:"positive_weight"`
	// Optimizer updates the embedding rows, DenseOptimizer (default: the same)
	// the tensors of the network.
	Optimizer      optim.Config  `json:"optimizer"`
	DenseOptimizer *optim.Config `json:"dense_optimizer,omitempty"`
	// ScaleRule turns rates and decays that are right for BaseBatchSize into those
	// for BatchSize: one of ScaleRules.
	ScaleRule string `json:"scale_rule"`
	// BaseBatchSize is the batch the settings were found with (default 1024, with a
	// scale rule).
	BaseBatchSize int `json:"base_batch_size,omitempty"`
	// ClipNorm is the most the norm of all gradients of a step may be; 0: any.
	ClipNorm float32 `json:"clip_norm"`
	// NoiseScale makes the rates of layers with noisy gradients fall; 0: they do not.
	NoiseScale float32 `json:"noise_scale"`
	// Freeze trains some layers of the network at a time.
	Freeze *Freeze `json:"freeze,omitempty"`
	// EmbeddingInit is the distribution of the rows' first values.
	EmbeddingInit random.Init `json:"embedding_init"`
}

// Freeze says how many hidden layers of the network are trained at a time.
type Freeze struct {
	Active int `json:"active"` // layers, default 1
	Every  int `json:"every"`  // steps until others are drawn, default 100
}

// Monitor says how often the validation split is scored and what counts as an
// improvement.
type Monitor struct {
	// Metric is one of Metrics.
	Metric string `json:"metric"`
	// PerEpoch is how many validations an epoch has (default 1), evenly spread;
	// the last one is at its end.
	PerEpoch int `json:"per_epoch"`
	// MinDelta is how much better than the best so far a validation must be
	// (default 1e-6).
	MinDelta float64 `json:"min_delta"`
	// MinEpochs is before the end of which epoch no validation counts as one
	// without improvement (default 0): some models stand still at first.
	MinEpochs int `json:"min_epochs"`
}

// The metrics of a validation.
const (
	MetricAUC        = "auc"
	MetricLogLoss    = "log_loss"
	MetricAUCLogLoss = "auc-log_loss"
	MetricGAUC       = "gauc"
)

// Metrics lists the values of Monitor.Metric.
func Metrics() []string {
	return []string{MetricAUC, MetricLogLoss, MetricAUCLogLoss, MetricGAUC}
}

// Plateau multiplies all learning rates with a factor when Patience validations
// in a row brought no improvement, and again after as many more.
type Plateau struct {
	Factor   float32 `json:"factor"`   // default 0.1
	Patience int     `json:"patience"` // default 1
	// Least bounds the product of the factors from below (default 0.001).
	Least float32 `json:"least"`
}

// EarlyStopping ends the training when Patience validations in a row brought no
// improvement.
type EarlyStopping struct {
	Patience int `json:"patience"` // default 2
}

// Checkpoint says where checkpoints go and when they are made; the result does
// not depend on it.
type Checkpoint struct {
	// Dir is a directory that all processes reach, or an s3:// URL; empty: no
	// checkpoints (fathom run puts them into its working directory).
	Dir string `json:"dir,omitempty"`
	// EverySteps and EveryMinutes make checkpoints automatically; 0: not.
	EverySteps   int64   `json:"every_steps"`
	EveryMinutes float64 `json:"every_minutes"`
	// Keep is how many of the newest are kept (default 3).
	Keep int `json:"keep"`
}

// Cluster sizes the processes; the result does not depend on it.
type Cluster struct {
	Workers  int `json:"workers"`  // default 2
	PS       int `json:"ps"`       // parameter server processes, default 3
	Replicas int `json:"replicas"` // of every shard, default 3 (1 when ps is 1)
	Shards   int `json:"shards"`   // default 4
}
