package fsm

import (
	"github.com/fathom-train/fathom/compute/optim"
	"github.com/fathom-train/fathom/compute/random"
)

// Freeze trains some layers of the network at a time, as LISA does (Pan et al.,
// 2024): every Every steps, other Active of the Layers are drawn. The tensors of
// the others do not change, nor do their slots.
type Freeze struct {
	Layers int `json:"layers"`
	Active int `json:"active"`
	Every  int `json:"every"`
}

// frozen reports whether a tensor is left out of a step. It depends on the seed
// and the step alone.
func (m *model) frozen(d *tensor, step optim.Step) bool {
	f := m.schema.Freeze
	if f == nil || d.schema.Layer == 0 {
		return false
	}
	stream := random.Stream(m.schema.Seed, random.Freeze, (step.T-1)/uint64(f.Every), 0, 0)
	return random.Permute(stream, uint64(f.Layers), uint64(d.schema.Layer-1)) >= uint64(f.Active)
}
