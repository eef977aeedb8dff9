package trainer_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/fathom-train/fathom/worker/trainer"
)

// extreme trains a model on a file of 64 records whose numeric field has an
// absurd value in line 40, behind a record that is left out.
func extreme(t *testing.T, model, value string) error {
	t.Helper()
	var text strings.Builder
	text.WriteString("label,age,price\n")
	for line := 2; line <= 65; line++ {
		label, price := line%2, "1.5"
		switch line {
		case 10:
			label = 7 // bad, and allowed
		case 40:
			price = value
		}
		fmt.Fprintf(&text, "%d,%d,%s\n", label, line%5, price)
	}
	path := filepath.Join(t.TempDir(), "train.csv")
	if err := os.WriteFile(path, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	j, err := job.Parse("job.yaml", []byte(`
apiVersion: fathom.dev/v1alpha1
kind: TrainingJob
metadata: {name: extreme}
spec:
  data: {format: csv, train: [`+path+`], max_bad_records: 1, fields: [{name: age}, {name: price, type: numeric}]}
  model: `+model+`
  train: {batch_size: 32, lanes: 2}
`), nil)
	if err != nil {
		t.Fatal(err)
	}
	c := newCluster(t, j, 2)
	before := c.hash()
	err = c.trainer(t).Train(context.Background(), []int{0, 1}, c.steps(), nil)
	// The steps before may be trained, the one at fault may not.
	var numerical *trainer.NumericalError
	if errors.As(err, &numerical) {
		for i, s := range c.states {
			if v, _ := s.Version(); v >= numerical.Step {
				t.Errorf("shard %d has applied step %d, which was refused", i, v)
			}
		}
	} else if err == nil && c.hash() == before {
		t.Error("nothing was trained")
	}
	return err
}

func TestAbsurdValueIsNamedWithFieldFileAndLine(t *testing.T) {
	for name, c := range map[string]struct{ model, value, want string }{
		"loss":                   {"{name: fm, embedding_dim: 4}", "3e38", "the loss is"},
		"row gradient":           {"{name: lr}", "1e30", `a gradient of table "rows" is`},
		"tensor":                 {"{name: dnn, embedding_dim: 4, hidden: [8]}", "1e30", `a gradient of tensor "`},
		"mixed by normalisation": {"{name: dnn, embedding_dim: 4, hidden: [8], batch_norm: true}", "1e38", `first in field "price"`},
	} {
		t.Run(name, func(t *testing.T) {
			err := extreme(t, c.model, c.value)
			var numerical *trainer.NumericalError
			if !errors.As(err, &numerical) {
				t.Fatalf("training ended with %v", err)
			}
			for _, want := range []string{"step ", " lane ", c.want, `field "price"`, "train.csv:40"} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%v\ndoes not say %q", err, want)
				}
			}
			t.Log(err)
		})
	}
	if err := extreme(t, "{name: fm, embedding_dim: 4}", "2"); err != nil {
		t.Errorf("training on usual values: %v", err)
	}
}
