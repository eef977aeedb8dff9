package job

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// small is the text of a valid job.
const small = `apiVersion: fathom.dev/v1alpha1
kind: TrainingJob
metadata:
  name: small
spec:
  data:
    format: csv
    train: [a.csv]
    fields:
      - {name: user}
      - {name: price, type: numeric}
  model:
    name: fm
    embedding_dim: 4
  train:
    batch_size: 100
`

func mustParse(t *testing.T, file, text string, sets ...string) *Job {
	t.Helper()
	j, err := Parse(file, []byte(text), sets)
	if err != nil {
		t.Fatalf("parse: %v", err)
	}
	return j
}

// example reads one of the example jobs.
func example(t *testing.T, name string) *Job {
	t.Helper()
	file := filepath.Join("..", "..", "deploy", "jobs", name)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return mustParse(t, file, string(text))
}

func exampleNames(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", "..", "deploy", "jobs", "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no example jobs: %v", err)
	}
	for i, f := range files {
		files[i] = filepath.Base(f)
	}
	return files
}

func TestParseFillsInDefaults(t *testing.T) {
	j := mustParse(t, "dir/job.yaml", small)
	yes := true
	data := Data{
		Root: "dir", Format: "csv", Train: []string{"a.csv"}, Header: &yes, Delimiter: ",", Label: "label", NegativeRate: 1,
		Fields: []Field{
			{Name: "user", Column: "user", Type: "categorical", Pooling: "mean", MaxValues: 64},
			{Name: "price", Column: "price", Type: "numeric", Transform: "none"},
		},
		ShuffleWindowRows: 1 << 20, CacheBytes: 1 << 30,
	}
	if diff := cmp.Diff(data, j.Spec.Data); diff != "" {
		t.Errorf("data (-want +got):\n%s", diff)
	}
	tr := j.Spec.Train
	if tr.Epochs != 1 || tr.BatchSize != 100 || tr.Lanes != 4 || tr.Mode != "sync" || tr.Optimizer.Name != "lamb" ||
		tr.Optimizer.Beta1 != 0.9 || *tr.DenseOptimizer != tr.Optimizer || tr.EmbeddingInit.Kind != "normal" {
		t.Errorf("train: %+v", tr)
	}
	if diff := cmp.Diff(Cluster{Workers: 2, PS: 3, Replicas: 3, Shards: 4}, j.Spec.Cluster); diff != "" {
		t.Errorf("cluster (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(*j, j.WithDefaults()); diff != "" {
		t.Errorf("defaults are not idempotent:\n%s", diff)
	}
	if one := mustParse(t, "f", small, "spec.cluster.ps=1"); one.Spec.Cluster.Replicas != 1 {
		t.Errorf("one server: %d replicas, want 1", one.Spec.Cluster.Replicas)
	}
}

func TestRootIsRelativeToTheFileOrTheCurrentDirectory(t *testing.T) {
	for _, c := range []struct{ file, root, set, want string }{
		{"jobs/a.yaml", "", "", "jobs"},
		{"a.yaml", "", "", "."},
		{"jobs/a.yaml", "../data", "", "data"},
		{"jobs/a.yaml", "/data", "", "/data"},
		{"jobs/a.yaml", "../data", "here", "here"},
		{"/jobs/a.yaml", "", "", "/jobs"},
	} {
		text := small
		if c.root != "" {
			text = strings.Replace(small, "  data:\n", "  data:\n    root: "+c.root+"\n", 1)
		}
		var sets []string
		if c.set != "" {
			sets = []string{"spec.data.root=" + c.set}
		}
		if got := mustParse(t, c.file, text, sets...).Spec.Data.Root; got != c.want {
			t.Errorf("%+v: got %s", c, got)
		}
	}
	if got := example(t, "quickstart.yaml").Spec.Data.Root; got != "" {
		t.Errorf("synthetic data without a root: got %q", got)
	}
}

func TestSyntheticListsItsFields(t *testing.T) {
	f := example(t, "quickstart.yaml").Spec.Data.Fields
	if len(f) != 39 || f[0].Name != "i1" || f[12].Name != "i13" || f[12].Transform != "bucket" ||
		f[13].Name != "c1" || f[13].Type != "categorical" || f[38].Name != "c26" {
		t.Errorf("fields: %+v", f)
	}
	d := Data{Format: FormatSynthetic, Synthetic: &Synthetic{Categorical: 2}}
	if got := d.ResolvedFields(); len(got) != 2 || got[1].Column != "c2" {
		t.Errorf("two categorical fields: %+v", got)
	}
}

func TestExamplesAreValidAndSurviveJSON(t *testing.T) {
	for _, name := range exampleNames(t) {
		j := example(t, name)
		if want := strings.TrimSuffix(name, ".yaml"); j.Metadata.Name != want {
			t.Errorf("%s: named %s", name, j.Metadata.Name)
		}
		back, err := FromJSON(j.JSON())
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if diff := cmp.Diff(j, back, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s: changed by JSON:\n%s", name, diff)
		}
		if j.Digest() != back.Digest() {
			t.Errorf("%s: another digest after JSON", name)
		}
	}
}

func TestFromJSONRefuses(t *testing.T) {
	valid := string(mustParse(t, "f", small).JSON())
	for text, want := range map[string]string{
		"":                       "not valid JSON",
		"{}":                     "metadata.name",
		valid + "{}":             "follows its end",
		`{"apiversion2":1}`:      "unknown field",
		strings.Repeat(" ", 2e6): "at most",
		strings.Replace(valid, `"epochs":1`, `"epochs":-1`, 1): "spec.train.epochs",
	} {
		_, err := FromJSON([]byte(text))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40s: got %v, want %q", text, err, want)
		}
	}
}

func TestDigestCoversWhatDeterminesTheModel(t *testing.T) {
	base := mustParse(t, "f", small).Digest()
	if len(base) != 64 {
		t.Fatalf("digest %q", base)
	}
	for set, same := range map[string]bool{
		"metadata.name=other":             true,
		"spec.cluster.workers=7":          true,
		"spec.cluster.shards=9":           true,
		"spec.data.root=/elsewhere":       true,
		"spec.data.cache_bytes=2000000":   true,
		"spec.train.mode=sync":            true, // the default
		"spec.train.compute=f32":          true, // the default
		"spec.train.seed=1":               false,
		"spec.train.lanes=5":              false,
		"spec.train.batch_size=101":       false,
		"spec.data.train=[b.csv]":         false,
		"spec.data.fields[0].name=x":      false,
		"spec.data.shuffle_window_rows=5": false,
		"spec.model.embedding_dim=5":      false,
		"spec.train.optimizer.beta1=0.8":  false,
	} {
		if got := mustParse(t, "f", small, set).Digest() == base; got != same {
			t.Errorf("%s: same digest %v, want %v", set, got, same)
		}
	}
	if mustParse(t, "f", small, "spec.train.seed=1", "spec.train.seed=null").Digest() != base {
		t.Error("null does not take a value out")
	}
	if _, err := Parse("f", []byte(small), []string{"spec.train.sed=null"}); err == nil {
		t.Error("null for a field that there is not was accepted")
	}
	const network = "spec.model.name=deepfm"
	if mustParse(t, "f", small, network).Digest() == mustParse(t, "f", small, network, "spec.train.compute=bf16").Digest() {
		t.Error("spec.train.compute is not in the digest")
	}
}
