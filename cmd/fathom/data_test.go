package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fathom-train/fathom/worker/dataset"
)

const csvJob = `{"apiVersion":"fathom.dev/v1alpha1","kind":"TrainingJob","metadata":{"name":"files"},"spec":{
"data":{"format":"csv","train":["train.csv"],"fields":[{"name":"user"},{"name":"age","type":"numeric"}]},
"model":{"name":"lr"},"train":{"optimizer":{"name":"adam"}}}}`

func TestDataInspect(t *testing.T) {
	t.Parallel()
	path := writeJob(t, csvJob)
	data := filepath.Join(filepath.Dir(path), "train.csv")
	if err := os.WriteFile(data, []byte("label,user,age\n1,ann,3\n0,bob,5\n1,ann,\n0,,4\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, errs := command(t, nil, "data", "inspect", path)
	if code != 0 {
		t.Fatalf("code %d, errors %q", code, errs)
	}
	for _, want := range []string{"train     4          2  0.5000", "ann (2)", "0.2500", "3 to 5, mean 4"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in:\n%s", want, out)
		}
	}
	var r dataset.Report
	_, out, _ = command(t, nil, "data", "inspect", path, "-o", "json")
	if err := json.Unmarshal([]byte(out), &r); err != nil || len(r.Fields) != 2 {
		t.Errorf("inspect -o json: %v\n%s", err, out)
	}
	if err := os.WriteFile(data, []byte("label,user,age\n1,ann,3\n7,bob,5\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, _, errs = command(t, nil, "data", "inspect", path)
	if code != exitInput || !strings.Contains(errs, "train.csv:3") {
		t.Errorf("inspect of faulty data: %d %q", code, errs)
	}
}

func TestDataSynthWritesWhatInspectReads(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	args := strings.Fields("data synth " + dir + " --train-rows 200 --valid-rows 50 --test-rows 50 --numeric 1 --categorical 2 --vocabulary 20")
	if code, out, errs := command(t, nil, args...); code != 0 || !strings.Contains(out, "csv") {
		t.Fatalf("code %d, output %q, errors %q", code, out, errs)
	}
	if _, err := os.Stat(filepath.Join(dir, "data.yaml")); err != nil {
		t.Error(err)
	}
	if code, _, _ := command(t, nil, append(args, "--format", "xml")...); code != exitInput {
		t.Errorf("unknown format: code %d, want 64", code)
	}
}
