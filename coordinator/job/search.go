package job

import (
	"fmt"
	"slices"

	"github.com/fathom-train/fathom/compute/embedding"
	"github.com/fathom-train/fathom/compute/model"
	"github.com/fathom-train/fathom/compute/optim"
	"github.com/fathom-train/fathom/compute/random"
	"github.com/fathom-train/fathom/compute/supernet"
	"github.com/fathom-train/fathom/coordinator/search"
)

// Search makes a job a dimension search: it trains a supernet of the full
// widths, finds the width of every field's embedding, and trains the model of
// these widths anew.
type Search struct {
	// Strategy is one of search.Strategies (default evolution).
	Strategy string        `json:"strategy"`
	Budget   search.Budget `json:"budget"`
	// Pareto searches for the whole front of size and AUC; the smallest candidate
	// within the tolerance of the best is trained.
	Pareto bool `json:"pareto"`
	// Tolerance is how much AUC may be given up for a smaller candidate.
	Tolerance float64 `json:"tolerance"`
	// Widths may be chosen, ascending (default: 1, 2, ... up to the embedding_dim).
	Widths []int `json:"widths,omitempty"`
	// Rows are the shares of a field's rows that may be kept, the most important ones
	// (supernet.Importance), ascending to 1; empty: the search does not choose rows.
	Rows []float64 `json:"rows,omitempty"`
	// OOV lets a row that is dropped read as a vector that is learned for its field,
	// instead of zero.
	OOV bool `json:"oov"`
	// Generations, Population, Archive, Mutation, SeedSensitivity, SeedRelevance and Screen are those of
	// search.Config.
	Generations     int     `json:"generations"`
	Population      int     `json:"population"`
	Archive         int     `json:"archive"`
	Mutation        float64 `json:"mutation"`
	SeedSensitivity bool    `json:"seed_sensitivity"`
	SeedRelevance   bool    `json:"seed_relevance"`
	// Screen is the share of the validation rows that candidates are scored on
	// before the best of them are scored on all.
	Screen float64 `json:"screen"`
	// Epochs is how long the supernet is trained (default: train.epochs).
	Epochs int `json:"epochs,omitempty"`
	// Sampling says for what a prefix is drawn anew: sample (default), batch, or
	// none.
	Sampling string `json:"sampling"`
	// FullWidth is the probability that a sample keeps all its dimensions, at the
	// start; FullWidthLast what it has become at the end of the training.
	FullWidth     float32 `json:"full_width"`
	FullWidthLast float32 `json:"full_width_last"`
	// Progressive is the share of the supernet's steps over which narrower widths
	// join in, from the widest down.
	Progressive float64 `json:"progressive"`
	// Distillation is the weight of what the full width teaches the others, with
	// sampling all.
	Distillation float32 `json:"distillation"`
	// Gates configures the soft gates of strategies that learn them; nil for all
	// others.
	Gates *Gates `json:"gates,omitempty"`
	// Pruning learns a threshold per field, below which a row is dropped; nil
	// keeps all rows.
	Pruning *Pruning `json:"pruning,omitempty"`
	// KeepSupernet makes a checkpoint of the trained supernet, which stays: other
	// budgets and strategies can be searched with it.
	KeepSupernet bool `json:"keep_supernet"`
	// RetrainFrom says with which weights the winner's training begins: init
	// (default: those of the supernet's start), supernet, or fresh.
	RetrainFrom string `json:"retrain_from"`
}

// Pruning configures the thresholds.
type Pruning struct {
	// Kind is Hard (default) or Soft.
	Kind string `json:"kind"`
	// LearningRate is that of plain descent (hard, default 1e-4) or of Adam (soft,
	// default 0.01).
	LearningRate float32 `json:"learning_rate"`
	// Weight is that of the regulariser sum(exp(-t)) (hard, default 1e-4), or the
	// weight decay of s, where the threshold is sigmoid(s) (soft, default 1e-5).
	Weight float32 `json:"weight"`
	// Norm is l1 (default) or l2; of soft thresholds linf.
	Norm string `json:"norm"`
	// Per says what has a threshold: PerField (default), or every row its own
	// (PerFeature, hard ones only).
	Per string `json:"per"`
}

// The values of Pruning.Per.
const (
	PerField   = "field"
	PerFeature = "feature"
)

// The kinds of thresholds: a row is dropped whole (OptEmbed), or every weight is
// made smaller by the threshold, and a row of which nothing is left is dropped (PEP).
const (
	Hard = "hard"
	Soft = "soft"
)

// softStart is s at the start: a threshold of 3e-7 (PEP's for MovieLens).
const softStart = -15

// Gates configures the training of soft gates.
type Gates struct {
	// Kind is what dnis has a gate for: every field (GatePrefix, default) or every
	// dimension of every field (GateDimension). autodim has no choice.
	Kind string `json:"kind,omitempty"`
	// LearningRate is that of plain descent: default 0.02 of autodim, 0.01 of gates of
	// dimensions (AutoSrh), and of prefixes such that the penalty alone closes a gate so
	// far (GateReach), which 0 stands for.
	LearningRate float32 `json:"learning_rate"`
	// Penalty is that of an open gate, in units of the mean gradient.
	Penalty float32 `json:"penalty"`
	// Warmup is the share of the supernet's steps before the gates move.
	Warmup float32 `json:"warmup"`
	// Clusters is how many groups of samples have masks of their own, Hidden the width
	// of the hidden layer of the network that gives the gates of a sample (ihas).
	Clusters int `json:"clusters,omitempty"`
	Hidden   int `json:"hidden,omitempty"`
}

// ClustersMax and SelectorHiddenMax bound a selector.
const (
	ClustersMax       = 64
	SelectorHiddenMax = 4096
)

// The values of Gates.Kind.
const (
	GatePrefix    = "prefix"
	GateDimension = "dimension"
)

// GateReach is how far the penalty alone would close a prefix gate of dnis after the
// warm-up, when no learning rate is given (1: to nothing): a field that needs no
// dimension has no other gradient that is the same in all steps. With 2, and a penalty
// of 0.5, the gates of all fields closed.
const GateReach = 0.5

// OOVKey is the key of the row that dropped rows read as, with OOV.
const OOVKey = embedding.OOVKey

// GateTensor is the name of the dense tensor of the gates, behind the thresholds.
const GateTensor = "supernet.gates"

// gateKinds are the gates of the strategies that learn them on the validation split.
var gateKinds = map[string]supernet.GateKind{search.DNIS: supernet.PrefixGate, search.AutoDim: supernet.ChoiceGate}

// HeldGates tells whether there are gates that are trained on the validation split.
func (s *Search) HeldGates() bool { return gateKinds[s.Strategy] != "" }

// ByDimension tells whether single dimensions are chosen, instead of prefixes.
func (s *Search) ByDimension() bool { return s.Gates != nil && s.Gates.Kind == GateDimension }

// Gates describes the soft gates of a supernet that has them, for so many fields.
func (j *Job) Gates(fields int) supernet.Gates {
	g := supernet.Gates{Kind: gateKinds[j.Spec.Search.Strategy], Fields: fields, Width: j.Spec.Model.EmbeddingDim, Choices: j.Choices()}
	if j.Spec.Search.ByDimension() {
		g.Kind = supernet.ElementGate
	}
	return g
}

// The values of Search.RetrainFrom.
const (
	FromInit     = "init"
	FromSupernet = "supernet"
	FromFresh    = "fresh"
)

// ThresholdTensor is the name of the dense tensor of the thresholds, one per
// table, behind those of the network.
const ThresholdTensor = "supernet.thresholds"

func (s Search) withDefaults(t Train) Search {
	c := s.config(0).WithDefaults()
	s.Strategy, s.Generations, s.Population, s.Archive, s.Mutation, s.Screen = c.Strategy, c.Generations, c.Population, c.Archive, c.Mutation, c.Screen
	setDefault(&s.Epochs, t.Epochs)
	if s.HeldGates() || s.Strategy == search.IHAS {
		setDefault(&s.Sampling, string(supernet.FullWidth))
		g := Gates{}
		if s.Gates != nil {
			g = *s.Gates
		}
		s.Gates = g.withDefaults(s.Strategy)
	}
	if s.Strategy == search.PEP {
		setDefault(&s.Sampling, string(supernet.FullWidth))
	}
	setDefault(&s.Sampling, string(supernet.PerSample))
	setDefault(&s.RetrainFrom, FromInit)
	if s.Pruning == nil && s.Strategy == search.PEP {
		s.Pruning = &Pruning{}
	}
	if s.Pruning != nil {
		p := *s.Pruning
		if s.Strategy == search.PEP {
			setDefault(&p.Kind, Soft)
		}
		setDefault(&p.Kind, Hard)
		if p.Kind == Soft {
			setDefault(&p.LearningRate, 0.01)
			setDefault(&p.Weight, 1e-5)
			setDefault(&p.Norm, string(supernet.LInf))
		}
		setDefault(&p.LearningRate, 1e-4)
		setDefault(&p.Weight, 1e-4)
		setDefault(&p.Norm, string(supernet.L1))
		setDefault(&p.Per, PerField)
		s.Pruning = &p
	}
	return s
}

func (g Gates) withDefaults(strategy string) *Gates {
	setDefault(&g.Warmup, 0.3)
	switch strategy {
	case search.DNIS:
		setDefault(&g.Kind, GatePrefix)
		if g.Kind == GatePrefix {
			setDefault(&g.Penalty, 0.1)
		} else {
			setDefault(&g.LearningRate, 0.01)
		}
	case search.IHAS:
		setDefault(&g.LearningRate, 0.001)
		setDefault(&g.Penalty, 0.03)
		setDefault(&g.Clusters, 4)
		setDefault(&g.Hidden, 32)
	default:
		setDefault(&g.LearningRate, 0.02)
	}
	return &g
}

// config is the search's own configuration.
func (s Search) config(seed uint64) search.Config {
	return search.Config{Strategy: s.Strategy, Seed: seed, Budget: s.Budget, Tolerance: s.Tolerance, Pareto: s.Pareto,
		Generations: s.Generations, Population: s.Population, Archive: s.Archive, Mutation: s.Mutation, Screen: s.Screen, SeedSensitivity: s.SeedSensitivity, SeedRelevance: s.SeedRelevance}
}

// SearchConfig is the configuration of the job's search, which there must be.
func (j *Job) SearchConfig() search.Config { return j.Spec.Search.config(j.Spec.Train.Seed) }

// DropsRows tells whether the winner may lack rows that the supernet has.
func (s *Search) DropsRows() bool { return s.Pruning != nil || len(s.Rows) > 0 }

// RowNorm is what rows of a supernet are measured by.
func (j *Job) RowNorm() supernet.Norm {
	if p := j.Spec.Search.Pruning; p != nil {
		return supernet.Norm(p.Norm)
	}
	return supernet.L1
}

// Choices are the widths a field may get.
func (j *Job) Choices() []int {
	if w := j.Spec.Search.Widths; len(w) > 0 {
		return w
	}
	all := make([]int, j.Spec.Model.EmbeddingDim)
	for i := range all {
		all[i] = i + 1
	}
	return all
}

// Supernet is the job of the first stage: the same, for as long as the supernet
// is trained.
func (j *Job) Supernet() *Job {
	s := *j
	s.Spec.Train.Epochs = j.Spec.Search.Epochs
	return &s
}

// Retrain is the job of the last stage: without a search, every table as wide as
// found, or with the dimensions found where dims is not nil. Of width 0 only the first-order weights are left, and where rows may be
// dropped they have tables of their own, because a dropped row keeps its.
func (j *Job) Retrain(widths []int, dims [][]int) (*Job, error) {
	tables, err := j.Tables()
	if err != nil {
		return nil, err
	}
	r := *j
	r.Spec.Search = nil
	r.Spec.Embedding.Fields, r.Spec.Embedding.Selector = nil, j.selectorSpec()
	for i, t := range tables {
		f := embedding.Field{Name: t.Name, Width: widths[i], OwnLinear: j.Spec.Search.DropsRows(), OOV: j.Spec.Search.OOV}
		if dims != nil {
			f.Dims = dims[i]
		}
		if widths[i] == 0 {
			f = embedding.Field{Name: t.Name, Method: embedding.None}
		}
		r.Spec.Embedding.Fields = append(r.Spec.Embedding.Fields, f)
	}
	if left, err := r.Tables(); err != nil || len(left) > 0 {
		return &r, err
	}
	return nil, fmt.Errorf("all fields have the width 0, and model %s has no first-order weights: there is nothing to train; leave the width 0 out of spec.search.widths", j.Spec.Model.Name)
}

// gates is the tensor of the soft gates, all open.
func (j *Job) gates(id, fields int) Dense {
	g := j.Gates(fields)
	rate := j.Spec.Search.Gates.LearningRate
	if rate == 0 {
		rate = 1 // the gradients are scaled: workers know the number of steps
	}
	d := Dense{ID: uint16(id), Name: GateTensor, Size: g.Size(), Optimizer: optim.Config{Name: optim.SGD, LearningRate: rate}}
	switch g.Kind {
	case supernet.PrefixGate:
		d.Init = random.Init{Kind: random.Constant, Scale: float32(g.Width)}
	case supernet.ElementGate:
		d.Init = random.Init{Kind: random.Constant, Scale: 1}
	}
	return d
}

// thresholds is the tensor of the pruning thresholds of a supernet, which has
// the given number.
func (j *Job) thresholds(id int, tables int) Dense {
	if p := j.Spec.Search.Pruning; p.Kind == Soft {
		return Dense{ID: uint16(id), Name: ThresholdTensor, Size: tables, Init: random.Init{Kind: random.Constant, Scale: softStart},
			Optimizer: optim.Config{Name: optim.Adam, LearningRate: p.LearningRate, WeightDecay: p.Weight}.WithDefaults()}
	}
	return Dense{ID: uint16(id), Name: ThresholdTensor, Size: tables, Init: random.Init{},
		Optimizer: j.thresholdDescent()}
}

// thresholdDescent trains hard thresholds.
func (j *Job) thresholdDescent() optim.Config {
	return optim.Config{Name: optim.SGD, LearningRate: j.Spec.Search.Pruning.LearningRate}
}

// search checks what makes a search possible.
func (c *checker) search(j *Job) {
	const path = "spec.search"
	s := j.Spec.Search
	if s == nil {
		return
	}
	if !j.Spec.Data.validates() {
		c.fault(path, "needs validation data to score candidates by: add spec.data.valid")
	}
	if e := j.Spec.Embedding; e.Method != embedding.Rows || e.Tables != embedding.PerField || e.Width != 0 || len(e.Fields) > 0 || e.Selector != nil {
		c.fault("spec.embedding", "a search decides about the tables itself: remove it, or remove spec.search")
	}
	dim := j.Spec.Model.EmbeddingDim
	if m, err := j.model(); err == nil {
		if !embeds(m, dim) {
			c.fault(path, "model %s does not have one embedding of embedding_dim per field, so its widths cannot be searched", j.Spec.Model.Name)
		}
	}
	for i, w := range s.Widths {
		if w < 0 || w > dim || i > 0 && w <= s.Widths[i-1] {
			c.fault(at(path+".widths", i), "%d: widths must ascend, from 0 or above to the embedding_dim of %d", w, dim)
		}
	}
	if n := len(s.Widths); n > 0 && s.Widths[n-1] != dim {
		c.fault(path+".widths", "the last one must be the embedding_dim, %d: it is what the supernet has", dim)
	}
	for i, share := range s.Rows {
		if share <= 0 || share > 1 || i > 0 && share <= s.Rows[i-1] {
			c.fault(at(path+".rows", i), "%v: shares must ascend, from above 0 to 1", share)
		}
	}
	if n := len(s.Rows); n > 0 && s.Rows[n-1] != 1 {
		c.fault(path+".rows", "the last one must be 1: all rows")
	}
	if s.Gates != nil && len(s.Rows) > 0 {
		c.fault(path+".rows", "strategy %s learns widths only: remove it, or choose another strategy", s.Strategy)
	}
	if s.FullWidth < s.FullWidthLast {
		c.fault(path+".full_width_last", "%v is above full_width: the schedule goes from wide to narrow", s.FullWidthLast)
	}
	if j.Spec.Train.Mode == ModeAsync {
		c.fault("spec.train.mode", "a search needs mode sync: an async supernet is another one in every run, and so would be the winner")
	}
	c.gates(j)
	if n := len(j.Choices()); s.Sampling == string(supernet.EveryWidth) && n > everyWidthMax {
		c.fault(path+".widths", "sampling all trains every width in every step: list at most %d, there are %d", everyWidthMax, n)
	}
	if s.Distillation > 0 && s.Sampling != string(supernet.EveryWidth) {
		c.fault(path+".distillation", "only sampling all has the full width at hand in every step: set spec.search.sampling to all, or remove it")
	}
	c.pruning(s)
	if s.OOV && (!s.DropsRows() || s.Pruning != nil && s.Pruning.Kind == Soft) {
		c.fault(path+".oov", "stands in for rows that are dropped whole: add spec.search.pruning or rows, without soft thresholds")
	}
	if err := s.Budget.Validate(); err != nil {
		c.fault(path+".budget", "%v", err)
	}
}

// embeds tells whether a model has one embedding of the width per field.
func embeds(m model.Model, dim int) bool {
	columns := m.Columns()
	return len(columns) <= 2 && slices.ContainsFunc(columns, func(c model.Column) bool { return c.Name == model.Embedding && c.Width == dim })
}

// pruning checks the thresholds.
func (c *checker) pruning(s *Search) {
	const path = "spec.search.pruning"
	p := s.Pruning
	if p == nil {
		return
	}
	if p.LearningRate <= 0 {
		c.fault(path+".learning_rate", "%v is not above 0", p.LearningRate)
	}
	if p.Kind == Soft && p.Per == PerFeature {
		c.fault(path+".per", "soft thresholds are of whole fields: leave it out, or set kind to hard")
	}
	if soft := p.Kind == Soft; soft != (p.Norm == string(supernet.LInf)) {
		c.fault(path+".norm", "%s does not go with kind %s: leave it out", p.Norm, p.Kind)
	} else if soft && len(s.Rows) > 0 {
		c.fault("spec.search.rows", "soft thresholds choose the rows themselves: remove it, or spec.search.pruning")
	} else if !soft && s.Strategy == search.PEP {
		c.fault(path+".kind", "strategy pep learns soft thresholds: set it to soft, or leave it out")
	}
}

// everyWidthMax bounds the widths that are all trained in every step.
const everyWidthMax = 8

// gates checks what strategies that learn gates need.
func (c *checker) gates(j *Job) {
	const path = "spec.search.gates"
	s := j.Spec.Search
	if s.Gates == nil {
		return
	}
	if !s.HeldGates() && s.Strategy != search.IHAS {
		c.fault(path, "strategy %s learns no gates: remove it, or choose dnis, autodim or ihas", s.Strategy)
		return
	}
	if s.Strategy != search.DNIS && s.Gates.Kind != "" {
		c.fault(path+".kind", "is a setting of dnis: remove it")
	}
	if s.Strategy != search.IHAS && (s.Gates.Clusters != 0 || s.Gates.Hidden != 0) {
		c.fault(path, "clusters and hidden are settings of ihas: remove them")
	}
	if s.HeldGates() && j.Spec.Train.ClipNorm > 0 {
		c.fault("spec.train.clip_norm", "the gates of strategy %s have gradients of another scale, which would count in the norm: remove it", s.Strategy)
	}
	if s.Sampling == string(supernet.EveryWidth) {
		c.fault("spec.search.sampling", "strategy %s has gates instead: use none, sample or batch", s.Strategy)
	}
}

var searchRules = map[string]rule{
	"spec.search":                       means("Finds how wide the embedding of every field needs to be: trains a supernet, searches on the validation split, and trains the winner anew. docs/search.md explains it.").byDefault("none: the model is trained as it is"),
	"spec.search.strategy":              means("evolution: OptEmbed's, with elitism, crossover and mutation. guided: the same, children chosen by a regression on the scores so far. random: as many random candidates. sensitivity: narrows one field at a time, then combines what costs least. ard: keeps the dimensions of the supernet's rows that vary most. pep: the same, of what soft thresholds leave of the rows. dnis: a soft width per field, learned on the validation split. autodim: probabilities of the widths, likewise. ihas: gates of single samples; every cluster of samples has its own dimensions, in the model that is trained last, too. uniform: one width for all fields. mde: the power rule of mixed dimensions.").of(search.Strategies()...),
	"spec.search.budget":                means("Bound of the embedding weights of the result: one of bytes, params and fraction, or none."),
	"spec.search.budget.bytes":          means("Memory of the embedding weights.").in(0, 1<<50).byDefault("no bound"),
	"spec.search.budget.params":         means("Number of the embedding weights.").in(0, 1<<48).byDefault("no bound"),
	"spec.search.budget.fraction":       means("Their share of the supernet's, all rows at full width.").in(0, 1).byDefault("no bound"),
	"spec.search.pareto":                means("Search for the whole front of size and AUC. The smallest candidate within the tolerance of the best is trained."),
	"spec.search.tolerance":             means("How much validation AUC may be given up for a smaller candidate. Above 0, the winner is trimmed: fields are narrowed as long as the AUC stays within it.").in(0, 0.5),
	"spec.search.widths":                means("Widths that may be chosen, ascending; the last one is the embedding_dim. With 0 among them a field may lose its embedding; its first-order weights stay, in models that have them.").byDefault("1, 2, ... up to the embedding_dim"),
	"spec.search.rows":                  means("Shares of a field's rows that may be kept, ascending; the last one is 1. The rows are kept whose norm in the supernet, times the variance of the labels of their value in training, summed over its samples, is largest; the others lose their embedding, but not their first-order weight. The search chooses a share for every field beside its width (not dnis, autodim, ihas).").byDefault("none: all rows are kept, or those above the thresholds of pruning"),
	"spec.search.oov":                   means("A dropped row reads as a vector that is learned for its field, instead of zero; it is one more row of the field, which is counted."),
	"spec.search.generations":           means("Generations of evolution, guided and random.").in(1, 10000),
	"spec.search.population":            means("Candidates of a generation.").in(1, 1000),
	"spec.search.archive":               means("Best candidates that parents are drawn from.").in(1, 1000),
	"spec.search.mutation":              means("Probability that a mutation draws the width of a field anew.").in(1e-6, 1),
	"spec.search.seed_sensitivity":      means("Begin evolution with the candidates of sensitivity."),
	"spec.search.screen":                means("Share of the validation rows that every candidate is scored on first. Those that do best there, a quarter of a generation, are scored on all rows; only they can win. 1 scores all candidates on all rows.").in(0.001, 1),
	"spec.search.seed_relevance":        means("Begin evolution with the candidates of ard."),
	"spec.search.epochs":                means("Passes over the training split for the supernet.").in(1, 10000).byDefault("spec.train.epochs"),
	"spec.search.sampling":              means("For what the width of a field is drawn anew while the supernet is trained: every sample, every batch, or never (none). all: every step trains every width, the same for all fields (Matryoshka).").byDefault("sample; of dnis, autodim and ihas none").of(string(supernet.EveryWidth), string(supernet.PerSample), string(supernet.PerBatch), string(supernet.FullWidth)),
	"spec.search.full_width":            means("Probability that a sample keeps the full width of all fields.").in(0, 1),
	"spec.search.full_width_last":       means("What full_width has become at the end of the supernet's training, in a straight line (a progressive schedule). Only used when full_width is above 0.").in(0, 1),
	"spec.search.progressive":           means("Share of the supernet's steps over which narrower widths join in, one after the other from the widest down (a progressive schedule). 0: all are trained from the start.").in(0, 1),
	"spec.search.distillation":          means("Weight of what the full width teaches the others, with sampling all: the cross entropy with its probabilities.").in(0, 100),
	"spec.search.gates":                 means("Gates: soft ones, which dnis and autodim learn on the validation split, or those of single samples (ihas).").byDefault("those of the strategy"),
	"spec.search.gates.kind":            means("What dnis has a gate for. prefix: every field, its width. dimension: every dimension of every field; the winner then keeps any dimensions, those whose gate times root mean square is largest.").of("", GatePrefix, GateDimension).byDefault("prefix"),
	"spec.search.gates.learning_rate":   means("Learning rate of the gates, whose gradients are divided by their mean size; of ihas that of Adam for the network.").in(0, 1e6).byDefault("0.001 of ihas, 0.02 of autodim, 0.01 of dnis by dimension; of prefixes what lets the penalty alone close half of a gate in the steps after the warm-up"),
	"spec.search.gates.penalty":         means("What an open dimension costs, in units of the mean gradient (dnis), or the weight of the regulariser (ihas).").in(0, 1e6).byDefault("0.1 of prefixes, 0.03 of ihas, else 0"),
	"spec.search.gates.clusters":        means("How many groups of samples have dimensions of their own (ihas).").in(0, ClustersMax).byDefault("4, of ihas"),
	"spec.search.gates.hidden":          means("Width of the hidden layer of the network that gives the gates of a sample (ihas).").in(0, SelectorHiddenMax).byDefault("32, of ihas"),
	"spec.search.gates.warmup":          means("Share of the supernet's steps before the gates move.").in(0, 1).byDefault("0.3"),
	"spec.search.pruning":               means("Learn a threshold for every field; rows whose norm is below it are dropped.").byDefault("none: all rows are kept"),
	"spec.search.pruning.kind":          means("hard: a row whose norm is not above the threshold reads as zero (OptEmbed). soft: every weight is made smaller by the threshold, sigmoid(s), and a row of which nothing is left is dropped (PEP).").of(Hard, Soft).byDefault("hard; of strategy pep soft"),
	"spec.search.pruning.learning_rate": means("Learning rate of the thresholds: of plain descent (hard), or of s by Adam (soft; it grows by about this much per step, from -15).").in(0, 1e6).byDefault("0.0001; of soft ones 0.01"),
	"spec.search.pruning.weight":        means("Weight of the regulariser, the sum of exp(-threshold) (hard), or weight decay of s (soft).").in(0, 1e6).byDefault("0.0001; of soft ones 0.00001"),
	"spec.search.pruning.norm":          means("Norm of a row (hard).").of(string(supernet.L1), string(supernet.L2), string(supernet.LInf)).byDefault("l1; of soft thresholds linf, the largest weight"),
	"spec.search.pruning.per":           means("What has a threshold of its own: every field, or every feature, which is a row (hard). A row's is the sum of a part that all rows of its field share, which only the regulariser moves, and of one that only the loss moves.").of(PerField, PerFeature).byDefault(PerField),
	"spec.search.keep_supernet":         means("Make a checkpoint of the trained supernet and keep it. `fathom run --restore` searches with it for other budgets or by other strategies; the result names it. spec.checkpoint.dir must be set (fathom run does so)."),
	"spec.search.retrain_from":          means("First weights of the winner: those the supernet began with (init), those it ended with (supernet), or others (fresh).").of(FromInit, FromSupernet, FromFresh),
}
