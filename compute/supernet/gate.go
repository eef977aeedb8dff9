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
	// ChoiceGate has one number per field and choosable width. Their softmax is the
	// probability of a width, and a dimension passes with the probability that the
	// width is at least so large: the mixture of the prefixes (AutoDim, Zhao et al.
	// 2021, with widths that share one table).
	ChoiceGate GateKind = "choice"
)

// Gates multiplies the dimensions of every field by learned factors.
type Gates struct {
	Kind          GateKind
	Fields, Width int
	// Choices are the widths of ChoiceGate, ascending.
	Choices []int
}

// Size is the number of gate values.
func (g Gates) Size() int {
	switch g.Kind {
	case PrefixGate:
		return g.Fields
	case ChoiceGate:
		return g.Fields * len(g.Choices)
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
	if g.Kind == ChoiceGate {
		clear(out)
		p := make([]float32, len(g.Choices))
		for f := range g.Fields {
			Softmax(p, values[f*len(p):])
			for c, w := range g.Choices {
				for j := range w {
					out[f*g.Width+j] += p[c]
				}
			}
		}
		return
	}
	for f, v := range values {
		for j := range g.Width {
			out[f*g.Width+j] = min(max(v-float32(j), 0), 1)
		}
	}
}

// Softmax writes the probabilities of the first len(p) logits to p.
func Softmax(p, logits []float32) {
	top, sum := logits[0], float32(0)
	for _, v := range logits[:len(p)] {
		top = max(top, v)
	}
	for i, v := range logits[:len(p)] {
		p[i] = kernel.Exp(v - top)
		sum += p[i]
	}
	for i := range p {
		p[i] /= sum
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
	if g.Kind == ChoiceGate {
		g.choiceGradient(sums, values, dValues)
		return
	}
	for f, v := range values {
		for j := range g.Width {
			// The factor has slope 1 between its clamps. A width that is a whole number
			// feels its last dimension, else one that begins there would never move.
			if at := v - float32(j); at > 0 && at <= 1 {
				dValues[f] += sums[f*g.Width+j]
			}
		}
	}
}

// choiceGradient is the backward pass of the softmax, from the gradients of the
// factors.
func (g Gates) choiceGradient(dFactors, values, dValues []float32) {
	n := len(g.Choices)
	p, d := make([]float32, n), make([]float32, n)
	for f := range g.Fields {
		Softmax(p, values[f*n:])
		var mean float32
		for c, w := range g.Choices {
			d[c] = 0
			for _, v := range dFactors[f*g.Width : f*g.Width+w] {
				d[c] += v
			}
			mean += float32(p[c] * d[c])
		}
		for c := range d {
			dValues[f*n+c] += float32(p[c] * (d[c] - mean))
		}
	}
}

// Hold zeroes the gradients that would drive gate values further out of where
// they mean something: [0, 1], or [0, width] for the widths of PrefixGate. A gate may
// be outside by one update.
func (g Gates) Hold(dValues, values []float32) {
	top := float32(1)
	switch g.Kind {
	case PrefixGate:
		top = float32(g.Width)
	case ChoiceGate:
		return
	}
	for i, v := range values {
		if v <= 0 && dValues[i] > 0 || v >= top && dValues[i] < 0 {
			dValues[i] = 0
		}
	}
}

// Balance divides the gradients of each field's gates by their mean magnitude,
// so that frequent fields do not outweigh the others (AutoSrh). A PrefixGate has
// only one per field: there it is the mean over all fields.
func (g Gates) Balance(dValues []float32) {
	groups := g.Fields
	if g.Kind == PrefixGate {
		groups = 1
	}
	per := len(dValues) / groups
	for f := range groups {
		d := dValues[f*per : (f+1)*per]
		var sum float32
		for _, v := range d {
			sum += abs(v)
		}
		scale := 1 / (sum/float32(per) + 1e-8)
		kernel.Scale(scale, d)
	}
}

func (g Gates) check(factors, values []float32) {
	if len(values) != g.Size() || len(factors) != g.Fields*g.Width {
		panic(fmt.Sprintf("compute/supernet: BUG: %d gate values and %d factors for %d %s gates of %d fields", len(values), len(factors), g.Size(), g.Kind, g.Fields))
	}
}
