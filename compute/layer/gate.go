package layer

import "github.com/fathom-train/fathom/compute/kernel"

// Gate weighs the elements of its input by 2*sigmoid of an MLP over a context:
// the feature selection of FinalMLP (Mao et al. 2023). The context is one row
// per sample, or one row for all samples.
type Gate struct {
	mlp            *MLP
	context, width int

	n, rows int       // rows of the context: n or 1
	x       []float32 // [n, width], the caller's
	gate    []float32 // [rows, width], the sigmoid
	y       []float32 // [n, width]
	dGate   []float32
	row     []float32 // [width], scratch
}

// NewGate makes a gate for inputs and contexts of the given widths.
func NewGate(context int, hidden []int, width int) *Gate {
	return &Gate{mlp: NewMLPTo(context, hidden, width, 0, false), context: context, width: width}
}

// Params lists the tensors of the MLP.
func (g *Gate) Params(prefix string) []Param { return g.mlp.Params(prefix) }

// Forward returns y [n, width], valid until the next Forward, of x [n, width]
// and the context [n, context], or [1, context] for all samples.
func (g *Gate) Forward(p [][]float32, x, context []float32, n int, train bool) []float32 {
	check("input of the gate", len(x), n*g.width)
	g.x, g.n, g.rows = x, n, len(context)/g.context
	g.gate, g.y = grow(g.gate, g.rows*g.width), grow(g.y, n*g.width)
	g.mlp.Forward(p, g.gate, context, g.rows, train, 0)
	kernel.SigmoidSlice(g.gate, g.gate)
	for i := range n {
		at := i * g.width
		kernel.Mul(g.y[at:at+g.width], x[at:at+g.width], g.of(g.gate, i))
	}
	kernel.Scale(2, g.y)
	return g.y
}

// of returns the row of the gate, or of its gradient, that sample i uses.
func (g *Gate) of(rows []float32, i int) []float32 {
	if g.rows != g.n {
		i = 0
	}
	return rows[i*g.width : (i+1)*g.width]
}

// Backward overwrites dp, dx [n, width] and dContext, which is like the
// context, given dy [n, width].
func (g *Gate) Backward(p, dp [][]float32, dx, dContext, dy []float32) {
	check("gradient of the gate", len(dy), g.n*g.width)
	check("input gradient of the gate", len(dx), g.n*g.width)
	g.dGate, g.row = grow(g.dGate, len(g.gate)), grow(g.row, g.width)
	clear(g.dGate)
	for i := range g.n {
		at := i * g.width
		kernel.Mul(g.row, dy[at:at+g.width], g.x[at:at+g.width])
		kernel.Add(g.of(g.dGate, i), g.row)
		kernel.Mul(dx[at:at+g.width], dy[at:at+g.width], g.of(g.gate, i))
	}
	kernel.Scale(2, dx)
	for j, s := range g.gate {
		g.dGate[j] *= 2 * float32(s*(1-s))
	}
	g.mlp.Backward(p, dp, dContext, g.dGate, 1)
}
