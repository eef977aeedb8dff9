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
	// EmbeddingDim is the width of the embedding of one key (fm, deepfm; default 10).
	EmbeddingDim int `json:"embedding_dim,omitempty"`
	// Hidden lists the widths of the hidden layers (deepfm; default 400, 400, 400).
	Hidden []int `json:"hidden,omitempty"`
	// Dropout is the probability that a hidden unit is dropped in training (deepfm).
	Dropout float32 `json:"dropout,omitempty"`
	// BatchNorm normalises every hidden layer before its activation (deepfm).
	BatchNorm bool `json:"batch_norm,omitempty"`
}

// definition is what a model's file contributes: which options it has and how
// it is built from a valid specification.
type definition struct {
	name string
	// embedding and network tell whether EmbeddingDim, and whether Hidden,
	// Dropout and BatchNorm, mean something to the model.
	embedding, network bool
	build              func(s Spec, fields int) Model
}

// definitions lists the models in the order Names reports them.
var definitions = []definition{lrDefinition, fmDefinition, deepFMDefinition}

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
	if d.network && len(s.Hidden) == 0 {
		s.Hidden = []int{400, 400, 400}
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
	var faults []error
	fault := func(format string, args ...any) {
		faults = append(faults, fmt.Errorf("%w: "+format, append([]any{ErrSpec}, args...)...))
	}
	switch {
	case !d.embedding && s.EmbeddingDim != 0:
		fault("embedding_dim: model %s has no embeddings; remove it", s.Name)
	case d.embedding && (s.EmbeddingDim < 1 || s.EmbeddingDim > EmbeddingDimMax):
		fault("embedding_dim: %d is not in [1, %d]", s.EmbeddingDim, EmbeddingDimMax)
	}
	if !d.network {
		if len(s.Hidden) != 0 || s.Dropout != 0 || s.BatchNorm {
			fault("hidden, dropout, batch_norm: model %s has no hidden layers; remove them", s.Name)
		}
		return errors.Join(faults...)
	}
	if len(s.Hidden) > HiddenLayersMax {
		fault("hidden: %d layers, at most %d are possible", len(s.Hidden), HiddenLayersMax)
	}
	for i, width := range s.Hidden {
		if width < 1 || width > HiddenWidthMax {
			fault("hidden[%d]: %d is not in [1, %d]", i, width, HiddenWidthMax)
		} else if i > 0 && s.Hidden[i-1] > TensorSizeMax/width {
			fault("hidden[%d]: a %d x %d matrix has more than %d elements", i, width, s.Hidden[i-1], TensorSizeMax)
		}
	}
	if !(s.Dropout >= 0 && s.Dropout < 1) { // also refuses NaN
		fault("dropout: %v is not in [0, 1)", s.Dropout)
	}
	return errors.Join(faults...)
}
