package job

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// Every file in testdata/faults is a job; lines "# --set ..." at its top are
// the command line. The golden beside it lists all faults.
func TestFaultsAreGolden(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("testdata", "faults", "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var sets []string
			for line := range strings.Lines(string(text)) {
				if set, ok := strings.CutPrefix(line, "# --set "); ok {
					sets = append(sets, strings.TrimSpace(set))
				}
			}
			_, err = Parse("job.yaml", text, sets)
			var faults *Faults
			if !errors.As(err, &faults) || !errors.Is(err, ErrInvalid) {
				t.Fatalf("got %v, want faults", err)
			}
			golden := strings.TrimSuffix(file, ".yaml") + ".golden"
			if *update {
				if err := os.WriteFile(golden, []byte(err.Error()+"\n"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, readErr := os.ReadFile(golden)
			if readErr != nil {
				t.Fatal(readErr)
			}
			if diff := cmp.Diff(string(want), err.Error()+"\n"); diff != "" {
				t.Errorf("faults (-want +got), -update rewrites them:\n%s", diff)
			}
		})
	}
}

func TestParseIsBounded(t *testing.T) {
	aliases := "a: &a [1]\nb: [" + strings.Repeat("*a, ", 200) + "]\n"
	// Nine levels of nine aliases each: 9^9 values when written out.
	bomb := "l0: &l0 [x, x, x, x, x, x, x, x, x]\n"
	for i := 1; i < 9; i++ {
		p, n := string(rune('0'+i-1)), string(rune('0'+i))
		bomb += "l" + n + ": &l" + n + " [" + strings.TrimSuffix(strings.Repeat("*l"+p+", ", 9), ", ") + "]\n"
	}
	fields := "spec: {data: {fields: [" + strings.Repeat("{name: a},", 40_000) + "]}}"
	strs := "spec: {data: {train: &t [x], valid: [" + strings.Repeat("*t,", 150) + "]}}"
	for name, c := range map[string]struct{ text, want string }{
		"size":    {strings.Repeat("#", 1<<20+1), "at most 1048576"},
		"aliases": {strs, "more than 100 aliases"},
		"unused":  {aliases, "unknown field"},
		"bomb":    {bomb + "spec: {data: {train: *l8}}", "expected a string, found a list"},
		"values":  {fields, "more than 50000 values"},
		"many":    {"spec: {data: {train: [" + strings.Repeat("a,", 60_000) + "]}}", "more than 50000 values"},
		"cycle":   {"spec: {data: {train: &t [*t]}}", ""},
		"deep":    {strings.Repeat("[", 20_000), "not valid YAML"},
		"binary":  {"\x00\x01", "not valid YAML"},
	} {
		_, err := Parse("job.yaml", []byte(c.text), nil)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %.300v, want %q", name, err, c.want)
		}
	}
}

func TestSetChangesAnyValue(t *testing.T) {
	j := mustParse(t, "f", small,
		"spec.train.epochs=3",
		"spec.data.train=[x.csv, 'y.csv']",
		"spec.data.fields[1].transform=log",
		"spec.data.fields[2]={name: city, separator: '|'}",
		"spec.train.dense_optimizer.name=adam",
		"spec.cluster={workers: 1, ps: 1}",
		"metadata.name=123", // a string without quotes: they are the shell's
		"spec.train.epochs=4",
	)
	if j.Spec.Train.Epochs != 4 || len(j.Spec.Data.Train) != 2 || j.Spec.Data.Train[1] != "y.csv" ||
		j.Spec.Data.Fields[1].Transform != "log" || j.Spec.Data.Fields[2].Separator != "|" ||
		j.Spec.Train.DenseOptimizer.Name != "adam" || j.Spec.Cluster.Workers != 1 || j.Metadata.Name != "123" {
		t.Errorf("got %+v", j)
	}
}

func TestSetLeavesTheAnchorAlone(t *testing.T) {
	text := strings.Replace(small, "    batch_size: 100\n", `    optimizer: &o {name: adam}
    dense_optimizer: *o
`, 1)
	j := mustParse(t, "f", text, "spec.train.dense_optimizer.name=sgd")
	if a, b := j.Spec.Train.Optimizer.Name, j.Spec.Train.DenseOptimizer.Name; a != "adam" || b != "sgd" {
		t.Errorf("optimizers %s and %s", a, b)
	}
}

func TestNearest(t *testing.T) {
	for word, want := range map[string]string{
		"epocs": "epochs", "epoch": "epochs", "batchSize": "batch_size", "bacth_size": "batch_size", "BATCH-SIZE": "batch_size",
		"zzz": "", strings.Repeat("epochs", 20): "",
	} {
		if got, _ := nearest(word, []string{"epochs", "batch_size", "lanes"}); got != want {
			t.Errorf("%s: got %q, want %q", word, got, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(small), "spec.train.epochs=3")
	f.Add([]byte("spec: &a {data: *a}"), "spec.data.fields[0][1]=x")
	f.Add([]byte("a: [*b, {<<: c}]"), "a.b[=")
	f.Fuzz(func(t *testing.T, text []byte, set string) {
		j, err := Parse("f", text, []string{set})
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Fatalf("not faults: %v", err)
			}
			return
		}
		if _, err := FromJSON(j.JSON()); err != nil {
			t.Fatalf("accepted, but not after JSON: %v", err)
		}
	})
}
