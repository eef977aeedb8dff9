package kernel

import "math"

// Moments holds the factors of one Adam or LAMB step. The order of the fields
// is known to the vector code.
type Moments struct {
	Beta1, Rest1 float32 // beta1 and 1-beta1
	Beta2, Rest2 float32 // beta2 and 1-beta2
	Correct1     float32 // 1/(1-beta1^t)
	Correct2     float32 // 1/(1-beta2^t)
	Epsilon      float32
	Decay        float32 // decoupled weight decay, inside the direction
	Coupled      float32 // weight decay added to the gradient
}

// Direction updates the moments m and v with the gradient g and sets u to the
// direction of the step:
//
//	g' = g + Coupled*w
//	m  = Beta1*m + Rest1*g'
//	v  = Beta2*v + Rest2*(g'*g')
//	u  = (m*Correct1) / (sqrt(v*Correct2) + Epsilon) + Decay*w
func (c *Moments) Direction(u, w, m, v, g []float32) {
	check("Direction", len(u), len(w))
	check("Direction", len(u), len(m))
	check("Direction", len(u), len(v))
	check("Direction", len(u), len(g))
	n := 0
	if SIMD() && len(u) >= vector {
		n = len(u) &^ (vector - 1)
		momentsVector(&u[0], &w[0], &m[0], &v[0], &g[0], n, c)
	}
	for ; n < len(u); n++ {
		grad := g[n] + float32(c.Coupled*w[n])
		first := Canonical(float32(c.Beta1*m[n]) + float32(c.Rest1*grad))
		second := Canonical(float32(c.Beta2*v[n]) + float32(c.Rest2*float32(grad*grad)))
		root := float32(math.Sqrt(float64(float32(second * c.Correct2))))
		m[n], v[n] = first, second
		u[n] = Canonical(float32(first*c.Correct1)/(root+c.Epsilon) + float32(c.Decay*w[n]))
	}
}
