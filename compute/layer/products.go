package layer

import "github.com/fathom-train/fathom/compute/kernel"

// PairProducts is the inner products of all pairs of fields, in the order
// (0,1), (0,2), ..., (1,2), ... of the upper triangle.
type PairProducts struct {
	// Fields and Dim are the shape of one sample's embeddings.
	Fields, Dim int

	x []float32 // [n, Fields*Dim], the caller's
}

// Pairs returns the number of products of one sample.
func (l *PairProducts) Pairs() int { return l.Fields * (l.Fields - 1) / 2 }

// Forward writes the products of sample i of x [n, Fields*Dim] to the Pairs
// elements at y[i*stride].
func (l *PairProducts) Forward(y []float32, stride int, x []float32, n int) {
	width := l.Fields * l.Dim
	check("input of the products", len(x), n*width)
	l.x = x
	for i := range n {
		row, out := x[i*width:(i+1)*width], y[i*stride:i*stride+l.Pairs()]
		pair := 0
		for a := 0; a < width; a += l.Dim {
			for b := a + l.Dim; b < width; b += l.Dim {
				out[pair] = kernel.Dot(row[a:a+l.Dim], row[b:b+l.Dim])
				pair++
			}
		}
	}
}

// Backward adds to dx [n, Fields*Dim], given dy laid out as y.
func (l *PairProducts) Backward(dx, dy []float32, stride int) {
	check("input gradient of the products", len(dx), len(l.x))
	width := l.Fields * l.Dim
	for i := range len(l.x) / width {
		row, d := l.x[i*width:(i+1)*width], dx[i*width:(i+1)*width]
		g := dy[i*stride : i*stride+l.Pairs()]
		pair := 0
		for a := 0; a < width; a += l.Dim {
			for b := a + l.Dim; b < width; b += l.Dim {
				kernel.Axpy(g[pair], row[b:b+l.Dim], d[a:a+l.Dim])
				kernel.Axpy(g[pair], row[a:a+l.Dim], d[b:b+l.Dim])
				pair++
			}
		}
	}
}

// BiInteraction is the sum over all pairs of fields of the elementwise products
// of their embeddings, computed as half of (sum of e)^2 - sum of e^2.
type BiInteraction struct {
	// Fields and Dim are the shape of one sample's embeddings.
	Fields, Dim int

	x   []float32 // [n, Fields*Dim], the caller's
	sum []float32 // [n, Dim], the sum over fields
}

// Forward computes y [n, Dim] from x [n, Fields*Dim].
func (l *BiInteraction) Forward(y, x []float32, n int) {
	width := l.Fields * l.Dim
	check("input of the interaction", len(x), n*width)
	check("output of the interaction", len(y), n*l.Dim)
	l.x, l.sum = x, grow(l.sum, n*l.Dim)
	for i := range n {
		row := x[i*width : (i+1)*width]
		for j := range l.Dim {
			var sum, squares float32
			for at := j; at < width; at += l.Dim {
				sum += row[at]
				squares += float32(row[at] * row[at])
			}
			l.sum[i*l.Dim+j] = sum
			y[i*l.Dim+j] = 0.5 * (float32(sum*sum) - squares)
		}
	}
}

// Backward overwrites dx [n, Fields*Dim] with dy [n, Dim] * (sum - e).
func (l *BiInteraction) Backward(dx, dy []float32) {
	check("gradient of the interaction", len(dy), len(l.sum))
	check("input gradient of the interaction", len(dx), len(l.x))
	width := l.Fields * l.Dim
	for at, e := range l.x {
		j := at/width*l.Dim + at%l.Dim
		dx[at] = dy[j] * (l.sum[j] - e)
	}
}
