package job

import (
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/fathom-train/fathom/compute/embedding"
	"github.com/fathom-train/fathom/compute/model"
	"github.com/fathom-train/fathom/compute/optim"
)

// Validate reports everything that is wrong with a job whose defaults are
// filled in; the error is a *Faults.
func (j *Job) Validate() error {
	var c checker
	c.ranges(j)
	c.name(j.Metadata.Name)
	c.data(&j.Spec.Data)
	c.synthetic(&j.Spec.Data)
	c.fields(&j.Spec.Data)
	c.train(&j.Spec.Train)
	c.scale(&j.Spec.Train)
	c.noise(&j.Spec.Train)
	c.recipe(&j.Spec.Train, &j.Spec.Data)
	c.seeds(j)
	c.cluster(&j.Spec.Cluster)
	c.parts(j)
	c.embedding(j)
	c.search(j)
	if len(c.faults) == 0 {
		// Sizes that only the whole model has, like that of the first layer.
		m, err := j.model()
		if err == nil {
			c.nested("spec.train", reflect.TypeOf(j.Spec.Train), model.SetCompute(m, j.Spec.Model.Name, j.Spec.Train.Compute))
		}
		c.nested("spec.model", reflect.TypeOf(j.Spec.Model), err)
		if err == nil {
			_, err := j.Embedding()
			c.nested("spec.embedding", reflect.TypeOf(j.Spec.Embedding), err)
			c.freeze(j)
			c.selector(j, m)
		}
	}
	if len(c.faults) > 0 {
		return &Faults{List: c.faults}
	}
	return nil
}

// checker collects faults by path.
type checker struct{ faults []Fault }

func (c *checker) fault(path, format string, args ...any) {
	c.faults = append(c.faults, Fault{Path: path, Message: fmt.Sprintf(format, args...)})
}

// ranges checks every value by its rule.
func (c *checker) ranges(j *Job) {
	walkValues(reflect.ValueOf(j).Elem(), "", func(path string, v reflect.Value) {
		r := rules[pattern(path)]
		if len(r.oneOf) > 0 && !slices.Contains(r.oneOf, v.String()) {
			c.fault(path, "%s", notOneOf(v.String(), r.oneOf))
		}
		if !r.ranged {
			return
		}
		var x float64
		switch v.Kind() {
		case reflect.Float32, reflect.Float64:
			x = v.Float()
		default:
			x = float64(v.Int())
		}
		if !(x >= r.min && x <= r.max) { // also refuses NaN
			c.fault(path, "%v is not in [%v, %v]", v.Interface(), number(r.min), number(r.max))
		}
	})
}

// number formats a bound without an exponent as long as it is a whole number.
func number(x float64) string {
	if x == float64(int64(x)) {
		return strconv.FormatInt(int64(x), 10)
	}
	return strconv.FormatFloat(x, 'g', -1, 64)
}

func notOneOf(value string, accepted []string) string {
	accepted = slices.DeleteFunc(slices.Clone(accepted), func(s string) bool { return s == "" })
	if value == "" {
		return "is required: one of " + strings.Join(accepted, ", ")
	}
	if len(accepted) == 1 {
		return fmt.Sprintf("%q is not accepted, only %s is", clip(value), accepted[0])
	}
	if near, ok := nearest(value, accepted); ok && near != value {
		return fmt.Sprintf("%q is not accepted, did you mean %s? (one of %s)", clip(value), near, strings.Join(accepted, ", "))
	}
	return fmt.Sprintf("%q is not accepted: one of %s", clip(value), strings.Join(accepted, ", "))
}

var dnsLabel = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

func (c *checker) name(name string) {
	if !dnsLabel.MatchString(name) {
		c.fault("metadata.name", "%q is not a name: lower-case letters, digits and '-' inside, at most 63", clip(name))
	}
}

// filesMax bounds the file names and globs of a split.
const filesMax = 1 << 16

func (c *checker) data(d *Data) {
	splits := []struct {
		name  string
		files []string
	}{{"train", d.Train}, {"valid", d.Valid}, {"test", d.Test}}
	for _, s := range splits {
		path := "spec.data." + s.name
		switch {
		case d.Format == FormatSynthetic && len(s.files) > 0:
			c.fault(path, "format synthetic reads no files: remove it, or change the format")
		case len(s.files) > filesMax:
			c.fault(path, "%d files, at most %d: use a glob", len(s.files), filesMax)
		}
		for i, f := range s.files {
			if _, err := filepath.Match(f, ""); err != nil || f == "" {
				c.fault(at(path, i), "%q is not a file name or glob", clip(f))
			}
		}
	}
	if d.Format != FormatSynthetic && len(d.Train) == 0 {
		c.fault("spec.data.train", "is required: list the files to train on")
	}
	if text := d.Format == FormatCSV || d.Format == FormatTSV; !text {
		if d.Header != nil {
			c.fault("spec.data.header", "only csv and tsv files can have a header")
		}
		if d.Delimiter != "" {
			c.fault("spec.data.delimiter", "only csv and tsv files have a delimiter")
		}
	} else if len(d.Delimiter) != 1 || strings.ContainsAny(d.Delimiter, "\"\r\n") {
		c.fault("spec.data.delimiter", "%q is not one byte other than a quote or a line end", clip(d.Delimiter))
	}
	for _, extra := range []struct{ path, column string }{{"spec.data.weight", d.Weight}, {"spec.data.group", d.Group}} {
		switch {
		case extra.column == "":
		case d.Format == FormatLibSVM || d.Format == FormatLibFFM:
			c.fault(extra.path, "format %s has no named columns: remove it, or convert the files", d.Format)
		case d.hasColumns() && extra.column == d.Label:
			c.fault(extra.path, "%q is the label", clip(extra.column))
		case d.Format == FormatSynthetic && d.Synthetic != nil && !d.Synthetic.generates(extra.column):
			c.fault(extra.path, "%q is not generated: the columns are i1 to i%d and c1 to c%d",
				clip(extra.column), d.Synthetic.Numeric, d.Synthetic.Categorical)
		}
	}
	switch {
	case d.hasColumns() && d.Label == "":
		c.fault("spec.data.label", "is required: the column of the label")
	case !d.hasColumns() && d.Label != "":
		c.fault("spec.data.label", "format %s has no column of labels to name: remove it", d.Format)
	}
}

func (c *checker) synthetic(d *Data) {
	const path = "spec.data.synthetic"
	switch {
	case d.Format != FormatSynthetic:
		if d.Synthetic != nil {
			c.fault(path, "needs format: synthetic, not %s", d.Format)
		}
		return
	case d.Synthetic == nil:
		c.fault(path, "is required by format synthetic; it needs at least train_rows")
		return
	}
}

func (c *checker) train(t *Train) {
	if t.Lanes > t.BatchSize {
		c.fault("spec.train.lanes", "%d lanes cannot share a batch of %d samples", t.Lanes, t.BatchSize)
	}
	if t.Mode == ModeAsync {
		if t.PipelineDepth != nil {
			c.fault("spec.train.pipeline_depth", "mode async has no pipeline: remove it; staleness bounds how far lanes are apart")
		}
		if t.ClipNorm > 0 {
			c.fault("spec.train.clip_norm", "mode async applies lanes one by one, so nobody knows the norm of a step: remove it, or use mode sync")
		}
		if t.NoiseScale > 0 {
			c.fault("spec.train.noise_scale", "mode async applies lanes one by one, so nobody can compare them: remove it, or use mode sync")
		}
		if o := t.Optimizer; o.Layerwise() && o.Granularity != optim.Row {
			c.fault("spec.train.optimizer.granularity", "%s needs all lanes of a step at once, which mode async does not have: use row, or mode sync", o.Granularity)
		}
		if t.Optimizer.EveryRow {
			c.fault("spec.train.optimizer.every_row", "the updates of rows that a step does not reach need steps in order, which mode async does not have: remove it, or use mode sync")
		}
	} else if t.Staleness != nil {
		c.fault("spec.train.staleness", "only mode async has it: remove it; mode sync has pipeline_depth")
	}
}

// validates tells whether there is a validation split.
func (d *Data) validates() bool {
	return len(d.Valid) > 0 || d.Synthetic != nil && d.Synthetic.ValidRows > 0
}

// recipe checks what validations decide about.
func (c *checker) recipe(t *Train, d *Data) {
	for _, part := range []struct {
		path  string
		given bool
	}{{"spec.train.plateau", t.Plateau != nil}, {"spec.train.early_stopping", t.EarlyStopping != nil}, {"spec.train.restore_best", t.RestoreBest}} {
		if part.given && !d.validates() {
			c.fault(part.path, "needs validation data to decide by: add spec.data.valid")
		}
	}
	if t.RestoreBest && !(len(d.Test) > 0 || d.Synthetic != nil && d.Synthetic.TestRows > 0) {
		c.fault("spec.train.restore_best", "needs a test split to score: add spec.data.test")
	}
	if t.RestoreBest && t.Mode == ModeAsync {
		c.fault("spec.train.restore_best", "mode async does not go back: remove it, or train in mode sync")
	}
	if p := t.Plateau; p != nil && !(p.Factor > 0 && p.Factor < 1) {
		c.fault("spec.train.plateau.factor", "%v does not lower the learning rates: choose one between 0 and 1", p.Factor)
	}
	if t.Monitor.Metric == MetricGAUC && d.Group == "" {
		c.fault("spec.train.monitor.metric", "gauc needs groups: name their column in spec.data.group")
	}
	if m := t.Monitor; m.MinEpochs > max(0, t.Epochs) {
		c.fault("spec.train.monitor.min_epochs", "%d is more than the %d epochs there are", m.MinEpochs, t.Epochs)
	}
}

func (c *checker) scale(t *Train) {
	if t.ScaleRule == ScaleNone && t.BaseBatchSize != 0 {
		c.fault("spec.train.base_batch_size", "needs a scale_rule: one of %s", strings.Join(ScaleRules()[1:], ", "))
	}
	if t.ScaleRule == ScaleCowClip && t.Optimizer.Name != optim.CowClip {
		c.fault("spec.train.scale_rule", "cowclip is for rows whose optimizer is cowclip; optimizer.name is %s", t.Optimizer.Name)
	}
}

func (c *checker) noise(t *Train) {
	if t.NoiseScale > 0 && t.Lanes < 2 {
		c.fault("spec.train.noise_scale", "the noise shows between lanes: set spec.train.lanes to 2 or more")
	}
	if t.NoiseScale > 0 && t.Optimizer.EveryRow {
		c.fault("spec.train.noise_scale", "rates by noise and spec.train.optimizer.every_row exclude each other: what a row missed could not be computed later")
	}
}

// freeze checks that there is something left to train and something to freeze.
func (c *checker) freeze(j *Job) {
	f := j.Spec.Train.Freeze
	if f == nil {
		return
	}
	if n, err := j.FreezableLayers(); err == nil && f.Active > n {
		c.fault("spec.train.freeze.active", "%d layers, the network has %d that can be frozen", f.Active, n)
	}
}

func (c *checker) cluster(k *Cluster) {
	switch {
	case k.Replicas%2 == 0:
		c.fault("spec.cluster.replicas", "%d: must be 1, 3 or 5; an even number survives no more than the odd one below", k.Replicas)
	case k.Replicas > k.PS:
		c.fault("spec.cluster.replicas", "%d replicas need as many servers, ps is %d", k.Replicas, k.PS)
	}
}

// parts has the model, the optimizers and the distribution check themselves.
func (c *checker) parts(j *Job) {
	t := &j.Spec.Train
	c.nested("spec.model", reflect.TypeOf(j.Spec.Model), j.Spec.Model.Validate())
	c.nested("spec.train.optimizer", reflect.TypeOf(t.Optimizer), t.Optimizer.Validate())
	if t.Optimizer.ExcludeVectors {
		c.fault("spec.train.optimizer.exclude_vectors", "rows are no tensors of a network: move it to spec.train.dense_optimizer")
	}
	if t.DenseOptimizer != nil && *t.DenseOptimizer != t.Optimizer {
		const path = "spec.train.dense_optimizer"
		c.nested(path, reflect.TypeOf(t.Optimizer), t.DenseOptimizer.Validate())
		switch d := *t.DenseOptimizer; {
		case d.Name == optim.CowClip || d.Name == optim.RowAdaGrad:
			c.fault(path+".name", "%s is for rows: use %s for the network", d.Name, d.Dense().Name)
		case d.EveryRow:
			c.fault(path+".every_row", "a network has no rows: every step updates all of it")
		case d.Granularity != d.Dense().Granularity:
			c.fault(path+".granularity", "every tensor of a network is a layer: remove it")
		}
	}
	c.nested("spec.train.embedding_init", reflect.TypeOf(t.EmbeddingInit), t.EmbeddingInit.Validate())
}

// embedding checks what needs no model.
func (c *checker) embedding(j *Job) {
	const path = "spec.embedding"
	var names []string
	for _, f := range j.Spec.Data.Fields {
		names = append(names, f.Name)
	}
	c.nested(path, reflect.TypeOf(j.Spec.Embedding), j.Spec.Embedding.Validate(names))
	if j.Spec.Train.Optimizer.Granularity == optim.Field && j.Spec.Embedding.Tables != embedding.PerField {
		c.fault("spec.train.optimizer.granularity", "field needs a table per field: set spec.embedding.tables to per_field")
	}
	for i, own := range j.Spec.Embedding.Fields {
		for _, f := range j.Spec.Data.Fields {
			if f.Name == own.Name && f.Share != "" {
				c.fault(at(path+".fields", i)+".name", "field %s has no rows of its own: set those of %s", f.Name, f.Share)
			}
		}
	}
}

// nested turns another package's joined errors into faults of one path each.
// Such an error names its field first, after the context it may have.
func (c *checker) nested(path string, t reflect.Type, err error) {
	if err == nil {
		return
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok && strings.Contains(err.Error(), "\n") {
		for _, e := range joined.Unwrap() {
			c.nested(path, t, e)
		}
		return
	}
	message := err.Error()
	for _, m := range members(t) {
		named := regexp.MustCompile(`(?:^|: )` + m.name + `(\[\d+\])?(?:, [a-z_, ]+)?:? (.+)$`)
		if found := named.FindStringSubmatch(message); found != nil {
			path, message = join(path, m.name)+found[1], found[2]
			if found[1] != "" && m.typ.Elem().Kind() == reflect.Struct {
				c.nested(path, m.typ.Elem(), errors.New(message))
				return
			}
			break
		}
	}
	for _, f := range c.faults {
		if within(f.Path, path) {
			return // its rule said it already
		}
	}
	c.fault(path, "%s", message)
}
