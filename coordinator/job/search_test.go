package job

import (
	"strings"
	"testing"
)

const searchJob = `
apiVersion: fathom.dev/v1alpha1
kind: TrainingJob
metadata: {name: j}
spec:
  data: {format: synthetic, synthetic: {train_rows: 1000, valid_rows: 100}}
  model: {name: deepfm, embedding_dim: 16, hidden: [8]}
  search: {}
`

func TestSearchesThatCannotWorkAreRefused(t *testing.T) {
	for _, c := range []struct {
		set  []string
		path string // of the fault; "": none
	}{
		{nil, ""},
		{[]string{"spec.train.seeds=[1, 2]"}, ""},
		{[]string{"spec.train.clip_norm=1"}, ""},
		{[]string{"spec.train.mode=async"}, "spec.train.mode"},
		{[]string{"spec.data.synthetic.valid_rows=null"}, "spec.search"},
		{[]string{"spec.embedding.width=4"}, "spec.embedding"},
		{[]string{"spec.search.widths=[1, 4]"}, "spec.search.widths"},
		{[]string{"spec.search.widths=[4, 2, 16]"}, "spec.search.widths[1]"},
		{[]string{"spec.search.widths=[0, 2, 16]"}, ""},
		{[]string{"spec.search.rows=[0.1, 1]"}, ""},
		{[]string{"spec.search={oov: true, rows: [0.1, 1]}"}, ""},
		{[]string{"spec.search={oov: true}"}, "spec.search.oov"},
		{[]string{"spec.search={oov: true, strategy: pep}"}, "spec.search.oov"},
		{[]string{"spec.search.strategy=pep"}, ""},
		{[]string{"spec.search={strategy: guided, pruning: {kind: soft}}"}, ""},
		{[]string{"spec.search={strategy: pep, pruning: {learning_rate: 0.1}}"}, ""},
		{[]string{"spec.search={strategy: pep, pruning: {kind: hard}}"}, "spec.search.pruning.kind"},
		{[]string{"spec.search={strategy: pep, pruning: {kind: soft, norm: l2}}"}, "spec.search.pruning.norm"},
		{[]string{"spec.search={pruning: {per: feature}}"}, ""},
		{[]string{"spec.search={strategy: pep, pruning: {per: feature}}"}, "spec.search.pruning.per"},
		{[]string{"spec.search={pruning: {norm: linf}}"}, "spec.search.pruning.norm"},
		{[]string{"spec.search={pruning: {kind: soft}, rows: [0.5, 1]}"}, "spec.search.rows"},
		{[]string{"spec.search.rows=[0.1, 0.5]"}, "spec.search.rows"},
		{[]string{"spec.search.rows=[0, 1]"}, "spec.search.rows[0]"},
		{[]string{"spec.search={strategy: dnis, rows: [0.5, 1]}"}, "spec.search.rows"},
		{[]string{"spec.search.sampling=all"}, "spec.search.widths"},
		{[]string{"spec.search={sampling: all, widths: [4, 16], distillation: 1}"}, ""},
		{[]string{"spec.search.distillation=1"}, "spec.search.distillation"},
		{[]string{"spec.search.gates={learning_rate: 1}"}, "spec.search.gates"},
		{[]string{"spec.search={strategy: dnis, gates: {learning_rate: 1}}"}, ""},
		{[]string{"spec.search={strategy: dnis, gates: {kind: dimension}}"}, ""},
		{[]string{"spec.search={strategy: autodim, gates: {kind: dimension}}"}, "spec.search.gates.kind"},
		{[]string{"spec.search={strategy: ihas, gates: {kind: dimension}}"}, "spec.search.gates.kind"},
		{[]string{"spec.search={strategy: ihas, rows: [0.5, 1]}"}, "spec.search.rows"},
		{[]string{"spec.search={strategy: ihas, gates: {clusters: 3, hidden: 8}}", "spec.train.clip_norm=1"}, ""},
		{[]string{"spec.search={strategy: dnis, gates: {clusters: 3}}"}, "spec.search.gates"},
		{[]string{"spec.search={strategy: ihas, gates: {clusters: 65}}"}, "spec.search.gates.clusters"},
		{[]string{"spec.embedding.selector={clusters: 2, hidden: 8}", "spec.search=null"}, ""},
		{[]string{"spec.embedding.selector={clusters: 2, hidden: 8}", "spec.search=null", "spec.model={name: ffm, embedding_dim: 4}"}, "spec.embedding.selector"},
		{[]string{"spec.embedding.selector={clusters: 2}", "spec.search=null"}, "spec.embedding.selector.hidden"},
		{[]string{"spec.embedding.selector={clusters: 2, hidden: 8}"}, "spec.embedding"},
		{[]string{"spec.search.strategy=autodim", "spec.train.clip_norm=1"}, "spec.train.clip_norm"},
		{[]string{"spec.search={strategy: dnis, sampling: all, widths: [4, 16]}"}, "spec.search.sampling"},
		{[]string{"spec.search.budget={bytes: 1, params: 1}"}, "spec.search.budget"},
	} {
		_, err := Parse("f", []byte(searchJob), c.set)
		switch {
		case c.path == "" && err != nil:
			t.Errorf("%v: %v", c.set, err)
		case c.path != "" && (err == nil || !strings.Contains(err.Error(), c.path+":")):
			t.Errorf("%v: %v; want a fault of %s", c.set, err, c.path)
		}
	}
}

// The job of the last stage is the found model as a job of its own: nothing of the
// search is left in it.
func TestTheWinnerIsAJobOfItsOwn(t *testing.T) {
	j := mustParse(t, "f", searchJob, "spec.search.strategy=dnis", "spec.search.pruning={}")
	widths := make([]int, len(j.Spec.Data.ResolvedFields()))
	for i := range widths {
		widths[i] = 1 + i%16
	}
	r, err := j.Retrain(widths, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Validate(); err != nil {
		t.Errorf("the winner: %v", err)
	}
	tables, err := r.Tables()
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range tables {
		want := []int{widths[table.Fields[0]], 1} // embeddings and first-order weights
		if table.ID%2 == 1 {
			want = want[1:]
		}
		if got := table.Columns[0].Width; got != want[0] || len(table.Columns) != 1 {
			t.Errorf("table %s is %d wide, want %d", table.Name, got, want[0])
		}
	}
	if len(tables) != 2*len(widths) {
		t.Errorf("%d tables for %d fields", len(tables), len(widths))
	}
	super, err := j.Dense()
	if err != nil {
		t.Fatal(err)
	}
	dense, err := r.Dense()
	if err != nil {
		t.Fatal(err)
	}
	if len(super) != len(dense)+2 || super[len(dense)].Name != ThresholdTensor || super[len(dense)+1].Name != GateTensor {
		t.Errorf("%d tensors with the search, %d without", len(super), len(dense))
	}
}

// A field of width 0 has no embedding, and without first-order weights nothing.
func TestTheWinnerMayDropFields(t *testing.T) {
	j := mustParse(t, "f", searchJob, "spec.search.widths=[0, 16]")
	widths := make([]int, len(j.Spec.Data.ResolvedFields()))
	widths[1] = 16
	names := func(j *Job) (all string) {
		r, err := j.Retrain(widths, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Validate(); err != nil {
			t.Error(err)
		}
		tables, err := r.Tables()
		if err != nil {
			t.Fatal(err)
		}
		for _, table := range tables[:min(3, len(tables))] {
			all += table.Name + " "
		}
		return all
	}
	if got := names(j); got != "i1.linear i2 i3.linear " {
		t.Errorf("tables %s", got)
	}
	j.Spec.Model.Name = "dnn"
	if got := names(j); got != "i2 " {
		t.Errorf("tables %s", got)
	}
	widths[1] = 0
	if _, err := j.Retrain(widths, nil); err == nil || !strings.Contains(err.Error(), "nothing to train") {
		t.Errorf("a model without any table: %v", err)
	}
}
