package model

import (
	"fmt"
	"slices"
	"strings"
)

// Limits of the options.
const (
	CrossLayersMax     = 64
	LowRankMax         = 1 << 12
	ExpertsMax         = 64
	AttentionLayersMax = 64
	AttentionDimMax    = 1 << 12
	HeadsMax           = 1 << 10
)

// The values of the options that are words.
const (
	Parallel     = "parallel"
	Stacked      = "stacked"
	CrossNetOnly = "crossnet_only"

	LinearWeight = "LW"
	KeyVector    = "FeLV"
	FieldVector  = "FiLV"

	Dot = "dot"
	Cat = "cat"
)

// CrossStructures, LinearTypes and Interactions list the words of an option.
func CrossStructures() []string { return []string{Parallel, Stacked, CrossNetOnly} }

// LinearTypes lists the values of Spec.LinearType.
func LinearTypes() []string { return []string{LinearWeight, KeyVector, FieldVector} }

// Interactions lists the values of Spec.Interaction.
func Interactions() []string { return []string{Dot, Cat} }

// option is a set of options that not every model has.
type option uint32

const (
	crossLayers option = 1 << iota
	crossStructure
	lowRank // and experts
	cinUnits
	attentionLayers
	attentionDim
	heads
	residual
	scale
	layerNorm
	wide
	linearType
	interaction
	hidden2 // and batch_norm2
	dropout2
	gates   // and contexts
	dropout // where the model has no network
)

// hasNetwork tells whether the model of a specification has hidden layers.
func (d definition) hasNetwork(s Spec) bool { return d.network && s.CrossStructure != CrossNetOnly }

// faultList collects the faults of a specification.
type faultList []error

func (f *faultList) add(format string, args ...any) {
	*f = append(*f, fmt.Errorf("%w: "+format, append([]any{ErrSpec}, args...)...))
}

// widths checks the widths of a stack of layers.
func (f *faultList) widths(name string, widths []int) {
	if len(widths) > HiddenLayersMax {
		f.add("%s: %d layers, at most %d are possible", name, len(widths), HiddenLayersMax)
	}
	for i, width := range widths {
		if width < 1 || width > HiddenWidthMax {
			f.add("%s[%d]: %d is not in [1, %d]", name, i, width, HiddenWidthMax)
		} else if i > 0 && widths[i-1] > TensorSizeMax/width {
			f.add("%s[%d]: a %d x %d matrix has more than %d elements", name, i, width, widths[i-1], TensorSizeMax)
		}
	}
}

func (f *faultList) probability(name string, p float32) {
	if !(p >= 0 && p < 1) { // also refuses NaN
		f.add("%s: %v is not in [0, 1)", name, p)
	}
}

// checkOptions reports options that the model does not have and values that
// are out of range.
func (s Spec) checkOptions(d definition, f *faultList) {
	has := func(o option, name string, given bool) bool {
		if given && d.options&o == 0 {
			f.add("%s: model %s does not have this option; remove it", name, s.Name)
		}
		return d.options&o != 0
	}
	number := func(o option, name string, v, lo, hi int) {
		if has(o, name, v != 0) && (v < lo || v > hi) {
			f.add("%s: %d is not in [%d, %d]", name, v, lo, hi)
		}
	}
	word := func(o option, name, v string, words []string) {
		if has(o, name, v != "") && !slices.Contains(words, v) {
			f.add("%s: %q is none of %s", name, v, strings.Join(words, ", "))
		}
	}
	number(crossLayers, "cross_layers", s.CrossLayers, 1, CrossLayersMax)
	word(crossStructure, "cross_structure", s.CrossStructure, CrossStructures())
	number(lowRank, "low_rank", s.LowRank, 0, LowRankMax)
	number(lowRank, "experts", s.Experts, 0, ExpertsMax)
	number(attentionLayers, "attention_layers", s.AttentionLayers, 1, AttentionLayersMax)
	number(attentionDim, "attention_dim", s.AttentionDim, 1, AttentionDimMax)
	number(heads, "heads", s.Heads, 1, HeadsMax)
	has(residual, "residual", s.Residual != nil)
	has(scale, "scale", s.Scale)
	has(layerNorm, "layer_norm", s.LayerNorm)
	has(wide, "wide", s.Wide)
	word(linearType, "linear_type", s.LinearType, LinearTypes())
	word(interaction, "interaction", s.Interaction, Interactions())
	if has(cinUnits, "cin_units", len(s.CINUnits) > 0) {
		f.widths("cin_units", s.CINUnits)
	}
	if has(hidden2, "hidden2", len(s.Hidden2) > 0) {
		f.widths("hidden2", s.Hidden2)
	}
	if has(dropout2, "dropout2", s.Dropout2 != 0) {
		f.probability("dropout2", s.Dropout2)
	}
	has(hidden2, "batch_norm2", s.BatchNorm2)
	if has(gates, "gate_hidden", len(s.GateHidden) > 0) {
		f.widths("gate_hidden", s.GateHidden)
	}
	has(gates, "context1", len(s.Context1) > 0)
	has(gates, "context2", len(s.Context2) > 0)
}
