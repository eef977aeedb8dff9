package layer

import "github.com/fathom-train/fathom/compute/kernel"

// FieldAware is the second-order term of a field-aware factorization machine:
// the sum over pairs of fields i < j of the dot product of the vector that the
// key of i has for j with the one that the key of j has for i. A key has
// Fields-1 vectors of Dim elements side by side; that for field f is number f,
// or f-1 where f is behind the key's own field.
type FieldAware struct {
	Fields, Dim int

	x []float32 // [n, Fields*(Fields-1)*Dim], the caller's
}

// partner returns where a sample's vector of field i for field j begins.
func (l *FieldAware) partner(i, j int) int {
	if j > i {
		j--
	}
	return (i*(l.Fields-1) + j) * l.Dim
}

// Forward computes y [n] from x [n, Fields*(Fields-1)*Dim].
func (l *FieldAware) Forward(y, x []float32) {
	width := l.Fields * (l.Fields - 1) * l.Dim
	check("input of the field-aware pairs", len(x), len(y)*width)
	l.x = x
	for s := range y {
		row, sum := x[s*width:(s+1)*width], float32(0)
		for i := range l.Fields {
			for j := i + 1; j < l.Fields; j++ {
				a, b := l.partner(i, j), l.partner(j, i)
				sum += kernel.Dot(row[a:a+l.Dim], row[b:b+l.Dim])
			}
		}
		y[s] = sum
	}
}

// Backward overwrites dx [n, Fields*(Fields-1)*Dim], given dy [n].
func (l *FieldAware) Backward(dx, dy []float32) {
	check("input gradient of the field-aware pairs", len(dx), len(l.x))
	width := l.Fields * (l.Fields - 1) * l.Dim
	for s, g := range dy {
		row, d := l.x[s*width:(s+1)*width], dx[s*width:(s+1)*width]
		for i := range l.Fields {
			for j := range l.Fields {
				if i != j {
					copy(d[l.partner(i, j):][:l.Dim], row[l.partner(j, i):][:l.Dim])
				}
			}
		}
		kernel.Scale(g, d)
	}
}
