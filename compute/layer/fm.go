package layer

import "github.com/fathom-train/fathom/compute/kernel"

// FM is the second-order term of a factorization machine, without weights:
// half of the sum over dimensions of (sum over fields of e)^2 - sum over fields
// of e^2, which is the sum of the dot products of all pairs of fields.
type FM struct {
	// Fields and Dim are the shape of one sample's embeddings.
	Fields, Dim int

	x   []float32 // [n, Fields*Dim], the caller's
	sum []float32 // [n, Dim], the sum over fields
}

// Forward computes y [n] from the embeddings x [n, Fields*Dim].
func (f *FM) Forward(y, x []float32) {
	n, width := len(y), f.Fields*f.Dim
	check("input of the factorization machine", len(x), n*width)
	f.x, f.sum = x, grow(f.sum, n*f.Dim)
	for i := range y {
		row, sum := x[i*width:(i+1)*width], f.sum[i*f.Dim:(i+1)*f.Dim]
		copy(sum, row[:f.Dim])
		for at := f.Dim; at < width; at += f.Dim {
			kernel.Add(sum, row[at:at+f.Dim])
		}
		y[i] = 0.5 * (kernel.SumSquares(sum) - kernel.SumSquares(row))
	}
}

// Backward adds to dx [n, Fields*Dim] the gradient dy [n] * (sum - e): the
// embeddings usually feed other layers too, whose gradients are there already.
func (f *FM) Backward(dx, dy []float32) {
	check("gradient of the factorization machine", len(dy)*f.Dim, len(f.sum))
	check("input gradient of the factorization machine", len(dx), len(f.x))
	width := f.Fields * f.Dim
	for i, g := range dy {
		sum := f.sum[i*f.Dim : (i+1)*f.Dim]
		for at := i * width; at < (i+1)*width; at += f.Dim {
			e, d := f.x[at:at+f.Dim], dx[at:at+f.Dim]
			for j, s := range sum {
				d[j] += float32(g * (s - e[j]))
			}
		}
	}
}
