package layer

import (
	"fmt"

	"github.com/fathom-train/fathom/compute/kernel"
	"github.com/fathom-train/fathom/compute/random"
)

// ResidualShape says what a Residual is made of.
type ResidualShape struct {
	// Width is that of the vector z that the blocks add to.
	Width int
	// Hidden lists the widths of the hidden layers of the blocks, one each.
	Hidden []int
	// Parallel gives every block the first z, not what the blocks before it left.
	Parallel bool
	// Peri normalises what comes out of a block, too, and the first z.
	Peri bool
	// Dropout is the rate of the hidden layers.
	Dropout float32
}

// Residual is a tower of blocks that add to a vector z, which a Linear makes of
// the input:
//
//	f(z) = W2 dropout(ReLU(W1 norm(z) + b1)) + b2
//	z    = z + f(z)        one block after the other (hourglass: wide z, narrow f)
//	z    = z + sum of f(z) with Parallel: all blocks side by side, so that nothing
//	                       waits; the first-order terms of the product above
//	y    = norm(z)
//
// With Peri (Peri-LN, Kim et al. 2025) the first z and every f are normalised,
// too. All norms are LayerNorms of their own.
type Residual struct {
	shape  ResidualShape
	lift   Linear
	entry  LayerNorm // of the first z, with Peri
	blocks []residualBlock
	exit   LayerNorm

	n     int
	train bool
	first []float32 // [n, Width], the first z, with Parallel
	y     []float32 // [n, Width]
	f, df []float32 // [n, Width], scratch
	sum   []float32 // [n, Width], of the gradients of parallel blocks' inputs
}

// residualBlock is one f.
type residualBlock struct {
	before, after LayerNorm
	up, down      Linear
	dropout       Dropout
	normed        []float32 // [n, Width]
	hidden        []float32 // [n, Hidden]
	gradient      []float32 // [n, Hidden]
}

// NewResidual makes the tower for inputs of the given width.
func NewResidual(in int, shape ResidualShape) *Residual {
	norm := LayerNorm{Width: shape.Width}
	r := &Residual{shape: shape, lift: Linear{In: in, Out: shape.Width}, entry: norm, exit: norm}
	for _, hidden := range shape.Hidden {
		r.blocks = append(r.blocks, residualBlock{
			before: norm, after: norm, dropout: Dropout{Rate: shape.Dropout},
			up: Linear{In: shape.Width, Out: hidden}, down: Linear{In: hidden, Out: shape.Width},
		})
	}
	return r
}

// Width is that of the tower's output.
func (r *Residual) Width() int { return r.shape.Width }

// UseBF16 is that of MLP.
func (r *Residual) UseBF16() {
	r.lift.BF16 = true
	for i := range r.blocks {
		r.blocks[i].up.BF16, r.blocks[i].down.BF16 = true, true
	}
}

// Tensors of the parts, in the order of Params.
const (
	ofLinear = 2
	ofNorm   = 2
)

// ofBlock is the number of tensors of a block.
func (r *Residual) ofBlock() int {
	if r.shape.Peri {
		return 2*ofLinear + 2*ofNorm
	}
	return 2*ofLinear + ofNorm
}

// atBlock is where the tensors of a block begin, and behind the last one those
// of the last norm.
func (r *Residual) atBlock(i int) int {
	at := ofLinear + i*r.ofBlock()
	if r.shape.Peri {
		at += ofNorm
	}
	return at
}

// Params lists the tensors in the order Forward and Backward take them.
func (r *Residual) Params(prefix string) []Param {
	params := LinearParams(prefix+".lift", r.lift.In, r.lift.Out)
	if r.shape.Peri {
		params = append(params, r.entry.params(prefix+".entry")...)
	}
	for i := range r.blocks {
		b, name := &r.blocks[i], fmt.Sprintf("%s.%d", prefix, i)
		params = append(params, b.before.params(name+".norm")...)
		params = append(params, LinearParams(name+".up", b.up.In, b.up.Out)...)
		params = append(params, LinearParams(name+".down", b.down.In, b.down.Out)...)
		if r.shape.Peri {
			params = append(params, b.after.params(name+".after")...)
		}
	}
	return append(params, r.exit.params(prefix+".norm")...)
}

// Forward returns y [n, Width] of x [n, in], valid until the next Forward;
// block i of a training pass drops by a stream of its own.
func (r *Residual) Forward(p [][]float32, x []float32, n int, train bool, stream uint64) []float32 {
	r.n, r.train = n, train
	r.y, r.f = grow(r.y, n*r.shape.Width), grow(r.f, n*r.shape.Width)
	r.lift.Forward(r.y, x, p[0], p[1], n)
	if r.shape.Peri {
		r.entry.Forward(r.y, r.y, p[2], p[3], n)
	}
	z := r.y
	if r.shape.Parallel {
		r.first = append(r.first[:0], r.y...)
		z = r.first
	}
	for i := range r.blocks {
		b := &r.blocks[i]
		b.dropout.stream = random.Stream(stream, random.Dropout, uint64(i), 0, 0)
		b.forward(r.f, z, p[r.atBlock(i):], n, train, r.shape.Peri)
		kernel.Add(r.y, r.f)
	}
	at := r.atBlock(len(r.blocks))
	r.exit.Forward(r.y, r.y, p[at], p[at+1], n)
	return r.y
}

// forward computes f [n, Width] from z [n, Width].
func (b *residualBlock) forward(f, z []float32, p [][]float32, n int, train, peri bool) {
	b.normed, b.hidden = grow(b.normed, len(z)), grow(b.hidden, n*b.up.Out)
	b.before.Forward(b.normed, z, p[0], p[1], n)
	b.up.forward(b.hidden, b.normed, p[2], p[3], n, true)
	if train && b.dropout.Rate > 0 {
		b.dropout.apply(b.hidden, b.hidden, 0)
	}
	b.down.Forward(f, b.hidden, p[4], p[5], n)
	if peri {
		b.after.Forward(f, f, p[6], p[7], n)
	}
}

// Backward overwrites dp and, unless dx is nil, dx [n, in], given dy of the last
// Forward's output, which it uses as scratch. The towers share their signature:
// share is that of MLP, and there are no statistics of the lane here.
func (r *Residual) Backward(p, dp [][]float32, dx, dy []float32, _ float32) {
	if !r.train {
		panic("compute/layer: BUG: backward pass after an evaluation")
	}
	check("gradient of the tower", len(dy), r.n*r.shape.Width)
	at := r.atBlock(len(r.blocks))
	r.exit.Backward(dy, dp[at], dp[at+1], dy, p[at])
	r.df = grow(r.df, len(dy))
	sum := dy // of the gradients by way of the blocks and past them
	if r.shape.Parallel {
		r.sum = append(r.sum[:0], dy...)
		sum = r.sum
	}
	for i := len(r.blocks) - 1; i >= 0; i-- {
		r.blocks[i].backward(r.df, dy, p[r.atBlock(i):], dp[r.atBlock(i):], r.shape.Peri)
		kernel.Add(sum, r.df)
	}
	if r.shape.Peri {
		r.entry.Backward(sum, dp[2], dp[3], sum, p[2])
	}
	r.lift.Backward(dx, dp[0], dp[1], sum, p[0])
}

// backward overwrites dp and dz [n, Width], given df [n, Width].
func (b *residualBlock) backward(dz, df []float32, p, dp [][]float32, peri bool) {
	if peri {
		b.after.Backward(dz, dp[6], dp[7], df, p[6])
		df = dz
	}
	b.gradient = grow(b.gradient, len(b.hidden))
	b.down.Backward(b.gradient, dp[4], dp[5], df, p[4])
	kernel.ActivationGrad(b.gradient, b.gradient, b.hidden, b.dropout.keep())
	b.up.Backward(dz, dp[2], dp[3], b.gradient, p[2])
	b.before.Backward(dz, dp[0], dp[1], dz, p[0])
}
