package supernet

import (
	"fmt"

	"github.com/fathom-train/fathom/compute/kernel"
)

// GateKind is the shape of a soft selection.
type GateKind string

// The kinds of gates.
const (
	// ElementGate has one gate for every field and dimension, a factor in [0, 1]
	// (DNIS, Cheng et al. 2020).
	ElementGate GateKind = "element"
	// PrefixGate has one number per field, the width itself: dimension j (from 0)
	// passes with the factor clamp(width - j, 0, 1). What it learns can be stored
	// narrow as it is.
	PrefixGate GateKind = "prefix"
)

// Gates multiplies the dimensions of every field by learned factors.
type Gates struct {
	Kind          GateKind
	Fields, Width int
}

// Size is the number of gate values.
func (g Gates) Size() int {
	if g.Kind == PrefixGate {
		return g.Fields
	}
	return g.Fields * g.Width
}

// Factors writes what the gate values multiply the dimensions by, [fields*width].
func (g Gates) Factors(out, values []float32) {
	g.check(out, values)
	if g.Kind == ElementGate {
		copy(out, values)
		return
	}
	for f, v := range values {
		for j := range g.Width {
			out[f*g.Width+j] = min(max(v-float32(j), 0), 1)
		}
	}
}

// Forward multiplies x [n, fields*width] by factors, as Factors gives them; out
// may be x.
func (g Gates) Forward(out, x, factors []float32, n int) {
	size := g.Fields * g.Width
	for i := range n {
		kernel.Mul(out[i*size:(i+1)*size], x[i*size:(i+1)*size], factors)
	}
}

// Backward turns the gradient of Forward's output, in place, into that of x, and
// adds the gate values' gradient to dValues. x and values are those of Forward.
func (g Gates) Backward(dx, x, values, factors []float32, n int, dValues []float32) {
	g.check(factors, values)
	size := g.Fields * g.Width
	sums := make([]float32, size) // of the factors
	product := make([]float32, size)
	for i := range n {
		d := dx[i*size : (i+1)*size]
		kernel.Mul(product, d, x[i*size:(i+1)*size])
		kernel.Add(sums, product)
		kernel.Mul(d, d, factors)
	}
	if g.Kind == ElementGate {
		kernel.Add(dValues, sums)
		return
	}
	for f, v := range values {
		for j := range g.Width {
			// The factor has slope 1 where it lies strictly between its clamps.
			if at := v - float32(j); at > 0 && at < 1 {
				dValues[f] += sums[f*g.Width+j]
			}
		}
	}
}

// Balance divides the gradients of each field's gates by their mean magnitude,
// so that frequent fields do not outweigh the others (AutoSrh).
func (g Gates) Balance(dValues []float32) {
	per := len(dValues) / g.Fields
	for f := range g.Fields {
		d := dValues[f*per : (f+1)*per]
		var sum float32
		for _, v := range d {
			sum += abs(v)
		}
		scale := 1 / (sum/float32(per) + 1e-8)
		kernel.Scale(scale, d)
	}
}

// Clamp moves gate values back to where they mean something: [0, 1], or [0,
// width] for the widths of PrefixGate.
func (g Gates) Clamp(values []float32) {
	top := float32(1)
	if g.Kind == PrefixGate {
		top = float32(g.Width)
	}
	for i, v := range values {
		values[i] = min(max(v, 0), top)
	}
}

func (g Gates) check(factors, values []float32) {
	if len(values) != g.Size() || len(factors) != g.Fields*g.Width {
		panic(fmt.Sprintf("compute/supernet: BUG: %d gate values and %d factors for %d %s gates of %d fields", len(values), len(factors), g.Size(), g.Kind, g.Fields))
	}
}
