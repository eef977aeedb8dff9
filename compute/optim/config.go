package optim

// The names of the optimizers.
const (
	LAMB       = "lamb"
	LARS       = "lars"
	Adam       = "adam"
	AdamW      = "adamw"
	CowClip    = "cowclip"
	SGD        = "sgd"
	AdaGrad    = "adagrad"
	RowAdaGrad = "row_adagrad"
	FTRL       = "ftrl"
	EMA        = "ema"
)

// Names returns the names of the optimizers that train.
func Names() []string {
	return []string{LAMB, LARS, Adam, AdamW, CowClip, SGD, AdaGrad, RowAdaGrad, FTRL}
}

// What is one layer of lamb or lars in a table.
const (
	Row   = "row"
	Field = "field"
	Table = "table"
)

// The conventions of lamb: those of TensorFlow Addons and of NVIDIA Apex.
const (
	TFA  = "tfa"
	Apex = "apex"
)

// The schedules of the learning rate.
const (
	Constant = "constant"
	StepDown = "step"
	Cosine   = "cosine"
	Linear   = "linear"
)

// Config names an optimizer and its settings. The zero value of a setting
// means its default (WithDefaults).
type Config struct {
	// Name is one of Names, or ema.
	Name         string  `json:"name,omitempty"`
	LearningRate float32 `json:"learning_rate,omitempty"`
	// Beta1 and Beta2 are the decay rates of the two moments of lamb, adam, adamw
	// and cowclip.
	Beta1   float32 `json:"beta1,omitempty"`
	Beta2   float32 `json:"beta2,omitempty"`
	Epsilon float32 `json:"epsilon,omitempty"`
	// WeightDecay is decoupled in lamb (inside the update, so inside the trust
	// ratio) and adamw, and an L2 term of the gradient in the others.
	WeightDecay float32 `json:"weight_decay,omitempty"`
	// EveryRow updates the rows of a table at every step, with a gradient of zero
	// where the step does not reach them, as dense matrices are updated.
	EveryRow bool `json:"every_row,omitempty"`
	// Momentum is that of sgd and lars, or the share of the new value in ema.
	Momentum float32 `json:"momentum,omitempty"`
	// Nesterov looks ahead by the momentum (sgd).
	Nesterov bool `json:"nesterov,omitempty"`

	// Granularity is what one layer of lamb or lars is in a table: row, field or
	// table. In a network it is always a tensor.
	Granularity string `json:"granularity,omitempty"`
	// Convention is that of lamb. apex has the ratio 1 where nothing decays.
	Convention string `json:"convention,omitempty"`
	// Coupled makes lamb's weight decay an L2 term of the gradient.
	Coupled bool `json:"coupled,omitempty"`
	// SumGradients adds whole gradients to lamb's first moment, not 1-beta1 of them.
	SumGradients bool `json:"sum_gradients,omitempty"`
	// TrustFloor is the least weight norm lamb and lars reckon with; 0: none, and a
	// layer of zeros has the ratio 1.
	TrustFloor float32 `json:"trust_floor,omitempty"`
	// TrustMin and TrustMax clip the trust ratio; a TrustMax of 0 is none.
	TrustMin float32 `json:"trust_min,omitempty"`
	TrustMax float32 `json:"trust_max,omitempty"`
	// ExcludeVectors leaves the tensors of one dimension of a network, that is biases
	// and the scales of norms, without weight decay and with a trust ratio of 1 (lamb,
	// lars), as the recipes of both conventions do. ForTensor applies it.
	ExcludeVectors bool `json:"exclude_vectors,omitempty"`
	// TrustCoefficient is the ratio of norms that lars aims at.
	TrustCoefficient float32 `json:"trust_coefficient,omitempty"`

	// ClipRatio and ClipFloor bound the norm of a row's gradient in cowclip.
	ClipRatio float32 `json:"clip_ratio,omitempty"`
	ClipFloor float32 `json:"clip_floor,omitempty"`

	// Accumulator is what adagrad's, row_adagrad's and ftrl's sums of squares begin
	// with.
	Accumulator float32 `json:"accumulator,omitempty"`
	// Smoothing is ftrl's beta, L1 its first-order penalty; its second-order
	// penalty is WeightDecay.
	Smoothing float32 `json:"smoothing,omitempty"`
	L1        float32 `json:"l1,omitempty"`

	// WarmupSteps is over how many steps the rate rises from 0.
	WarmupSteps int64 `json:"warmup_steps,omitempty"`
	// Schedule is what the rate does behind the warm-up: constant (default), step
	// (times DecayRate every DecaySteps), cosine or linear (down to LeastRate of it
	// over DecaySteps).
	Schedule   string  `json:"schedule,omitempty"`
	DecaySteps int64   `json:"decay_steps,omitempty"`
	DecayRate  float32 `json:"decay_rate,omitempty"`
	LeastRate  float32 `json:"least_rate,omitempty"`
}

// WithDefaults returns the configuration with every setting that is zero at
// its default. They are those of the papers or, where these name none, of
// PyTorch and TensorFlow.
func (c Config) WithDefaults() Config {
	or := func(p *float32, def float32) {
		if *p == 0 {
			*p = def
		}
	}
	if c.Name == "" {
		c.Name = LAMB
	}
	switch c.Name {
	case LAMB, Adam, AdamW, CowClip:
		or(&c.LearningRate, 1e-3)
		or(&c.Beta1, 0.9)
		or(&c.Beta2, 0.999)
		or(&c.Epsilon, map[string]float32{LAMB: 1e-6}[c.Name])
		or(&c.Epsilon, 1e-8)
	case SGD, AdaGrad, RowAdaGrad:
		or(&c.LearningRate, 1e-2)
	case LARS:
		or(&c.LearningRate, 1e-2)
		or(&c.Momentum, 0.9)
		or(&c.TrustCoefficient, 1e-3)
	case FTRL:
		or(&c.LearningRate, 5e-2)
		or(&c.Smoothing, 1)
	case EMA:
		or(&c.Momentum, 0.1)
	}
	switch c.Name {
	case LAMB:
		if c.Convention == "" {
			c.Convention = TFA
		}
	case AdamW:
		or(&c.WeightDecay, 1e-2)
	case CowClip:
		or(&c.ClipRatio, 1)
		or(&c.ClipFloor, 1e-5)
	case AdaGrad, RowAdaGrad:
		or(&c.Epsilon, 1e-10)
	}
	if c.Layerwise() && c.Granularity == "" {
		c.Granularity = Row
	}
	switch {
	case c.Name == EMA:
	case c.Schedule == "":
		c.Schedule = Constant
	case c.Schedule == StepDown:
		or(&c.DecayRate, 0.1)
	}
	return c
}

// Unclipped returns what updates weights that are no rows of embeddings: adam
// instead of cowclip.
func (c Config) Unclipped() Config {
	if c.Name == CowClip {
		c.Name, c.ClipRatio, c.ClipFloor = Adam, 0, 0
	}
	return c
}

// Dense returns what updates the tensors of a network where nothing else is said:
// a tensor is no row.
func (c Config) Dense() Config {
	c = c.Unclipped()
	if c.Name == RowAdaGrad {
		c.Name = AdaGrad
	}
	if c.Layerwise() {
		c.Granularity = Row
	}
	c.EveryRow = false
	return c
}

// ForTensor returns what updates a tensor of a network with so many dimensions.
func (c Config) ForTensor(dimensions int) Config {
	if c.ExcludeVectors && dimensions == 1 {
		c.WeightDecay, c.TrustFloor, c.TrustMin, c.TrustMax = 0, 0, 1, 1
	}
	c.ExcludeVectors = false
	return c
}

// Layerwise reports whether the update depends on norms of the whole layer.
func (c Config) Layerwise() bool { return c.Name == LAMB || c.Name == LARS }
