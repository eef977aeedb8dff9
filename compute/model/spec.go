package model

import (
	"errors"
	"fmt"
	"strings"
)

// Limits of a specification; they bound what one job can ask for.
const (
	EmbeddingDimMax = 1024
	HiddenLayersMax = 16
	HiddenWidthMax  = 1 << 16
	FieldsMax       = 1 << 12
	// ColumnWidthMax bounds the columns of an embedding row.
	ColumnWidthMax = 1 << 13
	// TensorSizeMax is the largest number of elements of one dense tensor.
	TensorSizeMax = 1 << 28
)

// ErrSpec is wrapped by every error about a specification.
var ErrSpec = errors.New("model specification")

// Spec chooses a model and its sizes. An option that the model does not have
// must be left at its zero value.
type Spec struct {
	// Name is one of Names.
	Name string `json:"name"`
	// EmbeddingDim is the width of the embedding of one key (all but lr; default 10).
	EmbeddingDim int `json:"embedding_dim,omitempty"`
	// Hidden lists the widths of the hidden layers of the network (default 400, 400, 400).
	Hidden []int `json:"hidden,omitempty"`
	// Dropout is the probability that a hidden unit, or an attention weight, is
	// dropped in training.
	Dropout float32 `json:"dropout,omitempty"`
	// BatchNorm normalises every hidden layer before its activation.
	BatchNorm bool `json:"batch_norm,omitempty"`
	// Tower is the shape of the networks: MLP (the default, empty), Hourglass or
	// Parallel. The latter two are residual blocks, one for each width of Hidden,
	// that add to a vector of TowerWidth (default 400); NormPlacement is PreNorm
	// (the default) or PeriNorm, which also places the norms of attention layers.
	Tower         string `json:"tower,omitempty"`
	TowerWidth    int    `json:"tower_width,omitempty"`
	NormPlacement string `json:"norm_placement,omitempty"`

	// CrossLayers is the number of cross layers (dcn, dcnv2; default 3).
	CrossLayers int `json:"cross_layers,omitempty"`
	// CrossStructure says how cross layers and network are combined: Parallel
	// (the default), Stacked (dcnv2) or CrossNetOnly (dcn, dcnv2).
	CrossStructure string `json:"cross_structure,omitempty"`
	// LowRank makes every cross layer a mixture of experts of this rank (dcnv2).
	LowRank int `json:"low_rank,omitempty"`
	// Experts is the number of experts of the mixture (dcnv2; default 4).
	Experts int `json:"experts,omitempty"`
	// CINUnits lists the feature maps of the layers of the compressed interaction
	// network (xdeepfm; default 16, 16, 16).
	CINUnits []int `json:"cin_units,omitempty"`
	// AttentionLayers is the number of attention layers (autoint; default 2).
	AttentionLayers int `json:"attention_layers,omitempty"`
	// AttentionDim is the width of an attention layer (autoint: of all heads
	// together, default 8; afm: default 10).
	AttentionDim int `json:"attention_dim,omitempty"`
	// Heads cuts the width of attention (autoint) or fusion (finalmlp) into parts
	// of their own; default 1.
	Heads int `json:"heads,omitempty"`
	// Residual adds the input of an attention layer to its output (autoint;
	// default true).
	Residual *bool `json:"residual,omitempty"`
	// Scale divides attention scores by the root of a head's width (autoint).
	Scale bool `json:"scale,omitempty"`
	// LayerNorm normalises the output of an attention layer (autoint).
	LayerNorm bool `json:"layer_norm,omitempty"`
	// Wide adds the first-order weights (autoint).
	Wide bool `json:"wide,omitempty"`
	// LinearType is the first-order part of fwfm: a weight per key (LW), a vector
	// per key (FeLV) or a vector per field (FiLV, the default).
	LinearType string `json:"linear_type,omitempty"`
	// Interaction is what dlrm's network sees: the dot products of all pairs of
	// embeddings (dot, the default) or the embeddings (cat).
	Interaction string `json:"interaction,omitempty"`
	// Hidden2, Dropout2 and BatchNorm2 are those of finalmlp's second network;
	// Dropout2 is also the dropout of afm's pooled products.
	Hidden2    []int   `json:"hidden2,omitempty"`
	Dropout2   float32 `json:"dropout2,omitempty"`
	BatchNorm2 bool    `json:"batch_norm2,omitempty"`
	// GateHidden lists the hidden layers of the gates in front of finalmlp's
	// networks; without it there are no gates.
	GateHidden []int `json:"gate_hidden,omitempty"`
	// Context1 and Context2 are the numbers, from 0, of the fields that steer the
	// first and the second gate; without any a gate is the same for all samples.
	Context1 []int `json:"context1,omitempty"`
	Context2 []int `json:"context2,omitempty"`
}

// definition is what a model's file contributes: which options it has and how
// it is built from a valid specification.
type definition struct {
	name string
	// embedding and network tell whether EmbeddingDim, and whether Hidden,
	// Dropout and BatchNorm, mean something to the model.
	embedding, network bool
	// options are the further options the model has.
	options option
	// defaults fills in options whose default is the model's own; nil for none.
	defaults func(s *Spec)
	// faults reports what is wrong between options, each text starting with an
	// option's name; nil for nothing. Fields is 0 where it is not known yet.
	faults func(s Spec, fields int) []string
	build  func(s Spec, fields int) Model
}

// definitions lists the models in the order Names reports them.
var definitions = []definition{
	lrDefinition, fmDefinition, dnnDefinition, wideDeepDefinition, deepFMDefinition, fnnDefinition, ipnnDefinition,
	dcnDefinition, dcnV2Definition, xDeepFMDefinition, autoIntDefinition, autoIntPlusDefinition,
	nfmDefinition, afmDefinition, fwfmDefinition, ffmDefinition, dlrmDefinition, finalMLPDefinition,
}

// Names returns the names of the models.
func Names() []string {
	names := make([]string, len(definitions))
	for i, d := range definitions {
		names[i] = d.name
	}
	return names
}

// find returns the definition of the named model.
func find(name string) (definition, bool) {
	for _, d := range definitions {
		if d.name == name {
			return d, true
		}
	}
	return definition{}, false
}

// WithDefaults fills what was left at its zero value and has a default.
func (s Spec) WithDefaults() Spec {
	d, ok := find(s.Name)
	if !ok {
		return s
	}
	if d.embedding && s.EmbeddingDim == 0 {
		s.EmbeddingDim = 10
	}
	if d.hasNetwork(s) && len(s.Hidden) == 0 {
		s.Hidden = s.defaultHidden()
	}
	s.towerDefaults()
	if d.defaults != nil {
		d.defaults(&s)
	}
	return s
}

// Validate reports all faults of a specification with defaults filled in,
// joined; each one starts with the option at fault.
func (s Spec) Validate() error {
	d, ok := find(s.Name)
	if !ok {
		return fmt.Errorf("%w: name: no model %q; known: %s", ErrSpec, s.Name, strings.Join(Names(), ", "))
	}
	var faults faultList
	switch {
	case !d.embedding && s.EmbeddingDim != 0:
		faults.add("embedding_dim: model %s has no embeddings; remove it", s.Name)
	case d.embedding && (s.EmbeddingDim < 1 || s.EmbeddingDim > EmbeddingDimMax):
		faults.add("embedding_dim: %d is not in [1, %d]", s.EmbeddingDim, EmbeddingDimMax)
	}
	if d.hasNetwork(s) {
		faults.widths("hidden", s.Hidden)
		s.checkTower(&faults)
	} else if len(s.Hidden) != 0 || s.BatchNorm || s.Tower != "" || s.Dropout != 0 && d.options&dropout == 0 {
		name := s.Name
		if d.network {
			name += " with cross_structure " + CrossNetOnly
		}
		faults.add("hidden, dropout, batch_norm, tower: model %s has no hidden layers; remove them", name)
	} else {
		s.checkNoTower(&faults)
	}
	faults.probability("dropout", s.Dropout)
	s.checkOptions(d, &faults)
	if d.faults != nil {
		for _, text := range d.faults(s, 0) {
			faults.add("%s", text)
		}
	}
	return errors.Join(faults...)
}
