package model

import (
	"math"
	"testing"

	"github.com/fathom-train/fathom/compute/random"
)

// The gradients are those of a weighted sum of the logits, whose second layer is
// linear in every one of its weights, and the first one where no unit changes sides.
func TestSelectorGradient(t *testing.T) {
	const n, in, hidden, out = 5, 6, 4, 3
	s := NewSelector(in, hidden, out)
	var p, dp [][]float32
	for i, param := range s.Params() {
		p, dp = append(p, make([]float32, param.Size())), append(dp, make([]float32, param.Size()))
		param.Init.Fill(p[i], random.Stream(1, random.InitDense, uint64(i), 0, 0))
	}
	x, c := make([]float32, n*in), make([]float32, n*out)
	random.Init{Kind: random.Normal, Scale: 1}.Fill(x, 3)
	random.Init{Kind: random.Normal, Scale: 1}.Fill(c, 4)
	loss := func() (sum float64) {
		logits := make([]float32, n*out)
		s.Forward(p, logits, x, n, true)
		for i, v := range logits {
			sum += float64(c[i]) * float64(v)
		}
		return sum
	}
	loss()
	s.Backward(p, dp, append([]float32(nil), c...))
	for i := range p {
		for k := range p[i] {
			const h = 1.0 / 1024
			at := p[i][k]
			p[i][k] = at + h
			above := loss()
			p[i][k] = at - h
			want := (above - loss()) / (2 * h)
			p[i][k] = at
			if math.Abs(want-float64(dp[i][k])) > 2e-3*(1+math.Abs(want)) {
				t.Errorf("%s[%d]: gradient %v, want %v", s.Params()[i].Name, k, dp[i][k], want)
			}
		}
	}
}
