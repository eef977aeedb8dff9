package layer

import (
	"math"
	"slices"
	"testing"

	"github.com/fathom-train/fathom/compute/kernel"
)

func TestLinearMatchesReference(t *testing.T) {
	for _, shape := range [][3]int{{1, 1, 1}, {5, 7, 3}, {4, 3, 1}, {33, 17, 20}} {
		n, in, out := shape[0], shape[1], shape[2]
		l := Linear{In: in, Out: out}
		x, w, b, dy := values(1, n*in), values(2, out*in), values(3, out), values(4, n*out)
		y, dx := make([]float32, n*out), values(9, n*in)
		dw, db := values(9, out*in), values(9, out) // overwritten
		l.Forward(y, x, w, b, n)
		l.Backward(dx, dw, db, dy, w)

		x64, w64, b64 := wide(x), wide(w), wide(b)
		near(t, "y", y, linearReference(x64, w64, b64, n, in, out))
		loss := func() float64 { return dot(dy, linearReference(x64, w64, b64, n, in, out)) }
		near(t, "dx", dx, numeric(loss, x64))
		near(t, "dw", dw, numeric(loss, w64))
		near(t, "db", db, numeric(loss, b64))

		again := slices.Clone(dw)
		l.Backward(nil, dw, db, dy, w)
		equalBits(t, "dw without dx", dw, again)
	}
}

func TestLinearBiasGradientSumsSamplesInOrder(t *testing.T) {
	for _, out := range []int{1, 9} {
		const n = 100
		l := Linear{In: 1, Out: out}
		dy, want := values(5, n*out), make([]float32, out)
		for i, v := range dy {
			want[i%out] += v
		}
		l.Forward(make([]float32, n*out), values(6, n), values(7, out), want, n)
		db := make([]float32, out)
		l.Backward(nil, make([]float32, out), db, dy, values(7, out))
		equalBits(t, "db", db, want)
	}
}

func TestBatchNormMatchesReference(t *testing.T) {
	for _, shape := range [][2]int{{3, 1}, {6, 5}, {70, 19}} {
		n, width := shape[0], shape[1]
		b := BatchNorm{Width: width}
		x, gamma, beta, dy := values(1, n*width), values(2, width), values(3, width), values(4, n*width)
		for i := range x {
			x[i] += 5 // a mean that would cancel in a one-pass variance
		}
		x64, gamma64, beta64 := wide(x), wide(gamma), wide(beta)
		y, dgamma, dbeta := slices.Clone(x), values(9, width), values(9, width)
		b.Forward(y, x, gamma, beta, n)
		near(t, "y", y, normReference(x64, gamma64, beta64, n, width))
		g := slices.Clone(dy)
		b.Backward(g, dgamma, dbeta, g, gamma)
		loss := func() float64 { return dot(dy, normReference(x64, gamma64, beta64, n, width)) }
		near(t, "dgamma", dgamma, numeric(loss, gamma64))
		near(t, "dbeta", dbeta, numeric(loss, beta64))
		near(t, "dx", g, numeric(loss, x64))

		mean, variance := make([]float32, width), make([]float32, width)
		b.Running(mean, variance, 0.25)
		wantMean, wantVariance := make([]float64, width), make([]float64, width)
		for j := range width {
			m, v := moments(x64, n, width, j)
			wantMean[j], wantVariance[j] = m/4, v*float64(n)/float64(n-1)/4
		}
		near(t, "running mean", mean, wantMean)
		near(t, "running variance", variance, wantVariance)
	}
}

func TestBatchNormInferUsesRunningStatistics(t *testing.T) {
	const n, width = 3, 4
	b := BatchNorm{Width: width}
	x, gamma, beta, mean := values(1, n*width), values(2, width), values(3, width), values(4, width)
	variance := []float32{0, 1, 2, 0.5}
	want := make([]float64, n*width)
	for i, v := range x {
		j := i % width
		want[i] = float64(v-mean[j])/math.Sqrt(float64(variance[j])+1e-5)*float64(gamma[j]) + float64(beta[j])
	}
	b.Infer(x, x, gamma, beta, mean, variance, n)
	near(t, "y", x, want)
	panics(t, "backward after inference", func() { b.Backward(x, gamma, beta, x, gamma) })
}

func TestBatchNormOfFewSamplesStaysFinite(t *testing.T) {
	gamma, beta := []float32{2, 3}, []float32{5, 7}
	b := BatchNorm{Width: 2}
	x, y, dgamma, dbeta := []float32{100, -100}, make([]float32, 2), values(9, 2), values(9, 2)
	b.Forward(y, x, gamma, beta, 1)
	equalBits(t, "y of one sample", y, beta)
	dx := []float32{1, -1}
	b.Backward(dx, dgamma, dbeta, dx, gamma)
	equalBits(t, "dx of one sample", dx, []float32{0, 0})
	equalBits(t, "dbeta of one sample", dbeta, []float32{1, -1})
	mean, variance := values(9, 2), values(9, 2)
	b.Running(mean, variance, 0.5)
	equalBits(t, "mean of one sample", mean, []float32{50, -50})
	equalBits(t, "variance of one sample", variance, []float32{0, 0})

	b.Forward(nil, nil, gamma, beta, 0)
	b.Backward(nil, dgamma, dbeta, nil, gamma)
	b.Running(mean, variance, 0)
	for _, s := range [][]float32{dgamma, dbeta, mean, variance} {
		equalBits(t, "gradient of no samples", s, []float32{0, 0})
	}
}

func TestReLUMatchesReference(t *testing.T) {
	x := []float32{-2, -0.5, 0, 0.5, 2}
	y := make([]float32, 5)
	ReLU{}.Forward(y, x)
	equalBits(t, "y", y, []float32{0, 0, 0, 0.5, 2})
	dx := []float32{1, 2, 3, 4, 5}
	ReLU{}.Backward(dx, dx, y)
	equalBits(t, "dx", dx, []float32{0, 0, 0, 4, 5})
}

func TestDropoutKeepsTheExpectation(t *testing.T) {
	const n = 100_001
	for _, rate := range []float32{0.1, 0.5, 0.9} {
		d := Dropout{Rate: rate}
		x, y := make([]float32, n), make([]float32, n)
		for i := range x {
			x[i] = 1
		}
		d.Forward(y, x, 7)
		dropped, scale := 0, 1/(1-rate)
		for _, v := range y {
			switch v {
			case 0:
				dropped++
			case scale:
			default:
				t.Fatalf("rate %v: value %v, want 0 or %v", rate, v, scale)
			}
		}
		if share := float64(dropped) / n; math.Abs(share-float64(rate)) > 0.006 {
			t.Errorf("rate %v: dropped %v", rate, share)
		}
		dx := make([]float32, n)
		d.Backward(dx, x)
		equalBits(t, "dx of ones", dx, y)

		again := make([]float32, n)
		d.Forward(again, x, 8)
		if slices.Equal(again, y) {
			t.Errorf("rate %v: two streams drop the same", rate)
		}
		d.Forward(again[:11], x[:11], 7)
		equalBits(t, "shorter input", again[:11], y[:11])
	}
	y := []float32{1, 2, 3}
	(&Dropout{}).Forward(y, y, 1)
	equalBits(t, "rate 0", y, []float32{1, 2, 3})
}

func TestFMMatchesAllPairs(t *testing.T) {
	for _, shape := range [][3]int{{1, 1, 1}, {4, 3, 2}, {3, 10, 16}, {2, 26, 10}} {
		n, fields, dim := shape[0], shape[1], shape[2]
		l := FM{Fields: fields, Dim: dim}
		x, dy := values(1, n*fields*dim), values(2, n)
		x64 := wide(x)
		y, dx := make([]float32, n), make([]float32, len(x))
		l.Forward(y, x)
		near(t, "y", y, fmReference(x64, n, fields, dim))
		for i := range dx {
			dx[i] = 7 // overwritten
		}
		l.Backward(dx, dy, false)
		want := numeric(func() float64 { return dot(dy, fmReference(x64, n, fields, dim)) }, x64)
		near(t, "dx", dx, want)
		l.Backward(dx, dy, true)
		for i := range want {
			want[i] *= 2
		}
		near(t, "dx after adding twice", dx, want)
	}
}

func TestSumMatchesReference(t *testing.T) {
	const n, width = 4, 37
	s := Sum{Width: width}
	x, b, dy := values(1, n*width), []float32{0.5}, values(2, n)
	y, dx, db := make([]float32, n), make([]float32, n*width), []float32{9}
	s.Forward(y, x, b)
	s.Backward(dx, db, dy)
	x64, b64 := wide(x), wide(b)
	forward := func() []float64 {
		want := make([]float64, n)
		for i, v := range x64 {
			want[i/width] += v
		}
		for i := range want {
			want[i] += b64[0]
		}
		return want
	}
	near(t, "y", y, forward())
	near(t, "dx", dx, numeric(func() float64 { return dot(dy, forward()) }, x64))
	near(t, "db", db, numeric(func() float64 { return dot(dy, forward()) }, b64))

	without := make([]float32, n)
	s.Forward(without, x, nil)
	for i := range without {
		without[i] += 0.5
	}
	equalBits(t, "y without bias, plus bias", without, y)
	s.Backward(dx, nil, dy)
}

func TestBCEMatchesReference(t *testing.T) {
	logits := []float32{0, 1, -1, 3.5, -3.5, 30, -30, 80, -80, 200, -200, 200, -200}
	labels := []float32{1, 0, 1, 1, 1, 0, 0, 1, 1, 1, 0, 0, 1}
	z64 := wide(logits)
	loss := func() float64 {
		var sum float64
		for i, z := range z64 {
			sum += max(z, 0) - z*float64(labels[i]) + math.Log1p(math.Exp(-math.Abs(z)))
		}
		return sum
	}
	d := make([]float32, len(logits))
	got := BCEWithLogits(logits, labels, d, 0.25)
	if want := loss(); math.Abs(got-want) > 1e-6*want {
		t.Errorf("loss %v, want %v", got, want)
	}
	want := numeric(loss, z64)
	for i := range want {
		want[i] /= 4
	}
	near(t, "dLogits", d, want)
	if only := BCEWithLogits(logits, labels, nil, 0); only != got {
		t.Errorf("loss without gradient %v, want %v", only, got)
	}
	if nan := BCEWithLogits([]float32{float32(math.NaN())}, labels[:1], nil, 0); !math.IsNaN(nan) {
		t.Errorf("loss of NaN is %v", nan)
	}
}

func TestLayersRefuseWrongShapes(t *testing.T) {
	two, three := make([]float32, 2), make([]float32, 3)
	panics(t, "sum", func() { (&Sum{Width: 2}).Forward(two, three, nil) })
	panics(t, "labels", func() { BCEWithLogits(two, three, nil, 1) })
	panics(t, "weight", func() { (&Linear{In: 1, Out: 1}).Forward(two, two, two, two[:1], 2) })
	panics(t, "gather", func() { Gather(two, 1, 2, 1, three, 1, 0, nil, []int32{0, 0}, nil) })
}

func TestLayersGiveTheSameBitsOnEveryPath(t *testing.T) {
	const n, in, out = 37, 29, 43
	x, w, b, dy := values(1, n*in), values(2, out*in), values(3, out), values(4, n*out)
	labels := make([]float32, n)
	everyPath(t, func() [][]float32 {
		l, norm := Linear{In: in, Out: out}, BatchNorm{Width: out}
		drop, pairs := Dropout{Rate: 0.3}, FM{Fields: out, Dim: 1}
		y, dx := make([]float32, n*out), make([]float32, n*in)
		dw, db := make([]float32, out*in), make([]float32, out)
		dgamma, dbeta, mean, variance := make([]float32, out), make([]float32, out), make([]float32, out), make([]float32, out)
		z, dz := make([]float32, n), make([]float32, n)
		l.Forward(y, x, w, b, n)
		before := slices.Clone(y)
		norm.Forward(y, before, b, b, n)
		ReLU{}.Forward(y, y)
		drop.Forward(y, y, 5)
		pairs.Forward(z, y)
		kernel.Scale(0.01, z)
		loss := BCEWithLogits(z, labels, dz, 1)
		g := slices.Clone(dy)
		pairs.Backward(g, dz, true)
		drop.Backward(g, g)
		ReLU{}.Backward(g, g, y)
		norm.Backward(g, dgamma, dbeta, g, b)
		norm.Running(mean, variance, 0.5)
		l.Backward(dx, dw, db, g, w)
		return [][]float32{y, z, dz, {float32(loss)}, g, dgamma, dbeta, mean, variance, dx, dw, db}
	})
}

func TestWeightsMultiplyLossesAndGradients(t *testing.T) {
	logits, labels, weights := []float32{-1, 0.5, 3}, []float32{0, 1, 0}, []float32{2, 0, 0.5}
	d := make([]float32, 3)
	got := WeightedBCE(logits, labels, weights, d, 0.25)
	var want float64
	for i := range logits {
		one := make([]float32, 1)
		want += float64(weights[i]) * BCEWithLogits(logits[i:i+1], labels[i:i+1], one, 0.25)
		if d[i] != weights[i]*one[0] {
			t.Errorf("gradient of sample %d is %v, want %v", i, d[i], weights[i]*one[0])
		}
	}
	if math.Abs(got-want) > 1e-6 {
		t.Errorf("loss %v, want %v", got, want)
	}
	panics(t, "weights", func() { WeightedBCE(logits, labels, weights[:2], d, 1) })
}
