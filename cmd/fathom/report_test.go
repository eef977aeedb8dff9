package main

import (
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fathom-train/fathom/coordinator/search"
)

// searchedResult is the result of a small search, with a field whose name is no
// good HTML.
func searchedResult() *result {
	trial := func(auc float64, parameters int64, widths ...int) search.Trial {
		return search.Trial{Candidate: search.NewCandidate(widths), Score: search.Score{AUC: auc, LogLoss: 1 - auc}, Parameters: parameters}
	}
	best := trial(0.81, 50, 4, 1)
	planted := 2
	r := &result{Job: "small", ModelHash: "00", Metrics: map[string]quality{"valid": {AUC: 0.8123456}, "test": {AUC: 0.8}},
		CPUSeconds: map[string]float64{"ps": 5, "worker": 9}, Tables: []tableResult{{Name: "embedding", Parameters: 50, Bytes: 200}},
		Search: &search.Report{Strategy: "evolution", Generation: 3, Scored: 5, Screened: 1, FullParameters: 100, LimitParameters: 60, Largest: search.NewCandidate([]int{4, 4}), Best: &best,
			Fields: []search.FieldReport{{Name: "<script>", Rows: 20, Kept: 10, Width: 4, Full: 4, EffectiveRank: 3.2, Planted: &planted}, {Name: "b", Rows: 5, Kept: 5, Width: 1, Full: 4}},
			Trials: []search.Trial{trial(0.82, 90, 4, 4), trial(0.7, 25, 1, 1), best, trial(0.3, 40, 1, 4),
				{Candidate: search.NewCandidate([]int{2, 3}), Score: search.Score{AUC: 0.99}, Partial: true, Parameters: 1}},
			Front: []search.Trial{trial(0.7, 25, 1, 1), best, trial(0.82, 100, 4, 4)}, CPUSeconds: map[string]float64{"supernet": 4, "search": 2}},
		Kept: []keptRows{{Table: "<script>", Records: 9, Groups: []keptGroup{{1, 12, 3}, {2, 0, 0}, {4, 8, 7}}}, {Table: "b"}},
	}
	for e := range 3 {
		r.Epochs = append(r.Epochs, epochResult{Epoch: uint64(e + 1), Step: uint64(100 * (e + 1)), Valid: &quality{AUC: 0.7 + float64(e)/50}, Best: e == 2})
	}
	return r
}

func TestReportShowsTheSearchAndIsWellFormed(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), reportFile)
	plain := &result{Job: "plain", Metrics: map[string]quality{}} // nothing was scored
	if err := writeReport(path, "small", []*result{searchedResult(), plain}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	page := string(text)
	for _, want := range []string{
		"&lt;script&gt;", "budget", "winner, trained anew", "0.812346", "4 of 4, rank 3.2", ">4&#43;<", "7 of 8", "first 9 training", "all fields at full width", "evolution", "all fields 1 wide",
		"1 more lie below", "servers and workers: search", `class="planted"`, "1 of them were given up", "validation AUC", ">plain<",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("%q is missing", want)
		}
	}
	for _, not := range []string{"<script", "http:", "https:", "NaN", "ZgotmplZ", "0.99"} {
		if strings.Contains(page, not) {
			t.Errorf("%q is in it", not)
		}
	}
	d := xml.NewDecoder(strings.NewReader(page))
	d.Entity = xml.HTMLEntity
	for {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
}

func TestAxesHaveRoundTicks(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ lo, hi float64 }{{0, 1}, {0.7, 0.82}, {0, 42_056 * 4}, {0.8123, 0.8124}, {0.5, 0.5}, {0, 0}, {0, 3}} {
		s := axis(c.lo, c.hi, 6)
		if s.lo > c.lo || s.hi < c.hi || len(s.ticks) < 3 || len(s.ticks) > 9 {
			t.Errorf("%v to %v: %+v", c.lo, c.hi, s)
		}
	}
}

func TestExplainTellsAUCAndLogLoss(t *testing.T) {
	t.Parallel()
	r := searchedResult().Search
	r.Trials = append(r.Trials, search.Trial{Candidate: search.NewCandidate([]int{4, 3}), Score: search.Score{AUC: 0.8195, LogLoss: 0.1811}})
	if lines := strings.Join(explainLines(r), "\n"); !strings.Contains(lines, "4 to 3: 0.00050 (0.00110)") || !strings.Contains(lines, "3.2") {
		t.Errorf("explained:\n%s", lines)
	}
}
