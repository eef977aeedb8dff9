package job

import (
	"github.com/fathom-train/fathom/compute/embedding"
	"github.com/fathom-train/fathom/compute/model"
	"github.com/fathom-train/fathom/compute/optim"
	"github.com/fathom-train/fathom/coordinator/search"
)

// MaskTensor is the name of the tensor behind the selector's own: for every cluster,
// field and dimension 1 where the gate is open, else 0. Those of a supernet are not
// found yet and are not read.
const MaskTensor = model.SelectorPrefix + "masks"

// selectorMax bounds the numbers of all masks.
const selectorMax = 1 << 18

// selectorSpec describes the selector of the job's model, or of its supernet; nil
// without one.
func (j *Job) selectorSpec() *embedding.Selector {
	if s := j.Spec.Search; s != nil && s.Strategy == search.IHAS {
		return &embedding.Selector{Clusters: s.Gates.Clusters, Hidden: s.Gates.Hidden}
	}
	return j.Spec.Embedding.Selector
}

// Selector returns the network that gives the gates of every sample, and how many
// clusters there are; nil and 0 for models without one.
func (j *Job) Selector() (net *model.Selector, clusters int) {
	s := j.selectorSpec()
	if s == nil {
		return nil, 0
	}
	fields := len(j.Spec.Data.ResolvedFields())
	return model.NewSelector(fields*embedding.Codes, s.Hidden, fields*j.Spec.Model.EmbeddingDim), s.Clusters
}

// SelectorParams lists the tensors of the selector, behind those of the model: of the
// network and, last, the masks. There are none without one.
func (j *Job) SelectorParams() []model.Param {
	net, clusters := j.Selector()
	if net == nil {
		return nil
	}
	params := net.Params()
	gates := params[len(params)-1].Size()
	return append(params, model.Param{Name: MaskTensor, Shape: []int{clusters, gates}})
}

// selectorTensors are these tensors, from a number on. Only a supernet trains them: the
// masks belong to the network as it was when they were found.
func (j *Job) selectorTensors(first int) []Dense {
	o := optim.Config{Name: optim.SGD, LearningRate: 1} // of gradients that are zero
	if j.Spec.Search != nil && j.Spec.Search.Gates != nil {
		o = optim.Config{Name: optim.Adam, LearningRate: j.Spec.Search.Gates.LearningRate}
	}
	var all []Dense
	for i, p := range j.SelectorParams() {
		all = append(all, Dense{ID: uint16(first + i), Name: p.Name, Size: p.Size(), Init: p.Init, Optimizer: o.WithDefaults()})
	}
	return all
}

// selector checks that there is one embedding whose dimensions can be chosen.
func (c *checker) selector(j *Job, m model.Model) {
	s := j.selectorSpec()
	if s == nil {
		return
	}
	path := "spec.embedding.selector"
	if j.Spec.Search != nil {
		path = "spec.search.gates"
	}
	if !embeds(m, j.Spec.Model.EmbeddingDim) {
		c.fault(path, "model %s does not have one embedding of embedding_dim per field, whose dimensions could be chosen", j.Spec.Model.Name)
	}
	if n := s.Clusters * len(j.Spec.Data.ResolvedFields()) * j.Spec.Model.EmbeddingDim; n > selectorMax {
		c.fault(path+".clusters", "%d: the masks of %d clusters have %d numbers, at most %d are possible", s.Clusters, s.Clusters, n, selectorMax)
	}
}
