package job

import (
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDifferencesNameEveryChangedField(t *testing.T) {
	const path = "../../deploy/jobs/quickstart.yaml"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	parse := func(sets ...string) *Job {
		t.Helper()
		j, err := Parse(path, text, sets)
		if err != nil {
			t.Fatal(err)
		}
		return j
	}
	before := parse()
	if same := Differences(before, parse("spec.cluster.workers=2")); len(same) > 0 {
		t.Errorf("a default that is written out: %v", same)
	}
	again, err := FromJSON(before.JSON())
	if err != nil {
		t.Fatal(err)
	}
	if same := Differences(before, again); len(same) > 0 {
		t.Errorf("the same job in JSON: %v", same)
	}
	got := Differences(before, parse("spec.train.epochs=9", "spec.model.hidden=[8,4]", "spec.cluster.workers=7", "spec.train.seeds=[1,2]"))
	var paths []string
	for _, d := range got {
		paths = append(paths, d.Path)
	}
	slices.Sort(paths)
	if d := cmp.Diff([]string{"spec.cluster.workers", "spec.model.hidden", "spec.train.epochs", "spec.train.seeds"}, paths); d != "" {
		t.Error(d)
	}
	for _, d := range got {
		if d.Path == "spec.cluster.workers" && d.String() != "spec.cluster.workers: 2 before, 7 now" || d.Path == "spec.train.seeds" && d.String() != "spec.train.seeds: nothing before, [1,2] now" {
			t.Error(d)
		}
	}
	if back := Differences(parse("spec.train.seeds=[1,2]"), before); len(back) != 1 || back[0].String() != "spec.train.seeds: [1,2] before, nothing now" {
		t.Errorf("a field that is gone: %v", back)
	}
}
