package supernet

import (
	"math"
	"math/bits"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func sigmoid(v float64) float64 { return 1 / (1 + math.Exp(-v)) }

// The gradient is that of the loss in which the probabilities stand for the gates.
func TestInstanceGateGradient(t *testing.T) {
	const n, size, weight = 3, 10, 0.7
	slope, l := wide(values(1, n*size, 1)), wide(values(2, n*size, 1)) // of a gate in the loss; logits
	want := numeric(func() (sum float64) {
		for at := 0; at < len(l); at += size {
			mean := 0.0
			for _, v := range l[at : at+size] {
				mean += sigmoid(v) / size
			}
			for i, v := range l[at : at+size] {
				sum += slope[at+i]*sigmoid(v) + weight*(sigmoid(v)-math.Abs(sigmoid(v)-mean))/size
			}
		}
		return sum
	}, l)
	dz, p := make([]float32, len(l)), make([]float32, len(l))
	for i := range l {
		dz[i], p[i] = float32(slope[i]), float32(sigmoid(l[i]))
	}
	GateGradient(dz, p, size, weight)
	near(t, "logits", dz, want)
	if got := Polarization([]float32{1, 0, 1, 0}); got != 0 {
		t.Errorf("the regulariser of gates that are apart is %v, want 0", got)
	}
	if got := Polarization([]float32{0.5, 0.5}); got != 0.5 {
		t.Errorf("the regulariser of gates that are undecided is %v, want 0.5", got)
	}
}

func TestGatesAreDrawnByTheirProbability(t *testing.T) {
	const n = 20_000
	p, z := make([]float32, n), make([]float32, n)
	for i := range p {
		p[i] = [...]float32{0, 0.25, 1, 0.75}[i%4]
	}
	DrawGates(z, p, 5)
	var open [4]float64
	for i, v := range z {
		open[i%4] += float64(v)
	}
	for i := range open {
		open[i] /= n / 4
	}
	if open[0] != 0 || open[2] != 1 || math.Abs(open[1]-0.25) > 0.02 || math.Abs(open[3]-0.75) > 0.02 {
		t.Errorf("open are %v, want 0, 0.25, 1 and 0.75", open)
	}
	DrawGates(p, p, 6)
	if slices.Equal(p, z) {
		t.Error("two streams draw the same")
	}
}

// Samples that are masks with a few gates changed are told apart by these masks.
func TestClustersAreFound(t *testing.T) {
	const gates, words, n = 100, 2, 600
	masks := [][]uint64{{0xffff_ffff, 0}, {0xffff_ffff << 32, 0xf}, {0xaaaa_aaaa_aaaa_aaaa, 0xfff}}
	var samples []uint64
	for i := range n {
		s := slices.Clone(masks[i%3])
		for k := range 8 {
			g := (i*37 + k*29) % gates
			s[g/64] ^= 1 << (g % 64)
		}
		samples = append(samples, s...)
	}
	centres, sizes := Cluster(samples, words, gates, 3, 9)
	for c, m := range masks {
		at := slices.IndexFunc(centres, func(x []uint64) bool { return slices.Equal(x, m) })
		if at < 0 || sizes[at] != n/3 {
			t.Errorf("mask %d is centre %d, sizes %v", c, at, sizes)
		}
	}
}

func TestClustersHaveAllSamples(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		gates := rapid.IntRange(1, 130).Draw(t, "gates")
		words, k := Words(gates), rapid.IntRange(1, 6).Draw(t, "k")
		n := rapid.IntRange(0, 20).Draw(t, "n")
		var samples []uint64
		logits := make([]float32, gates)
		for range n {
			for i := range logits {
				logits[i] = float32(rapid.IntRange(-1, 1).Draw(t, "logit"))
			}
			s := make([]uint64, words)
			Pack(s, logits)
			open := make([]float32, gates)
			Unpack(open, s)
			for i := range open {
				if (open[i] == 1) != (logits[i] > 0) {
					t.Fatalf("gate %d of logit %v is %v", i, logits[i], open[i])
				}
			}
			samples = append(samples, s...)
		}
		centres, sizes := Cluster(samples, words, gates, k, 3)
		counts := make([]int64, k)
		for i := range n {
			s := samples[i*words : (i+1)*words]
			at := Nearest(s, centres)
			counts[at]++
			for c := range centres {
				if less := differing(s, centres[c]); less < differing(s, centres[at]) || less == differing(s, centres[at]) && c < at {
					t.Fatalf("sample %d is given to centre %d, %d is nearer or before", i, at, c)
				}
			}
		}
		if len(centres) != k || !slices.Equal(counts, sizes) {
			t.Fatalf("%d centres with %v samples, want %d with %v", len(centres), sizes, k, counts)
		}
	})
}

func differing(a, b []uint64) (n int) {
	for i := range a {
		n += bits.OnesCount64(a[i] ^ b[i])
	}
	return n
}

func TestADimensionOfNoClusterIsMaskedForNone(t *testing.T) {
	open := []float32{
		1, 0, 0, 1,
		0, 0, 1, 1,
	}
	ClusterMasks(open, 4)
	if want := []float32{1, 1, 0, 1, 0, 1, 1, 1}; !slices.Equal(open, want) {
		t.Errorf("masks %v, want %v", open, want)
	}
}
