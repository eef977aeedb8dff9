package job

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestExplainIsGoldenAndAJobOfItsOwn(t *testing.T) {
	for _, c := range []struct {
		name string
		rows int64
	}{{"quickstart.yaml", 0}, {"frappe-deepfm.yaml", 202_027}, {"movielens-small-fm.yaml", 0}} {
		file := filepath.Join("..", "..", "deploy", "jobs", c.name)
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		j, given, err := ParseGiven(file, text, nil)
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		if err := j.Explain(&b, given, c.rows); err != nil {
			t.Fatal(err)
		}
		golden := filepath.Join("testdata", "explain", c.name)
		if *update {
			if err := os.WriteFile(golden, b.Bytes(), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), b.String()); diff != "" {
			t.Errorf("%s (-want +got), -update rewrites it:\n%s", c.name, diff)
		}
		sameAfterExplain(t, j, b.String())
	}
}

// sameAfterExplain checks that the explained text is the same job.
func sameAfterExplain(t *testing.T, j *Job, text string) {
	t.Helper()
	var sets []string
	if root := j.Spec.Data.Root; root != "" {
		sets = []string{"spec.data.root=" + root} // it is relative to the file by now
	}
	again := mustParse(t, "again.yaml", text, sets...)
	if diff := cmp.Diff(j, again, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("the explained job is another one:\n%s\n%s", diff, text)
	}
}

func TestExplainQuotesWhatIsNoPlainString(t *testing.T) {
	j := mustParse(t, "f", small, "metadata.name=true", "spec.data.label='yes'", "spec.data.delimiter='#'",
		"spec.data.fields[0].name=123", "spec.data.fields[1].column=' x: y '", "spec.data.train=['*', '1.5', 'a: b', '~', '2020-01-01']",
		"spec.train.optimizer={name: adam, learning_rate: 1e-20, weight_decay: 12345678}", "spec.train.seed=18446744073709551615")
	var b bytes.Buffer
	if err := j.Explain(&b, nil, 0); err != nil {
		t.Fatal(err)
	}
	sameAfterExplain(t, j, b.String())
}

func TestExplainMarksWhatWasNotGiven(t *testing.T) {
	// All of these are given as what is the default, too.
	j, given, err := ParseGiven("f", []byte(small), []string{"spec.train.epochs=1", "spec.train.optimizer={name: lamb, beta1: 0.9}", "spec.cluster.ps=3"})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := j.Explain(&b, given, 0); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"epochs: 1", "name: lamb", "beta1: 0.9", "ps: 3", "beta2: 0.999 # default", "workers: 2 # default", "dense_optimizer: # default"} {
		if !strings.Contains(b.String(), " "+line+"\n") {
			t.Errorf("no line %q in\n%s", line, b.String())
		}
	}
}

func TestMemoryPerServer(t *testing.T) {
	// A row of FM has 1+4 weights with two slots each; 4 shards of 3 replicas on
	// 3 servers make every server hold all of them.
	j := mustParse(t, "f", small)
	m, err := j.MemoryPerServer([]int64{1000})
	if err != nil {
		t.Fatal(err)
	}
	want := Memory{Row: 4*15 + 64, Rows: 1000 * 124, Dense: 24, Process: 128 << 20}
	want.Total = want.Rows + want.Dense + want.Process
	if diff := cmp.Diff(want, m); diff != "" {
		t.Errorf("memory (-want +got):\n%s", diff)
	}
	half, err := mustParse(t, "f", small, "spec.cluster.ps=6").MemoryPerServer([]int64{1000})
	if err != nil || half.Rows != want.Rows/2 {
		t.Errorf("twice the servers: %d bytes of rows, %v", half.Rows, err)
	}
	if _, known, err := j.RowsMax(1); known || err != nil {
		t.Error("the rows of a file are known from the job")
	}
	q := example(t, "quickstart.yaml")
	if rows, known, err := q.RowsMax(1); !known || err != nil || len(rows) != 1 || rows[0] != 13*512+26*20_001 {
		t.Errorf("quickstart: at most %d rows, known %v", rows, known)
	}
}

func TestTablesAndDense(t *testing.T) {
	j := mustParse(t, "f", small, "spec.train.dense_optimizer.name=adam", "spec.model={name: deepfm, embedding_dim: 4, hidden: [8], batch_norm: true}")
	tables, err := j.Tables()
	if err != nil {
		t.Fatal(err)
	}
	tr := j.Spec.Train
	want := []Table{{ID: 0, Name: "rows", Fields: []int{0, 1}, Columns: []Column{
		{Name: "linear", Width: 1, Init: tr.EmbeddingInit, Optimizer: tr.Optimizer},
		{Name: "embedding", Width: 4, Init: tr.EmbeddingInit, Optimizer: tr.Optimizer},
	}}}
	if diff := cmp.Diff(want, tables); diff != "" {
		t.Errorf("tables (-want +got):\n%s", diff)
	}
	dense, err := j.Dense()
	if err != nil {
		t.Fatal(err)
	}
	running, sizes := 0, 0
	for i, d := range dense {
		if int(d.ID) != i {
			t.Errorf("%s has id %d, want %d", d.Name, d.ID, i)
		}
		switch {
		case d.Running:
			running++
			if d.Optimizer.Name != "ema" || d.Optimizer.Momentum != 0.1 {
				t.Errorf("%s: optimizer %+v", d.Name, d.Optimizer)
			}
		case d.Optimizer != *tr.DenseOptimizer:
			t.Errorf("%s: optimizer %+v", d.Name, d.Optimizer)
		default:
			sizes += d.Size
		}
	}
	// 2 fields of 4 -> 8, gamma and beta of 8, 8 -> 1.
	if n, err := j.DenseParameters(); running != 2 || sizes != 8*8+8+16+8+1 || n != int64(sizes) || err != nil {
		t.Errorf("%d running tensors, %d weights, %d parameters, %v", running, sizes, n, err)
	}
	j = mustParse(t, "f", small, "spec.train.dense_optimizer={name: lamb, weight_decay: 0.1, exclude_vectors: true}", "spec.model={name: deepfm, embedding_dim: 4, hidden: [8], batch_norm: true}")
	if dense, err = j.Dense(); err != nil {
		t.Fatal(err)
	}
	for _, d := range dense {
		if matrix := strings.HasSuffix(d.Name, "weight") && !strings.Contains(d.Name, ".bn."); !d.Running && (d.Optimizer.WeightDecay != 0) != matrix {
			t.Errorf("%s has a weight decay of %v", d.Name, d.Optimizer.WeightDecay)
		}
	}
	if _, err := (&Job{}).Tables(); err == nil {
		t.Error("a job without a model has tables")
	}
}
