package trainer_test

import (
	"context"
	"flag"
	"fmt"
	"strings"
	"testing"

	"github.com/fathom-train/fathom/compute/eval"
	"github.com/fathom-train/fathom/coordinator/search"
	"github.com/fathom-train/fathom/worker/trainer"
)

var plantedSeeds = flag.Int("planted", 0, "TestPlantedWidths: number of seeds, each some minutes")

// TestPlantedWidths prints the table of docs/search.md on what the strategies find in
// generated data: the rank correlation of planted and found widths within 35 % of the
// full-width weights.
func TestPlantedWidths(t *testing.T) {
	if *plantedSeeds == 0 {
		t.Skip("for people: -planted says how many seeds")
	}
	supernets := []struct{ spec, strategies string }{
		{"{}", "evolution guided random sensitivity ard mde"},
		{"{strategy: pep}", "pep"},
		{"{strategy: dnis}", "dnis"},
		{"{strategy: dnis, gates: {kind: dimension}}", "dnis"},
		{"{strategy: autodim}", "autodim"},
		{"{strategy: ihas}", "ihas"},
	}
	for _, of := range supernets {
		found := map[string][]float64{}
		for seed := 1; seed <= *plantedSeeds; seed++ {
			cl := newCluster(t, parse(t, fmt.Sprintf("spec.data.synthetic={train_rows: 100000, valid_rows: 20000, numeric: 0, categorical: 12, vocabulary: 500, teacher_dim: 8, seed: %d}", seed),
				fmt.Sprintf("spec.train.seed=%d", seed), "spec.train.batch_size=1024", "spec.train.epochs=4", "spec.train.embedding_init={kind: normal, scale: 0.01}",
				"spec.train.optimizer={name: adam, learning_rate: 0.003}", "spec.model={name: deepfm, embedding_dim: 8, hidden: [64, 32]}", "spec.search="+of.spec), 1)
			cl.trainAll(t, [][]int{{0, 1, 2, 3}}, cl.steps())
			tr := cl.trainer(t)
			survey, err := tr.Survey(context.Background(), cl.steps(), 0)
			if err != nil {
				t.Fatal(err)
			}
			space, err := survey.Space(strings.Fields("c1 c2 c3 c4 c5 c6 c7 c8 c9 c10 c11 c12"), cl.job.Choices(), nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range strings.Fields(of.strategies) {
				s := searched(t, tr, cl.steps(), search.Config{Strategy: name, Seed: uint64(seed), Generations: 10, Budget: search.Budget{Fraction: 0.35}}, space)
				found[name] = append(found[name], *s.Report(survey).PlantedCorrelation)
			}
		}
		for _, name := range strings.Fields(of.strategies) {
			fmt.Printf("| %s of supernet `%s` | %.2f |\n", name, of.spec, found[name])
		}
	}
}

// searched runs a search over a supernet to its end.
func searched(t *testing.T, tr *trainer.Trainer, version uint64, c search.Config, space search.Space) *search.Search {
	t.Helper()
	s, err := search.New(c, space)
	if err != nil {
		t.Fatal(err)
	}
	for open := s.Ask(); len(open) > 0; open = s.Ask() {
		var scores []search.Score
		for len(scores) < len(open) {
			some := open[len(scores):min(len(open), len(scores)+64)]
			all, err := tr.EvaluateCandidates(context.Background(), "valid", version, 0, 20000, s.Order(some))
			if err != nil {
				t.Fatal(err)
			}
			for _, a := range all {
				r := eval.Merge([]*eval.Accumulator{a})
				scores = append(scores, search.Score{AUC: r.AUC, LogLoss: r.LogLoss})
			}
		}
		if err := s.Tell(scores); err != nil {
			t.Fatal(err)
		}
	}
	return s
}
