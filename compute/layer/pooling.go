package layer

import (
	"github.com/fathom-train/fathom/compute/gemm"
	"github.com/fathom-train/fathom/compute/kernel"
	"github.com/fathom-train/fathom/compute/random"
)

// AttentionPool is the pooling of the attentional factorization machine (Xiao
// et al. 2017): the sum of the elementwise products of all pairs of fields,
// weighted by an attention network over the products themselves,
//
//	a = softmax over pairs of s . ReLU(W p + b),  y = sum over pairs of a p
type AttentionPool struct {
	// Fields and Dim are the shape of one sample's embeddings, Width is that of
	// the attention network.
	Fields, Dim, Width int
	// WeightRate is the dropout of the weights, PoolRate that of the sum.
	WeightRate, PoolRate float32

	n                      int
	train                  bool
	x                      []float32 // [n, Fields*Dim], the caller's
	weight, masked, use    []float32 // [n, Pairs]: the softmax, after dropout, the one in use
	dWeight                []float32
	y                      []float32 // [n, Dim]
	dropWeight, dropPool   Dropout
	products, hidden, dHid []float32 // [pairs of a block, Dim] and twice [.., Width]
	dProducts              []float32
}

// poolBlock bounds the elements of the hidden layer held at a time; the
// backward pass computes it again. Blocks are of whole samples.
const poolBlock = 1 << 18

// Pairs returns the number of products of one sample.
func (l *AttentionPool) Pairs() int { return l.Fields * (l.Fields - 1) / 2 }

// Params lists W [Width, Dim], b [Width] and s [1, Width].
func (l *AttentionPool) Params(prefix string) []Param {
	return []Param{
		{Name: prefix + ".weight", Shape: []int{l.Width, l.Dim}, Init: Xavier(l.Dim, l.Width)},
		{Name: prefix + ".bias", Shape: []int{l.Width}},
		{Name: prefix + ".score", Shape: []int{1, l.Width}, Init: Xavier(l.Width, 1)},
	}
}

// Forward returns y [n, Dim], valid until the next Forward, of the embeddings x
// [n, Fields*Dim].
func (l *AttentionPool) Forward(p [][]float32, x []float32, n int, train bool, stream uint64) []float32 {
	check("input of the pooling", len(x), n*l.Fields*l.Dim)
	pairs := l.Pairs()
	l.n, l.x, l.train = n, x, train
	l.weight, l.y = grow(l.weight, n*pairs), grow(l.y, n*l.Dim)
	if pairs == 0 {
		clear(l.y)
		return l.y
	}
	for lo, count := l.block(0); count > 0; lo, count = l.block(lo + count) {
		l.hide(p, lo, count)
		scores := l.weight[lo*pairs : (lo+count)*pairs]
		gemm.Gemm(false, true, count*pairs, 1, l.Width, l.hidden, l.Width, p[2], l.Width, scores, 1, false)
	}
	softmaxRows(l.weight, pairs)
	l.use = l.weight
	if train && l.WeightRate > 0 {
		l.masked = grow(l.masked, len(l.weight))
		l.use, l.dropWeight.Rate = l.masked, l.WeightRate
		l.dropWeight.Forward(l.use, l.weight, random.Stream(stream, random.Dropout, 0, 0, 0))
	}
	for lo, count := l.block(0); count > 0; lo, count = l.block(lo + count) {
		l.multiply(lo, count)
		for i := range count {
			gemm.Gemm(false, false, 1, l.Dim, pairs, l.use[(lo+i)*pairs:], pairs, l.products[i*pairs*l.Dim:], l.Dim, l.y[(lo+i)*l.Dim:], l.Dim, false)
		}
	}
	if train && l.PoolRate > 0 {
		l.dropPool.Rate = l.PoolRate
		l.dropPool.Forward(l.y, l.y, random.Stream(stream, random.Dropout, 1, 0, 0))
	}
	return l.y
}

// block returns lo again and the number of samples of the block that begins
// there; none at the end.
func (l *AttentionPool) block(lo int) (from, count int) {
	return lo, min(max(1, poolBlock/(l.Pairs()*max(l.Width, l.Dim))), l.n-lo)
}

// multiply sets l.products to the products of the block's pairs.
func (l *AttentionPool) multiply(lo, count int) {
	width := l.Fields * l.Dim
	l.products = grow(l.products, count*l.Pairs()*l.Dim)
	at := 0
	for i := lo; i < lo+count; i++ {
		row := l.x[i*width : (i+1)*width]
		for a := 0; a < width; a += l.Dim {
			for b := a + l.Dim; b < width; b += l.Dim {
				kernel.Mul(l.products[at:at+l.Dim], row[a:a+l.Dim], row[b:b+l.Dim])
				at += l.Dim
			}
		}
	}
}

// hide sets l.hidden to the hidden layer of the block's pairs.
func (l *AttentionPool) hide(p [][]float32, lo, count int) {
	l.multiply(lo, count)
	rows := count * l.Pairs()
	l.hidden = grow(l.hidden, rows*l.Width)
	gemm.Gemm(false, true, rows, l.Width, l.Dim, l.products, l.Dim, p[0], l.Dim, l.hidden, l.Width, false)
	kernel.AddBias(l.hidden, rows, l.Width, p[1])
	kernel.ReLU(l.hidden, l.hidden)
}

// Backward overwrites dp and dx [n, Fields*Dim], given dy [n, Dim], which it
// uses as scratch.
func (l *AttentionPool) Backward(p, dp [][]float32, dx, dy []float32) {
	check("gradient of the pooling", len(dy), l.n*l.Dim)
	check("input gradient of the pooling", len(dx), len(l.x))
	for _, d := range dp[:3] {
		clear(d)
	}
	clear(dx)
	pairs := l.Pairs()
	if pairs == 0 {
		return
	}
	if l.train && l.PoolRate > 0 {
		l.dropPool.Backward(dy, dy)
	}
	l.dWeight = grow(l.dWeight, len(l.weight))
	for lo, count := l.block(0); count > 0; lo, count = l.block(lo + count) {
		l.multiply(lo, count)
		for i := range count {
			gemm.Gemm(false, true, 1, pairs, l.Dim, dy[(lo+i)*l.Dim:], l.Dim, l.products[i*pairs*l.Dim:], l.Dim, l.dWeight[(lo+i)*pairs:], pairs, false)
		}
	}
	if l.train && l.WeightRate > 0 {
		l.dropWeight.Backward(l.dWeight, l.dWeight)
	}
	softmaxRowsGrad(l.dWeight, l.weight, pairs)
	for lo, count := l.block(0); count > 0; lo, count = l.block(lo + count) {
		l.backwardBlock(lo, count, p, dp, dx, dy)
	}
}

// backwardBlock adds the block's part to dp and dx, given the gradient of the
// scores in l.dWeight.
func (l *AttentionPool) backwardBlock(lo, count int, p, dp [][]float32, dx, dy []float32) {
	pairs := l.Pairs()
	rows, dScore := count*pairs, l.dWeight[lo*pairs:(lo+count)*pairs]
	l.hide(p, lo, count)
	l.dHid, l.dProducts = grow(l.dHid, rows*l.Width), grow(l.dProducts, rows*l.Dim)
	gemm.Gemm(true, false, 1, l.Width, rows, dScore, 1, l.hidden, l.Width, dp[2], l.Width, true)
	gemm.Gemm(false, false, rows, l.Width, 1, dScore, 1, p[2], l.Width, l.dHid, l.Width, false)
	kernel.ReLUGrad(l.dHid, l.dHid, l.hidden)
	kernel.SumRows(dp[1], l.dHid)
	gemm.Gemm(true, false, l.Width, l.Dim, rows, l.dHid, l.Width, l.products, l.Dim, dp[0], l.Dim, true)
	gemm.Gemm(false, false, rows, l.Dim, l.Width, l.dHid, l.Width, p[0], l.Dim, l.dProducts, l.Dim, false)
	width, pair := l.Fields*l.Dim, 0
	for i := lo; i < lo+count; i++ {
		row, d, g := l.x[i*width:(i+1)*width], dx[i*width:(i+1)*width], dy[i*l.Dim:(i+1)*l.Dim]
		for a := 0; a < width; a += l.Dim {
			for b := a + l.Dim; b < width; b += l.Dim {
				dProduct := l.dProducts[pair*l.Dim : (pair+1)*l.Dim]
				kernel.Axpy(l.use[lo*pairs+pair], g, dProduct)
				for j, v := range dProduct {
					d[a+j] += float32(v * row[b+j])
					d[b+j] += float32(v * row[a+j])
				}
				pair++
			}
		}
	}
}
