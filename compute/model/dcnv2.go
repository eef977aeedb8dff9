package model

import "github.com/fathom-train/fathom/compute/layer"

var dcnV2Definition = definition{
	name: "dcnv2", embedding: true, network: true, options: crossLayers | crossStructure | lowRank,
	defaults: crossDefaults, faults: dcnV2Faults, build: newDCNv2,
}

// newDCNv2 builds DCN V2 (Wang et al. 2021): cross layers of one matrix each, or
// of a mixture of low-rank experts, and a network beside or on top of them.
func newDCNv2(s Spec, fields int) Model {
	width := fields * s.EmbeddingDim
	if s.LowRank > 0 {
		return newCross(s, fields, &layer.CrossMix{Width: width, Layers: s.CrossLayers, Rank: s.LowRank, Experts: s.Experts})
	}
	return newCross(s, fields, &layer.CrossNetV2{Width: width, Layers: s.CrossLayers})
}

func dcnV2Faults(s Spec, fields int) []string {
	faults := crossFaults(s, fields)
	switch {
	case s.LowRank == 0 && s.Experts != 0:
		faults = append(faults, "experts: only a mixture has experts; set low_rank")
	case s.LowRank > 0 && s.Experts == 0:
		faults = append(faults, "experts: 0 is not in [1, 64]")
	}
	return faults
}
