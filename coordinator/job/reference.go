package job

import (
	"math"

	"github.com/fathom-train/fathom/compute/embedding"
	"github.com/fathom-train/fathom/compute/model"
	"github.com/fathom-train/fathom/compute/optim"
)

// rule says what a field of the job means and accepts. The validation, the
// JSON Schema and docs/job.md are all made from it.
type rule struct {
	doc string
	// min and max bound a number when ranged is set.
	ranged   bool
	min, max float64
	// oneOf lists the accepted strings.
	oneOf []string
	// required fields have no default and must be given.
	required bool
	// def describes a default that is not one plain value.
	def string
}

func (r rule) in(lo, hi float64) rule {
	r.ranged, r.min, r.max = true, lo, hi
	return r
}

func (r rule) of(values ...string) rule {
	r.oneOf = values
	return r
}

func (r rule) mustBeGiven() rule {
	r.required = true
	return r
}

func (r rule) byDefault(text string) rule {
	r.def = text
	return r
}

func means(doc string) rule { return rule{doc: doc} }

const (
	rowsMax   = 1 << 40
	fieldsMax = model.FieldsMax
	// pipelineDepthMax is what the state machine of a shard allows.
	pipelineDepthMax = 8
	stalenessMax     = 64
)

// rules has one entry for every field of the job, by pattern; a test compares
// it with the types. Ranges of the model, the optimizers and the initial
// distribution are checked by their own packages.
var rules = merge(jobRules, dataRules, embeddingRules, trainRules, searchRules,
	optimizerRules("spec.train.optimizer"), optimizerRules("spec.train.dense_optimizer"))

func merge(parts ...map[string]rule) map[string]rule {
	all := map[string]rule{}
	for _, part := range parts {
		for path, r := range part {
			all[path] = r
		}
	}
	return all
}

var jobRules = map[string]rule{
	"apiVersion":    means("Version of this format.").of(APIVersion).mustBeGiven(),
	"kind":          means("Kind of this object.").of(Kind).mustBeGiven(),
	"metadata":      means("What identifies the job.").mustBeGiven(),
	"metadata.name": means("Name of the job: lower-case letters, digits and '-', at most 63, no '-' at either end.").mustBeGiven(),
	"spec":          means("What to train, on what, and how.").mustBeGiven(),

	"spec.model":               means("The model. An option that a model does not have must be left out."),
	"spec.model.name":          means("Which model.").of(model.Names()...),
	"spec.model.embedding_dim": means("Width of the embedding vector of one key (all but lr); of ffm, for each other field.").in(0, model.EmbeddingDimMax),
	"spec.model.hidden":        means("Widths of the hidden layers of the network, first to last. For lr, fm, fwfm, ffm, afm, autoint and cross_structure crossnet_only, which have no network, it must be left out.").byDefault("`[400, 400, 400]` where there is a network; `[100, 100, 100]` with tower hourglass and parallel"),
	"spec.model.dropout":       means("Probability that a hidden unit (of a network) or an attention weight (autoint, autoint_plus, afm) is dropped in training, in [0, 1).").in(0, 1),
	"spec.model.batch_norm":    means("Normalise every hidden layer of the network before its activation, by the statistics of the lane."),

	"spec.model.tower":          means("Shape of the networks: layers one after the other (mlp); residual blocks, one for each width of hidden, that add to a wide vector, one after the other (hourglass) or all of its first value (parallel).").of(append([]string{""}, model.Towers()...)...).byDefault("mlp"),
	"spec.model.tower_width":    means("Width of the vector that residual blocks add to.").in(0, model.HiddenWidthMax).byDefault("400 with hourglass and parallel"),
	"spec.model.norm_placement": means("Layer norms of residual blocks: in front of every block and behind the last (pre), or also behind every block and in front of the first (peri). With layer_norm, peri also places the norms of attention layers: in front of and behind the attention, not on the residual (autoint, autoint_plus).").of(append([]string{""}, model.NormPlacements()...)...).byDefault("pre with hourglass and parallel"),

	"spec.model.cross_layers":     means("Cross layers (dcn, dcnv2).").in(0, model.CrossLayersMax).byDefault("3"),
	"spec.model.cross_structure":  means("Where the network stands: beside the cross layers (parallel), on top of them (stacked; dcnv2), or nowhere (crossnet_only) (dcn, dcnv2).").of(append([]string{""}, model.CrossStructures()...)...).byDefault("parallel"),
	"spec.model.low_rank":         means("Makes every cross layer a mixture of experts of this rank; 0 keeps the full matrix (dcnv2).").in(0, model.LowRankMax),
	"spec.model.experts":          means("Experts of the mixture (dcnv2 with low_rank).").in(0, model.ExpertsMax).byDefault("4 with low_rank"),
	"spec.model.cin_units":        means("Feature maps of the layers of the compressed interaction network (xdeepfm).").byDefault("[16, 16, 16]"),
	"spec.model.attention_layers": means("Attention layers (autoint, autoint_plus).").in(0, model.AttentionLayersMax).byDefault("2"),
	"spec.model.attention_dim":    means("Width of attention: of all heads together (autoint, autoint_plus), of the attention network (afm).").in(0, model.AttentionDimMax).byDefault("8; afm 10"),
	"spec.model.heads":            means("Parts the width of attention (autoint, autoint_plus) or of the fusion (finalmlp) is cut into; must divide it.").in(0, model.HeadsMax).byDefault("1"),
	"spec.model.residual":         means("Add the input of an attention layer to its output (autoint, autoint_plus).").byDefault("true for autoint, autoint_plus"),
	"spec.model.scale":            means("Divide attention scores by the root of a head's width (autoint, autoint_plus)."),
	"spec.model.layer_norm":       means("Normalise the output of an attention layer before its activation (autoint, autoint_plus)."),
	"spec.model.wide":             means("Add the first-order weights of the keys (autoint, autoint_plus)."),
	"spec.model.linear_type":      means("First-order part of fwfm: a weight per key (LW), a vector per key (FeLV) or a vector per field (FiLV).").of(append([]string{""}, model.LinearTypes()...)...).byDefault("FiLV"),
	"spec.model.interaction":      means("Input of dlrm's network: the dot products of all pairs of embeddings (dot) or the embeddings themselves (cat).").of(append([]string{""}, model.Interactions()...)...).byDefault("dot"),
	"spec.model.hidden2":          means("Widths of the hidden layers of the second network (finalmlp).").byDefault("as hidden, for finalmlp"),
	"spec.model.dropout2":         means("Dropout of the second network (finalmlp) or of the pooled products (afm).").in(0, 1),
	"spec.model.batch_norm2":      means("Normalise every hidden layer of the second network (finalmlp)."),
	"spec.model.gate_hidden":      means("Widths of the hidden layers of the gates in front of the two networks (finalmlp).").byDefault("no gates"),
	"spec.model.context1":         means("Numbers, from 0, of the fields in spec.data.fields that steer the gate of the first network (finalmlp).").byDefault("none: the gate is the same for all samples"),
	"spec.model.context2":         means("The same of the second network; a field can steer only one gate.").byDefault("none"),

	"spec.checkpoint":               means("Where checkpoints go and when they are made. The trained model does not depend on it."),
	"spec.checkpoint.dir":           means("Directory that all processes reach by the same path, or an S3-compatible store: s3://BUCKET/PREFIX?region=R, for other vendors with &endpoint=https://HOST&use_path_style=true. A relative path is relative to the job file.").byDefault("none; fathom run uses checkpoints/ in its working directory"),
	"spec.checkpoint.every_steps":   means("Make one at every step that is a multiple of this, in mode async at the validation that follows; 0: not by steps.").in(0, 1<<40),
	"spec.checkpoint.every_minutes": means("Make one when the last is as old as this, in mode async at the validation that follows; 0: not by time.").in(0, 1<<20),
	"spec.checkpoint.keep":          means("How many of the newest are kept; older ones are deleted.").in(1, 1000),

	"spec.cluster":          means("Sizes of the cluster. The trained model does not depend on them."),
	"spec.cluster.workers":  means("Worker processes.").in(1, 1024),
	"spec.cluster.ps":       means("Parameter server processes.").in(1, 1024),
	"spec.cluster.replicas": means("Copies of every shard, on different servers: 1, 3 or 5. With 3, any one server may be lost.").in(1, 5).byDefault("3, or 1 when ps is below 3"),
	"spec.cluster.shards":   means("Parts the parameters are cut into; each is one replicated group.").in(1, 1024),
}

var dataRules = map[string]rule{
	"spec.data":                     means("Where the samples are and how to read them.").mustBeGiven(),
	"spec.data.root":                means("Directory that relative file names are relative to. A relative root in the file is relative to the job file; one given with --set is relative to the current directory.").byDefault("the job file's directory"),
	"spec.data.format":              means("Format of the samples.").of(FormatCSV, FormatTSV, FormatLibSVM, FormatLibFFM, FormatParquet, FormatArrow, FormatSynthetic).mustBeGiven(),
	"spec.data.train":               means("Files or globs of the training split; the matches of a glob are taken in the order of their names. Not for format synthetic."),
	"spec.data.valid":               means("Files or globs of the validation split."),
	"spec.data.test":                means("Files or globs of the test split."),
	"spec.data.header":              means("Whether csv and tsv files start with a line of column names. Without one the columns are named \"0\", \"1\", ...").byDefault("true for csv and tsv"),
	"spec.data.delimiter":           means("The byte between two columns of csv and tsv files.").byDefault("a comma for csv, a tab for tsv"),
	"spec.data.label":               means("Column of the 0/1 label of csv, tsv, parquet and arrow files; libsvm and libffm have it in front of the line.").byDefault("label"),
	"spec.data.fields":              means("The fields of the model, in order.").byDefault("for format synthetic all generated fields: i1, i2, ... (numeric, bucket), then c1, c2, ..."),
	"spec.data.weight":              means("Column of the weights of the samples, from 0 to 1048576: what the loss of a sample is multiplied with in training. Scores of validation and test are not weighted. For csv, tsv, parquet, arrow and synthetic.").byDefault("none: all weigh 1"),
	"spec.data.group":               means("Column of the groups, such as users, within which gauc compares samples. For csv, tsv, parquet, arrow and synthetic.").byDefault("none"),
	"spec.data.negative_rate":       means("Share of the samples of label 0 of the training split that is used; the others are left out. The odds that the model gives are multiplied with it in validation, test and predictions, so that they fit the data as they were.").in(0, 1),
	"spec.data.max_bad_records":     means("How many malformed records may be skipped before the job fails.").in(0, rowsMax),
	"spec.data.shuffle_window_rows": means("How many rows are permuted together.").in(1, 1<<30),
	"spec.data.cache_bytes":         means("Bound of the decoded records that a worker keeps in memory.").in(1<<20, 1<<50),

	"spec.data.fields[]":            means("One field: a column turned into keys of the embedding table."),
	"spec.data.fields[].name":       means("Name of the field; part of its keys.").mustBeGiven(),
	"spec.data.fields[].column":     means("The column read. libffm: the number of the libffm field; libsvm: an index, a range lo-hi of indices, or * for all.").byDefault("the field's name"),
	"spec.data.fields[].type":       means("What the column holds.").of("categorical", "numeric"),
	"spec.data.fields[].transform":  means("Of a numeric field: none (the value scales the field's one row), log (the same with sign(x)*ln(1+|x|)), bucket (categorical: floor(ln(x)^2) for x > 2, else floor(x)).").of("", "none", "log", "bucket").byDefault("none, of a numeric field"),
	"spec.data.fields[].separator":  means("Splits a categorical column into several values.").byDefault("one value per column"),
	"spec.data.fields[].pooling":    means("How the rows of several values become one.").of("", "mean", "sum").byDefault("mean, of a categorical field"),
	"spec.data.fields[].max_values": means("Most values of one sample; more are cut off.").in(0, 65535).byDefault("64, of a categorical field"),
	"spec.data.fields[].share":      means("Name of the field whose rows this one uses too.").byDefault("rows of its own"),

	"spec.data.synthetic":             means("The generated data of format synthetic: Criteo-shaped fields and labels drawn from a hidden model.").byDefault("none"),
	"spec.data.synthetic.train_rows":  means("Rows of the training split.").in(1, rowsMax).mustBeGiven(),
	"spec.data.synthetic.valid_rows":  means("Rows of the validation split.").in(0, rowsMax),
	"spec.data.synthetic.test_rows":   means("Rows of the test split.").in(0, rowsMax),
	"spec.data.synthetic.numeric":     means("Numeric fields.").in(0, generatedFieldsMax).byDefault("13, when categorical is 0 too"),
	"spec.data.synthetic.categorical": means("Categorical fields.").in(0, generatedFieldsMax).byDefault("26, when numeric is 0 too"),
	"spec.data.synthetic.vocabulary":  means("Different ids of the largest field.").in(4, 1<<24),
	"spec.data.synthetic.zipf":        means("Exponent of the frequencies of the ids.").in(0.1, 3),
	"spec.data.synthetic.teacher_dim": means("Largest embedding width of the hidden model.").in(1, 64),
	"spec.data.synthetic.seed":        means("Seed of the generator."),
}

var embeddingRules = map[string]rule{
	"spec.embedding":                   means("Which rows of which tables make up the values of a field. By default every value of every field has a row of its own, in one table."),
	"spec.embedding.tables":            means("shared: fields of one width and method share a table; per_field: every field has tables of its own (not for method unified).").of(embedding.Shared, embedding.PerField),
	"spec.embedding.method":            means("rows: a row per value. hash: a fixed number of rows per field, which values share by their hash. qr: two rows per value, by quotient and remainder of its hash. unified: chunks of tables that all fields share (feature multiplexing).").of(embedding.Methods()...),
	"spec.embedding.buckets":           means("Rows of a field (hash), quotient rows of a field (qr), rows of every shared table (unified).").in(0, embedding.BucketsMax),
	"spec.embedding.remainders":        means("Remainder rows of a field (qr).").in(0, embedding.BucketsMax),
	"spec.embedding.combine":           means("How the two embeddings of qr become one: their product (mult; each begins with the root of the scale of embedding_init), their sum (add), or one behind the other (concat).").of("", embedding.Mult, embedding.Add, embedding.Concat).byDefault("mult, of qr"),
	"spec.embedding.shared_tables":     means("Number of the tables of unified.").in(0, embedding.TablesMax).byDefault("1, of unified"),
	"spec.embedding.chunk_width":       means("Width of the rows of the tables of unified.").in(0, model.EmbeddingDimMax).byDefault("8, of unified"),
	"spec.embedding.width":             means("How many values of the embedding a field has; the rest are zero (rows, hash, qr).").in(0, model.EmbeddingDimMax).byDefault("embedding_dim"),
	"spec.embedding.selector":          means("A network that tells the cluster of every sample, which then sees only the dimensions of its cluster. After a search by ihas; without one it shows every sample all dimensions.").byDefault("none"),
	"spec.embedding.selector.clusters": means("Number of the clusters.").in(0, ClustersMax).mustBeGiven(),
	"spec.embedding.selector.hidden":   means("Width of the network's hidden layer.").in(0, SelectorHiddenMax).mustBeGiven(),
	"spec.embedding.fields":            means("The fields that differ, by name.").byDefault("none"),

	"spec.embedding.fields[]":            means("What differs for one field."),
	"spec.embedding.fields[].name":       means("Name of a field that shares no other field's rows.").mustBeGiven(),
	"spec.embedding.fields[].method":     means("As spec.embedding.method; or none: the field has no embedding, only its first-order weights, in models that have them.").of(append([]string{""}, embedding.FieldMethods()...)...).byDefault("spec.embedding.method"),
	"spec.embedding.fields[].buckets":    means("As spec.embedding.buckets.").in(0, embedding.BucketsMax).byDefault("spec.embedding.buckets"),
	"spec.embedding.fields[].remainders": means("As spec.embedding.remainders.").in(0, embedding.BucketsMax).byDefault("spec.embedding.remainders"),
	"spec.embedding.fields[].combine":    means("As spec.embedding.combine.").of("", embedding.Mult, embedding.Add, embedding.Concat).byDefault("spec.embedding.combine"),
	"spec.embedding.fields[].chunks":     means("Chunks of the field (unified).").in(0, embedding.ChunksMax).byDefault("as many as fill the embedding"),
	"spec.embedding.fields[].width":      means("As spec.embedding.width.").in(0, model.EmbeddingDimMax).byDefault("spec.embedding.width"),
	"spec.embedding.fields[].dims":       means("Which dimensions of the embedding the field has, from 0, ascending, as many as its width (rows). After a search for single dimensions.").byDefault("the first ones"),
	"spec.embedding.fields[].oov":        means("Values whose embedding is all zero read one more row of the table instead; after a search with oov these are the values whose row was dropped (rows, with own_linear).").byDefault("`false`"),
	"spec.embedding.fields[].own_linear": means("Keep the field's first-order weights in a table of their own, a row per value (rows and hash, with tables: per_field). After a search that drops rows, a value whose row was dropped has only that one.").byDefault("`false`"),
}

var trainRules = map[string]rule{
	"spec.train":                         means("How to train."),
	"spec.train.epochs":                  means("Passes over the training split.").in(1, 10000),
	"spec.train.batch_size":              means("Samples of one global step, whatever the number of workers.").in(1, 1<<20),
	"spec.train.lanes":                   means("Parts every global batch is cut into; the unit of work of a worker. Part of the result: it fixes the order of every sum.").in(1, 256),
	"spec.train.seed":                    means("Seed of the order of the samples, the first values and dropout."),
	"spec.train.seeds":                   means("Several seeds, at most 100: the job is trained once with each, one after the other, as NAME-seed-N; the result tells the mean and the standard deviation of the scores.").byDefault("none: once, with seed"),
	"spec.train.monitor":                 means("How often the validation split is scored, and what counts as an improvement. Needs validation data."),
	"spec.train.monitor.metric":          means("What a validation is judged by: auc, log_loss, or auc-log_loss, the AUC minus the log loss, or gauc, the mean AUC within the groups of spec.data.group that have both labels, weighted by their samples.").of(Metrics()...),
	"spec.train.monitor.per_epoch":       means("Validations in an epoch, evenly spread; the last one is at its end.").in(1, 1000),
	"spec.train.monitor.min_delta":       means("How much better than the best so far a validation must be to count as an improvement.").in(0, 1),
	"spec.train.monitor.min_epochs":      means("Validations before the end of this epoch never count as without improvement; some models stand still at first.").in(0, 10000),
	"spec.train.plateau":                 means("Lowers all learning rates when validations no longer improve.").byDefault("none: the rates stay"),
	"spec.train.plateau.factor":          means("What the learning rates are multiplied with.").in(0, 1),
	"spec.train.plateau.patience":        means("After how many validations without improvement in a row; and again after as many more.").in(1, 10000),
	"spec.train.plateau.least":           means("Least product of the factors.").in(0, 1),
	"spec.train.early_stopping":          means("Ends the training when validations no longer improve.").byDefault("none: all epochs"),
	"spec.train.restore_best":            means("The test split is scored, and the job ends, with the model of the best validation instead of the last one. It is kept as a checkpoint meanwhile: spec.checkpoint.dir must be set (fathom run does so). In a job with a search it is about the model of the widths found."),
	"spec.train.early_stopping.patience": means("After how many validations without improvement in a row.").in(1, 10000),
	"spec.train.positive_weight":         means("Weight of the samples of label 1; those of label 0 have 1. It multiplies spec.data.weight, and makes the scores larger than the share of positives.").in(0, 1<<20),
	"spec.train.mode":                    means("sync: every step waits for all of its lanes; the result is the same to the last bit however the job runs. async: every lane changes the parameters as soon as it is there, which is faster when workers differ in speed; every update is applied once, but two runs differ.").of(ModeSync, ModeAsync),
	"spec.train.staleness":               means("By how many steps a lane may be ahead of the slowest one (mode async).").in(0, stalenessMax).byDefault("4 in mode async"),
	"spec.train.pipeline_depth":          means("How many steps may be under way in front of the one being computed: with depth k, step s is computed on the parameters after step s-1-k, so that pulling and computing overlap with pushing and applying. Part of the result; 0 is textbook synchronous training.").in(0, pipelineDepthMax).byDefault("1 in mode sync"),
	"spec.train.compute":                 means("Format of the operands of the networks' matrix products: f32, or bf16, which rounds them to bfloat16 (sums, weights and everything else stay float32). bf16 is faster on AMD's processors with AVX512_BF16 and trains a slightly different model, the same to the last bit on every processor.").of(model.Computes()...),
	"spec.train.optimizer":               means("Optimizer of the embedding rows."),
	"spec.train.dense_optimizer":         means("Optimizer of the tensors of the network.").byDefault("that of the rows"),
	"spec.train.scale_rule":              means("Turns settings found with base_batch_size into those for batch_size. With k the ratio of the two: linear: rates times k. lamb: rates times the root of k, a warm-up keeps its steps. cowclip: the rows' weight decay times k, the network's rate times the root of k, the rows' rate stays; needs optimizer.name cowclip. Decays of the schedules, and warm-ups but for lamb, take 1/k of their steps.").of(ScaleRules()...),
	"spec.train.base_batch_size":         means("The batch that rates, decays and schedules are given for, with a scale_rule.").in(0, 1<<20).byDefault("1024, with a scale_rule"),
	"spec.train.clip_norm":               means("Most norm of all gradients of a step together; larger ones are scaled down to it. Weight decay is not counted. 0 is no bound.").in(0, math.MaxFloat32),
	"spec.train.noise_scale":             means("Learn more slowly where gradients are noisy: the lanes of a step are independent, so their spread is the noise. With H the mean variance of a weight's gradient in a layer, its rate is times the root of scale/sqrt(scale^2+H), over the largest such value of its kind. A layer is a tensor, or a column of a table: of a field with spec.embedding.tables: per_field. 0 is off.").in(0, math.MaxFloat32),
	"spec.train.freeze":                  means("Train only some of the hidden layers of the network at a time, drawn anew now and then (LISA). The last layer, tensors outside numbered layers and the rows are always trained.").byDefault("all layers are trained"),
	"spec.train.freeze.active":           means("Hidden layers trained at a time.").in(1, 1<<16),
	"spec.train.freeze.every":            means("Steps until others are drawn.").in(1, 1<<31-1),
	"spec.train.embedding_init":          means("Distribution of the first values of the embedding rows.").byDefault("normal, scale 0.01"),
	"spec.train.embedding_init.kind":     means("normal (mean 0, standard deviation scale), uniform (in [-scale, scale)) or constant (scale itself).").of("", "normal", "uniform", "constant"),
	"spec.train.embedding_init.scale":    means("Scale of the distribution.").in(-math.MaxFloat32, math.MaxFloat32),
}

// optimizerRules documents the fields of one optim.Config.
func optimizerRules(path string) map[string]rule {
	return map[string]rule{
		path + ".name":          means("lamb (layer-wise Adam for large batches), lars (layer-wise momentum), adam, adamw (decoupled decay), cowclip (adam behind a bound of every row's gradient, for large batches; rows only), sgd, adagrad, row_adagrad (one sum per row; rows only) or ftrl.").of(optim.Names()...),
		path + ".learning_rate": means("Size of one update.").byDefault("0.001; sgd, lars, adagrad, row_adagrad 0.01; ftrl 0.05"),
		path + ".beta1":         means("Decay of the mean of the gradients (lamb, adam, adamw, cowclip).").byDefault("0.9"),
		path + ".beta2":         means("Decay of the mean of their squares (lamb, adam, adamw, cowclip).").byDefault("0.999"),
		path + ".epsilon":       means("Added to the root of the (mean of) squares; lars: to the norm of the gradient.").byDefault("lamb 1e-6; adam, adamw, cowclip 1e-8; adagrad, row_adagrad 1e-10"),
		path + ".weight_decay":  means("Share of the weight added to its update (lamb, adamw) or to its gradient (the others; ftrl: the second-order penalty).").byDefault("0; adamw 0.01"),
		path + ".every_row":     means("Update all rows of a table at every step, with a gradient of zero where the step does not reach them, as a dense matrix is updated: weight decay then pulls on all rows, and means decay everywhere (not for ftrl). The work is put off until a row is read or reached, and the bits are those of doing it at once. By default only the rows that a step reaches are updated."),
		path + ".momentum":      means("Momentum (sgd, lars).").byDefault("0; lars 0.9"),
		path + ".nesterov":      means("Look ahead by the momentum (sgd)."),

		path + ".granularity":       means("One layer, whose norms make the trust ratio (lamb, lars): row is one column of one row of a table; table, of all rows of a table that the step reaches; field, of those of a field (needs spec.embedding.tables: per_field). A tensor of the network is always one layer.").of("", optim.Row, optim.Field, optim.Table).byDefault("row, of lamb and lars"),
		path + ".convention":        means("tfa: as TensorFlow Addons. apex: as NVIDIA Apex, where the trust ratio is 1 when nothing decays (lamb).").of("", optim.TFA, optim.Apex).byDefault("tfa, of lamb"),
		path + ".coupled":           means("Add the weight decay to the gradient, as Apex can (lamb)."),
		path + ".sum_gradients":     means("Add all of the gradient to its mean, not 1-beta1 of it, as Apex without averaging (lamb)."),
		path + ".trust_floor":       means("Least norm of the weights in the trust ratio (lamb, lars); keeps small rows moving."),
		path + ".trust_min":         means("Least trust ratio (lamb, lars)."),
		path + ".trust_max":         means("Largest trust ratio (lamb, lars); 0 is none."),
		path + ".exclude_vectors":   means("Biases and the scales of norms have no weight decay and a trust ratio of 1 (lamb and lars, network only)."),
		path + ".trust_coefficient": means("Share of the norm of the weights that one update may be (lars).").byDefault("0.001, of lars"),

		path + ".clip_ratio": means("Bound of the norm of a row's gradient, per occurrence of its key in the global batch, in norms of the row (cowclip).").byDefault("1, of cowclip"),
		path + ".clip_floor": means("Least norm of a row, per root of its width, in that bound (cowclip).").byDefault("0.00001, of cowclip"),

		path + ".accumulator": means("First value of the sums of squares (adagrad, row_adagrad, ftrl)."),
		path + ".smoothing":   means("The beta of the rate of ftrl.").byDefault("1, of ftrl"),
		path + ".l1":          means("First-order penalty: weights whose evidence is below it are zero (ftrl)."),

		path + ".warmup_steps": means("Steps over which the rate rises from 0 in a straight line.").in(0, optim.StepsMax),
		path + ".schedule":     means("What the rate does behind the warm-up. constant; step: times decay_rate every decay_steps; cosine and linear: down to least_rate of it over decay_steps. A plateau decay multiplies it.").of("", optim.Constant, optim.StepDown, optim.Cosine, optim.Linear).byDefault("constant"),
		path + ".decay_steps":  means("Steps of a schedule that falls.").in(0, optim.StepsMax),
		path + ".decay_rate":   means("Factor of schedule step, at most 1.").byDefault("0.1, of step"),
		path + ".least_rate":   means("Last factor of the schedules cosine and linear, at most 1."),
	}
}
