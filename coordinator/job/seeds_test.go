package job

import (
	"errors"
	"strings"
	"testing"
)

func TestEverySeedIsAJob(t *testing.T) {
	j := mustParse(t, "f", small, "spec.train.seeds=[7, 8]", "spec.train.seed=3")
	all := j.PerSeed()
	if len(all) != 2 {
		t.Fatalf("%d jobs", len(all))
	}
	for i, one := range all {
		if one.Spec.Train.Seed != uint64(7+i) || one.Spec.Train.Seeds != nil || one.Metadata.Name != j.Metadata.Name+[]string{"-seed-7", "-seed-8"}[i] {
			t.Errorf("job %d: %s with seed %d", i, one.Metadata.Name, one.Spec.Train.Seed)
		}
		if err := one.Validate(); err != nil {
			t.Errorf("job %d: %v", i, err)
		}
	}
	if j.Spec.Train.Seed != 3 || len(j.Spec.Train.Seeds) != 2 {
		t.Error("the job itself was changed")
	}
	if plain := mustParse(t, "f", small); plain.PerSeed()[0] != plain {
		t.Error("a job without seeds is not its own")
	}
}

func TestSeedsThatCannotBe(t *testing.T) {
	for set, want := range map[string]string{
		"spec.train.seeds=[1, 2, 1]":                           "spec.train.seeds[2]: 1 is spec.train.seeds[0] already",
		"spec.train.seeds=[" + strings.Repeat("1,", 101) + "]": "101 seeds, at most 100",
	} {
		_, err := Parse("job.yaml", []byte(small), []string{set})
		if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40s: got %v, want %q", set, err, want)
		}
	}
	_, err := Parse("job.yaml", []byte(small), []string{"metadata.name=" + strings.Repeat("x", 60), "spec.train.seeds=[1]"})
	if err == nil || !strings.Contains(err.Error(), "too long for its jobs of one seed each") {
		t.Errorf("a long name: %v", err)
	}
}
