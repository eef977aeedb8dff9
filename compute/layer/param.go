package layer

import (
	"github.com/fathom-train/fathom/compute/random"
)

// Kind tells how a dense tensor changes.
type Kind int

const (
	// Weight is trained: what is pushed for it is a gradient.
	Weight Kind = iota
	// Running follows a statistic of the data: what is pushed for it is the
	// lane's statistic times the lane's share of the batch, so that the sum over
	// lanes is the batch's mean of the statistic. The "ema" optimizer applies it.
	Running
)

// String returns the kind's name.
func (k Kind) String() string {
	if k == Running {
		return "running"
	}
	return "weight"
}

// Param describes one dense tensor.
type Param struct {
	// Name is unique within the model, in the style of PyTorch: "mlp.0.weight".
	Name string
	// Shape lists the sizes, slowest first; the tensor is stored row-major.
	Shape []int
	Kind  Kind
	// Init gives the values of version 0.
	Init random.Init
}

// Size returns the number of elements.
func (p Param) Size() int {
	n := 1
	for _, s := range p.Shape {
		n *= s
	}
	return n
}
