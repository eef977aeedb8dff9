package model

import (
	"slices"
	"strings"

	"github.com/fathom-train/fathom/compute/layer"
)

// The shapes of networks. Parallel is one, too.
const (
	MLP       = "mlp"
	Hourglass = "hourglass"
)

// Towers lists the values of Spec.Tower.
func Towers() []string { return []string{MLP, Hourglass, Parallel} }

// Where the normalisations of residual blocks are.
const (
	PreNorm  = "pre"
	PeriNorm = "peri"
)

// NormPlacements lists the values of Spec.NormPlacement.
func NormPlacements() []string { return []string{PreNorm, PeriNorm} }

// network is the part of a model that turns a vector per sample into a logit.
type network interface {
	Params(prefix string) []Param
	Forward(p [][]float32, y, x []float32, n int, train bool, stream uint64)
	Backward(p, dp [][]float32, dx, dy []float32, share float32)
	UseBF16()
}

// tower is a network without its last layer.
type tower interface {
	Params(prefix string) []Param
	Forward(p [][]float32, x []float32, n int, train bool, stream uint64) []float32
	Backward(p, dp [][]float32, dx, dy []float32, share float32)
	Width() int
	UseBF16()
}

// periAttention tells whether the norms of attention layers are around them.
func (s Spec) periAttention() bool { return s.LayerNorm && s.NormPlacement == PeriNorm }

// residual tells whether the networks are of residual blocks.
func (s Spec) residual() bool { return s.Tower == Hourglass || s.Tower == Parallel }

func (s Spec) shape(hidden []int, dropout float32) layer.ResidualShape {
	return layer.ResidualShape{
		Width: s.TowerWidth, Hidden: hidden, Parallel: s.Tower == Parallel, Peri: s.NormPlacement == PeriNorm, Dropout: dropout,
	}
}

// newNetwork makes the model's network for inputs of the given width.
func (s Spec) newNetwork(in int) network {
	if s.residual() {
		return layer.NewHeaded(in, s.shape(s.Hidden, s.Dropout))
	}
	return layer.NewMLP(in, s.Hidden, s.Dropout, s.BatchNorm)
}

// newTower makes one of the model's networks without its last layer.
func (s Spec) newTower(in int, hidden []int, dropout float32, batchNorm bool) tower {
	if s.residual() {
		return layer.NewResidual(in, s.shape(hidden, dropout))
	}
	return layer.NewTower(in, hidden, dropout, batchNorm)
}

// defaultHidden are the widths of a network's hidden layers where none are
// given. Those of residual blocks are narrow against the vector they add to.
func (s Spec) defaultHidden() []int {
	if s.residual() {
		return []int{100, 100, 100}
	}
	return []int{400, 400, 400}
}

// towerDefaults fills in the options of residual blocks.
func (s *Spec) towerDefaults() {
	if !s.residual() {
		return
	}
	if s.TowerWidth == 0 {
		s.TowerWidth = 400
	}
	if s.NormPlacement == "" {
		s.NormPlacement = PreNorm
	}
}

// checkTower reports what is wrong with the shape of the networks, of which
// there are some.
func (s Spec) checkTower(f *faultList) {
	if s.Tower != "" && !slices.Contains(Towers(), s.Tower) {
		f.add("tower: %q is none of %s", s.Tower, strings.Join(Towers(), ", "))
		return
	}
	if !s.residual() {
		s.checkNoTower(f)
		return
	}
	if s.TowerWidth < 1 || s.TowerWidth > HiddenWidthMax {
		f.add("tower_width: %d is not in [1, %d]", s.TowerWidth, HiddenWidthMax)
	}
	if !slices.Contains(NormPlacements(), s.NormPlacement) {
		f.add("norm_placement: %q is none of %s", s.NormPlacement, strings.Join(NormPlacements(), ", "))
	}
	if s.BatchNorm || s.BatchNorm2 {
		f.add("batch_norm: residual blocks normalise every sample by itself; remove it, or use tower %s", MLP)
	}
}

// checkNoTower refuses the options of residual blocks where there are none.
func (s Spec) checkNoTower(f *faultList) {
	if s.TowerWidth != 0 || s.NormPlacement != "" && !s.periAttention() {
		f.add("tower_width, norm_placement: only towers of residual blocks have them; set tower to %s or %s, or remove them"+
			" (norm_placement %s is also for attention layers with layer_norm)", Hourglass, Parallel, PeriNorm)
	}
}
