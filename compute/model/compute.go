package model

import (
	"fmt"
	"strings"

	"github.com/fathom-train/fathom/compute/layer"
)

// The number formats of the operands of the networks' matrix products; sums,
// weights and everything else are float32 with both.
const (
	F32  = "f32"
	BF16 = "bf16"
)

// Computes lists the values SetCompute takes.
func Computes() []string { return []string{F32, BF16} }

// rounding is implemented by models that can multiply with bfloat16 operands.
type rounding interface{ useBF16() }

// SetCompute chooses the format of a new model of the named kind. The result of
// training depends on it, but not on the processor. Empty is F32.
func SetCompute(m Model, name, compute string) error {
	switch compute {
	case "", F32:
		return nil
	case BF16:
		r, ok := m.(rounding)
		if !ok {
			return fmt.Errorf("%w: compute: model %s cannot compute in %s; leave it at %s", ErrSpec, name, BF16, F32)
		}
		r.useBF16()
		return nil
	}
	return fmt.Errorf("%w: compute: %q is none of %s", ErrSpec, compute, strings.Join(Computes(), ", "))
}

// useBF16 leaves the cross layers of one vector each, and the mixtures of low
// rank, as they are.
func (m *cross) useBF16() {
	if v2, ok := m.cross.(*layer.CrossNetV2); ok {
		v2.BF16 = true
	}
	if m.deep != nil {
		m.deep.UseBF16()
	}
	if m.tower != nil {
		m.tower.UseBF16()
	}
}

func (m *deepFM) useBF16()   { m.deep.UseBF16() }
func (m *dnn) useBF16()      { m.deep.UseBF16() }
func (m *fnn) useBF16()      { m.deep.UseBF16() }
func (m *ipnn) useBF16()     { m.deep.UseBF16() }
func (m *wideDeep) useBF16() { m.deep.UseBF16() }
