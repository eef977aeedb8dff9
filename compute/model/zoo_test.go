package model

import (
	"errors"
	"strings"
	"testing"
)

// zooSpecs covers the models beyond lr, fm and deepfm with every option.
func zooSpecs() []Spec {
	return []Spec{
		{Name: "dnn", EmbeddingDim: 4, Hidden: []int{9, 5}},
		{Name: "dnn", EmbeddingDim: 3, Hidden: []int{7}, BatchNorm: true, Dropout: 0.3},
		{Name: "wide_deep", EmbeddingDim: 4, Hidden: []int{9, 5}, Dropout: 0.2},
		{Name: "fnn", EmbeddingDim: 3, Hidden: []int{9, 5}},
		{Name: "ipnn", EmbeddingDim: 3, Hidden: []int{9, 5}, BatchNorm: true},
		{Name: "ipnn", EmbeddingDim: 17, Hidden: []int{6}, Dropout: 0.2},
		{Name: "dcn", EmbeddingDim: 3, Hidden: []int{9, 5}, CrossLayers: 2},
		{Name: "dcn", EmbeddingDim: 3, CrossStructure: CrossNetOnly},
		{Name: "dcnv2", EmbeddingDim: 3, Hidden: []int{9, 5}, BatchNorm: true, Dropout: 0.1},
		{Name: "dcnv2", EmbeddingDim: 3, Hidden: []int{9, 5}, CrossStructure: Stacked, CrossLayers: 1},
		{Name: "dcnv2", EmbeddingDim: 3, Hidden: []int{9, 5}, LowRank: 5},
		{Name: "dcnv2", EmbeddingDim: 3, CrossStructure: CrossNetOnly, LowRank: 2, Experts: 3},
		{Name: "xdeepfm", EmbeddingDim: 3, Hidden: []int{9, 5}},
		{Name: "xdeepfm", EmbeddingDim: 4, Hidden: []int{7}, CINUnits: []int{5}, BatchNorm: true},
		{Name: "autoint", EmbeddingDim: 3},
		{Name: "autoint", EmbeddingDim: 8, AttentionLayers: 1, Heads: 2, Residual: new(bool), Scale: true, Wide: true, Dropout: 0.2},
		{Name: "autoint_plus", EmbeddingDim: 3, Hidden: []int{9}, AttentionLayers: 1, AttentionDim: 6, Heads: 3, LayerNorm: true},
		{Name: "autoint_plus", EmbeddingDim: 3, Hidden: []int{9}, BatchNorm: true, AttentionLayers: 1, Dropout: 0.2, Scale: true, Wide: true},
		{Name: "dnn", EmbeddingDim: 3, Hidden: []int{4, 3}, Tower: Hourglass, TowerWidth: 9, Dropout: 0.2},
		{Name: "deepfm", EmbeddingDim: 3, Hidden: []int{4, 3}, Tower: Parallel, TowerWidth: 9, NormPlacement: PeriNorm, Dropout: 0.2},
		{Name: "dcnv2", EmbeddingDim: 3, Hidden: []int{4}, Tower: Parallel, TowerWidth: 9},
		{Name: "autoint_plus", EmbeddingDim: 3, Hidden: []int{4, 3}, Tower: Hourglass, TowerWidth: 8, NormPlacement: PeriNorm, LayerNorm: true},
		{Name: "autoint", EmbeddingDim: 3, AttentionDim: 6, Heads: 2, LayerNorm: true, NormPlacement: PeriNorm, Dropout: 0.1},
		{Name: "finalmlp", EmbeddingDim: 3, Hidden: []int{4}, Hidden2: []int{3, 3}, Tower: Hourglass, TowerWidth: 6, Heads: 2},
		{Name: "nfm", EmbeddingDim: 6, Hidden: []int{9, 5}},
		{Name: "nfm", EmbeddingDim: 6, Hidden: []int{9}, BatchNorm: true, Dropout: 0.2},
		{Name: "afm", EmbeddingDim: 4},
		{Name: "afm", EmbeddingDim: 9, AttentionDim: 5, Dropout: 0.2, Dropout2: 0.3},
		{Name: "fwfm", EmbeddingDim: 4},
		{Name: "fwfm", EmbeddingDim: 9, LinearType: LinearWeight},
		{Name: "fwfm", EmbeddingDim: 4, LinearType: KeyVector},
		{Name: "ffm", EmbeddingDim: 3},
		{Name: "dlrm", EmbeddingDim: 3, Hidden: []int{9, 5}, BatchNorm: true},
		{Name: "dlrm", EmbeddingDim: 3, Hidden: []int{9}, Interaction: Cat, Dropout: 0.2},
		{Name: "finalmlp", EmbeddingDim: 3, Hidden: []int{9, 6}, Hidden2: []int{8}, Heads: 2, Dropout: 0.1, Dropout2: 0.2},
		{Name: "finalmlp", EmbeddingDim: 3, Hidden: []int{6}, BatchNorm: true, Hidden2: []int{7, 4}, GateHidden: []int{5}},
		{Name: "finalmlp", EmbeddingDim: 3, Hidden: []int{6}, Hidden2: []int{4}, BatchNorm2: true, GateHidden: []int{5}, Context1: []int{0}, Context2: []int{3, 1}},
	}
}

// TestZooParameterCountsMatchBARS compares the numbers that the logs of the
// published runs print.
func TestZooParameterCountsMatchBARS(t *testing.T) {
	const frappe, movieLens = 5389, 90239
	deep := []int{400, 400, 400}
	for _, c := range []struct {
		spec               Spec
		rows, fields, want int
	}{
		// The log of DNN counts the network twice: 781 892 = 417 891 + 364 001.
		{Spec{Name: "dnn", BatchNorm: true}, frappe, 10, 417_891},
		{Spec{Name: "wide_deep", BatchNorm: true, Hidden: deep}, frappe, 10, 423_280},
		{Spec{Name: "ipnn"}, frappe, 10, 433_491},
		{Spec{Name: "dcn", BatchNorm: true}, frappe, 10, 418_591},
		{Spec{Name: "dcnv2", BatchNorm: true, CrossLayers: 4}, frappe, 10, 458_391},
		{Spec{Name: "dcnv2", BatchNorm: true, CrossLayers: 5}, movieLens, 3, 1_243_071},
		{Spec{Name: "xdeepfm", BatchNorm: true, CINUnits: []int{64}}, frappe, 10, 429_809},
		{Spec{Name: "xdeepfm", CINUnits: []int{64, 64, 64}}, movieLens, 3, 1_351_767},
		{Spec{Name: "autoint", AttentionLayers: 6, AttentionDim: 128, Heads: 4}, frappe, 10, 306_051},
		{Spec{Name: "autoint_plus", BatchNorm: true, AttentionLayers: 5, AttentionDim: 128, Heads: 4, LayerNorm: true, Scale: true}, frappe, 10, 622_180},
		{Spec{Name: "autoint_plus", BatchNorm: true, AttentionLayers: 2, AttentionDim: 128, Heads: 4, LayerNorm: true, Scale: true, Wide: true}, movieLens, 3, 1_383_799},
		{Spec{Name: "nfm"}, frappe, 10, 384_880},
		{Spec{Name: "afm", AttentionDim: 128}, frappe, 10, 60_826},
		{Spec{Name: "fwfm", LinearType: KeyVector}, frappe, 10, 107_826},
		{Spec{Name: "ffm"}, frappe, 10, 490_400},
		{Spec{Name: "dlrm", BatchNorm: true, Interaction: Cat}, frappe, 10, 417_891},
	} {
		c.spec.EmbeddingDim = 10
		m, err := New(c.spec.WithDefaults(), c.fields)
		if err != nil {
			t.Fatal(err)
		}
		if got := parameters(m, c.rows); got != c.want {
			t.Errorf("%+v has %d parameters over %d rows, want %d", c.spec, got, c.rows, c.want)
		}
	}
}

// TestTowerParameterCounts counts what the formulas have: with z the width, h
// that of a block's hidden layer and b blocks, a lift of (in+1)z, blocks of
// 2zh+h+z and a norm of 2z each, one more norm, and a last layer of z+1. Peri-LN
// has b+1 norms more.
func TestTowerParameterCounts(t *testing.T) {
	const in, z, h, b = 100, 400, 64, 3
	const want = (in+1)*z + b*(2*z*h+h+z+2*z) + 2*z + z + 1
	for placement, count := range map[string]int{PreNorm: want, PeriNorm: want + (b+1)*2*z} {
		for _, tower := range []string{Hourglass, Parallel} {
			m, err := New(Spec{
				Name: "dnn", EmbeddingDim: 10, Hidden: []int{h, h, h}, Tower: tower, TowerWidth: z, NormPlacement: placement,
			}, in/10)
			if err != nil {
				t.Fatal(err)
			}
			if got := parameters(m, 0); got != count {
				t.Errorf("%s, %s: %d parameters, want %d", tower, placement, got, count)
			}
		}
	}
}

// TestFinalMLPParameterCountMatchesBARS counts as the published log does: a
// table has a row more per field, and the context has rows of its fields only.
func TestFinalMLPParameterCountMatchesBARS(t *testing.T) {
	const rows, users, items, dim = 5389 + 10, 956, 4084, 10
	m, err := New(Spec{
		Name: "finalmlp", EmbeddingDim: dim, Hidden: []int{400}, BatchNorm: true, Dropout: 0.4,
		Hidden2: []int{100}, BatchNorm2: true, Dropout2: 0.4, GateHidden: []int{400},
		Context1: []int{0}, Context2: []int{1}, Heads: 5,
	}, 10)
	if err != nil {
		t.Fatal(err)
	}
	if got := parameters(m, 0) + rows*dim + (users+items)*dim; got != 253_392 {
		t.Errorf("%d parameters, want 253392", got)
	}
}

// parameters counts the trained numbers of a model whose table has the given rows.
func parameters(m Model, rows int) int {
	count := 0
	for _, p := range m.Params() {
		if p.Kind == Weight {
			count += p.Size()
		}
	}
	for _, c := range m.Columns() {
		count += rows * c.Width
	}
	return count
}

func TestOptionsAreRefusedWhereTheyMeanNothing(t *testing.T) {
	yes := true
	all := Spec{
		Name: "dnn", EmbeddingDim: 4, Hidden: []int{4}, CrossLayers: 1, CrossStructure: Parallel, LowRank: 1, Experts: 1,
		CINUnits: []int{1}, AttentionLayers: 1, AttentionDim: 1, Heads: 1, Residual: &yes, Scale: true, LayerNorm: true,
		Wide: true, LinearType: FieldVector, Interaction: Dot, Hidden2: []int{1}, Dropout2: 0.5, BatchNorm2: true,
		GateHidden: []int{1}, Context1: []int{0}, Context2: []int{1},
	}
	err := all.Validate()
	if !errors.Is(err, ErrSpec) {
		t.Fatalf("%v", err)
	}
	for _, name := range []string{
		"cross_layers", "cross_structure", "low_rank", "experts", "cin_units", "attention_layers", "attention_dim",
		"heads", "residual", "scale", "layer_norm", "wide", "linear_type", "interaction", "hidden2", "dropout2",
		"batch_norm2", "gate_hidden", "context1", "context2",
	} {
		if want := ": " + name + ": model dnn does not have this option"; !strings.Contains(err.Error(), want) {
			t.Errorf("error does not say %q:\n%v", want, err)
		}
	}
}

func TestZooValidateNamesEveryFault(t *testing.T) {
	for _, c := range zooFaults() {
		s := c.spec.WithDefaults()
		_, err := New(s, 4)
		if !errors.Is(err, ErrSpec) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: error %v does not name %q", c.spec, err, c.want)
		}
	}
}

type zooFault struct {
	spec Spec
	want string
}

func zooFaults() []zooFault {
	return []zooFault{
		{Spec{Name: "ipnn", EmbeddingDim: -1}, "embedding_dim: -1"},
		{Spec{Name: "dnn", Hidden: []int{0}}, "hidden[0]: 0"},
		{Spec{Name: "wide_deep", Dropout: 2}, "dropout: 2"},
		{Spec{Name: "dcn", CrossLayers: -1}, "cross_layers: -1"},
		{Spec{Name: "dcn", CrossStructure: Stacked}, "cross_structure: model dcn"},
		{Spec{Name: "dcnv2", CrossStructure: "beside"}, `cross_structure: "beside" is none of parallel, stacked, crossnet_only`},
		{Spec{Name: "dcnv2", CrossStructure: CrossNetOnly, Hidden: []int{4}}, "hidden, dropout, batch_norm, tower"},
		{Spec{Name: "dcnv2", Experts: 2}, "experts: only a mixture"},
		{Spec{Name: "dcnv2", LowRank: LowRankMax + 1}, "low_rank: 4097"},
		{Spec{Name: "xdeepfm", CINUnits: []int{3, 0}}, "cin_units[1]: 0"},
		{Spec{Name: "autoint", AttentionDim: 6, Heads: 4}, "heads: 4 do not divide the attention_dim of 6"},
		{Spec{Name: "autoint", Hidden: []int{4}}, "hidden, dropout, batch_norm, tower: model autoint has no hidden layers"},
		{Spec{Name: "autoint", AttentionLayers: 65, Dropout: 1}, "attention_layers: 65"},
		{Spec{Name: "afm", Dropout2: -1}, "dropout2: -1"},
		{Spec{Name: "fwfm", LinearType: "lw"}, `linear_type: "lw" is none of LW, FeLV, FiLV`},
		{Spec{Name: "dlrm", Interaction: "sum"}, `interaction: "sum" is none of dot, cat`},
		{Spec{Name: "finalmlp", Heads: 3}, "heads: 3 do not divide the last width of hidden, 400"},
		{Spec{Name: "finalmlp", Hidden2: []int{3}, Heads: 2}, "heads: 2 do not divide the last width of hidden2, 3"},
		{Spec{Name: "finalmlp", Context2: []int{1}}, "context2: there are no gates"},
		{Spec{Name: "finalmlp", GateHidden: []int{4}, Context1: []int{-1}}, "context1[0]: no field has the number -1"},
		{Spec{Name: "finalmlp", GateHidden: []int{4}, Context1: []int{4}}, "context1[0]: no field has the number 4"},
		{Spec{Name: "finalmlp", GateHidden: []int{4}, Context1: []int{1}, Context2: []int{0, 1}}, "context2[1]: field 1 steers a gate already"},
		{Spec{Name: "finalmlp", GateHidden: []int{0}}, "gate_hidden[0]: 0"},
		{Spec{Name: "finalmlp", Tower: Hourglass, Heads: 3}, "heads: 3 do not divide the tower_width of 400"},
		{Spec{Name: "dnn", Tower: "deep"}, `tower: "deep" is none of mlp, hourglass, parallel`},
		{Spec{Name: "dnn", TowerWidth: 9}, "tower_width, norm_placement: only towers of residual blocks"},
		{Spec{Name: "dnn", Tower: Parallel, TowerWidth: HiddenWidthMax + 1}, "tower_width: 65537"},
		{Spec{Name: "dnn", Tower: Parallel, NormPlacement: "post"}, `norm_placement: "post" is none of pre, peri`},
		{Spec{Name: "dnn", Tower: Hourglass, BatchNorm: true}, "batch_norm: residual blocks"},
		{Spec{Name: "fm", NormPlacement: PeriNorm}, "tower_width, norm_placement: only towers"},
		{Spec{Name: "autoint", NormPlacement: PeriNorm}, "attention layers with layer_norm"},
		{Spec{Name: "fm", Tower: Hourglass}, "tower: model fm has no hidden layers"},
	}
}

func TestModelsOfPairsNeedTwoFields(t *testing.T) {
	for _, name := range Names() {
		s := Spec{Name: name}.WithDefaults()
		m, err := New(s, 1)
		switch name {
		case "fwfm", "ffm":
			if !errors.Is(err, ErrSpec) || !strings.Contains(err.Error(), "two fields") {
				t.Errorf("%s of one field: %v", name, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s of one field: %v", name, err)
			continue
		}
		b := newBatch(t, Spec{Name: name, Hidden: smallNetwork(s)}, 1, 5)
		b.step()
		if len(m.Columns()) != len(b.model.Columns()) {
			t.Errorf("%s: %d columns", name, len(m.Columns()))
		}
	}
	if _, err := New(Spec{Name: "ffm", EmbeddingDim: 10}, ColumnWidthMax/10+2); !errors.Is(err, ErrSpec) || !strings.Contains(err.Error(), "embedding_dim") {
		t.Errorf("huge rows: %v", err)
	}
}

// smallNetwork returns hidden layers for a model that has a network.
func smallNetwork(s Spec) []int {
	if len(s.Hidden) == 0 {
		return nil
	}
	return []int{6}
}
