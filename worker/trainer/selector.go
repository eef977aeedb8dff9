package trainer

import (
	"context"
	"fmt"

	"github.com/fathom-train/fathom/compute/embedding"
	"github.com/fathom-train/fathom/compute/kernel"
	"github.com/fathom-train/fathom/compute/model"
	"github.com/fathom-train/fathom/compute/random"
	"github.com/fathom-train/fathom/compute/supernet"
	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/fathom-train/fathom/coordinator/search"
)

// clusterRows is about how many samples of the validation split are grouped.
const clusterRows = 1 << 14

// selector decides for every sample which dimensions of its embeddings the model sees
// (iHAS). It reads the keys of the sample and tensors of its own, nothing that the
// training of the winner changes. In a supernet it is trained, and gates are open or
// closed one by one; in the winner a sample sees what its cluster has open.
type selector struct {
	net      *model.Selector
	first    int // id of its first tensor
	masks    int // id of the clusters' masks
	column   int // of the model, which is masked
	gates    int // of a sample: fields times the width of the column
	clusters int
	seed     uint64
	// learn is nil in the winner.
	learn *job.Gates
	start uint64 // the gates move behind this step

	codes, logits, p, z, plain []float32
	factors                    []float32 // [clusters, gates]
	bits                       []uint64  // of a sample
	centres                    [][]uint64
	of                         []int // the cluster of every sample
}

// newSelector returns nil for a job without one. The tensors stand behind those of the
// model.
func newSelector(j *job.Job, t *Trainer) *selector {
	net, clusters := j.Selector()
	if net == nil {
		return nil
	}
	c := &selector{net: net, first: len(t.sizes), clusters: clusters, seed: j.Spec.Train.Seed}
	for i, col := range t.columns {
		if col.Name == model.Embedding {
			c.column, c.gates = i, len(j.Spec.Data.ResolvedFields())*col.Width
		}
	}
	for _, p := range j.SelectorParams() {
		t.sizes, t.names = append(t.sizes, p.Size()), append(t.names, p.Name)
	}
	c.masks = len(t.sizes) - 1
	c.bits = make([]uint64, supernet.Words(c.gates))
	if j.Spec.Search != nil {
		c.learn = j.Spec.Search.Gates
		c.start = t.cfg.Start + uint64(float64(c.learn.Warmup)*float64(j.Steps(t.train.Rows())))
	}
	return c
}

// tensors are those of the network among all dense ones.
func (c *selector) tensors(dense [][]float32) [][]float32 { return dense[c.first:c.masks] }

// decide computes the logits of all samples' gates.
func (c *selector) decide(s *slot, train bool) {
	n := s.data.N
	c.codes, c.logits = grow(c.codes, n*s.data.Fields*embedding.Codes), grow(c.logits, n*c.gates)
	s.samples().Codes(c.codes)
	c.net.Forward(c.tensors(s.dense.values), c.logits, c.codes, n, train)
}

// open closes gates in the model's input. train draws those of a supernet, which are
// open by their logits else.
func (c *selector) open(s *slot, input [][]float32, train bool) {
	if c == nil {
		return
	}
	switch {
	case c.learn == nil:
		c.openClusters(s, input[c.column], s.dense.values[c.masks])
	case !train:
		c.decide(s, false)
		for i, l := range c.logits {
			if !(l > 0) {
				input[c.column][i] = 0
			}
		}
	case s.step > c.start:
		c.decide(s, true)
		c.p, c.z = grow(c.p, len(c.logits)), grow(c.z, len(c.logits))
		kernel.SigmoidSlice(c.p, c.logits)
		supernet.DrawGates(c.z, c.p, random.Stream(c.seed, random.Gates, s.step, uint64(s.lane), 0))
		c.plain = append(c.plain[:0], input[c.column]...)
		kernel.Mul(input[c.column], c.plain, c.z)
	}
}

// openGradient is the backward pass of open in training. It sets the gradients of the
// selector's tensors.
func (c *selector) openGradient(s *slot, dInput [][]float32) {
	if c == nil {
		return
	}
	for i := c.first; i <= c.masks; i++ {
		clear(s.ddense[i])
	}
	d := dInput[c.column]
	switch {
	case c.learn == nil:
		c.mask(d)
	case s.step > c.start:
		kernel.Mul(c.plain, d, c.plain) // the gradients of the gates
		kernel.Mul(d, d, c.z)
		supernet.GateGradient(c.plain, c.p, c.gates, c.learn.Penalty/float32(s.batch))
		c.net.Backward(c.tensors(s.dense.values), c.tensors(s.ddense), c.plain)
	}
}

// openClusters masks x by the clusters of the samples; open has the gates of the
// clusters' centres as numbers.
func (c *selector) openClusters(s *slot, x, open []float32) {
	c.centres = grow(c.centres, c.clusters)
	for i := range c.centres {
		c.centres[i] = grow(c.centres[i], len(c.bits))
		supernet.Pack(c.centres[i], open[i*c.gates:(i+1)*c.gates])
	}
	c.factors = append(c.factors[:0], open...)
	supernet.ClusterMasks(c.factors, c.gates)
	c.decide(s, false)
	c.of = grow(c.of, s.data.N)
	for i := range c.of {
		supernet.Pack(c.bits, c.logits[i*c.gates:(i+1)*c.gates])
		c.of[i] = supernet.Nearest(c.bits, c.centres)
	}
	c.mask(x)
}

// mask multiplies what is of every sample by the mask of its cluster.
func (c *selector) mask(x []float32) {
	for i, of := range c.of {
		kernel.Mul(x[i*c.gates:(i+1)*c.gates], x[i*c.gates:(i+1)*c.gates], c.factors[of*c.gates:(of+1)*c.gates])
	}
}

// numbers are the gates of clusters as the mask tensor has them.
func (c *selector) numbers(clusters []search.Cluster) ([]float32, error) {
	if len(clusters) != c.clusters {
		return nil, fmt.Errorf("%d clusters of samples, the job has %d", len(clusters), c.clusters)
	}
	open := make([]float32, c.clusters*c.gates)
	for i, of := range clusters {
		if len(of.Open) != len(c.bits) {
			return nil, fmt.Errorf("cluster %d has %d words of gates, want %d", i, len(of.Open), len(c.bits))
		}
		supernet.Unpack(open[i*c.gates:(i+1)*c.gates], of.Open)
	}
	return open, nil
}

// cluster groups samples of the validation split, evenly taken, by the gates that they
// have open at the version. shares has for every field and dimension the share of the
// samples that have it open, 0 when no cluster does.
func (t *Trainer) cluster(ctx context.Context, version uint64) (clusters []search.Cluster, shares []float32, err error) {
	c := t.selector
	split, ok := t.cfg.Data.Split("valid")
	if !ok {
		return nil, nil, fmt.Errorf("the data have no valid split, whose samples are grouped")
	}
	share := min(1, clusterRows/float64(max(1, split.Rows())))
	var samples []uint64
	counts := make([]int64, c.gates)
	err = t.scan(ctx, "valid", version, parts(0, split.Rows(), share), func(s *slot, _ int64) error {
		c.decide(s, false)
		for i := range s.data.N {
			supernet.Pack(c.bits, c.logits[i*c.gates:(i+1)*c.gates])
			samples = append(samples, c.bits...)
			for g := range counts {
				counts[g] += int64(c.bits[g/64] >> (g % 64) & 1)
			}
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	centres, sizes := supernet.Cluster(samples, len(c.bits), c.gates, c.clusters, random.Stream(c.seed, random.Gates, 0, 0, 1))
	shares = make([]float32, c.gates)
	n := max(1, len(samples)/len(c.bits))
	for i, centre := range centres {
		clusters = append(clusters, search.Cluster{Samples: sizes[i], Open: centre})
		for g := range shares {
			if sizes[i] > 0 && centre[g/64]>>(g%64)&1 == 1 {
				shares[g] = float32(float64(counts[g]) / float64(n))
			}
		}
	}
	return clusters, shares, nil
}
