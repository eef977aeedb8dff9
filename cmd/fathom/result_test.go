package main

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fathom-train/fathom/proto"
)

func TestResultHoldsTheJobsOutcome(t *testing.T) {
	t.Parallel()
	r, err := newResult(doneStatus())
	if err != nil {
		t.Fatal(err)
	}
	second := quality{AUC: 0.71, LogLoss: 0.55, Samples: 100}
	want := &result{
		Job: "small", SpecDigest: "d1", ModelHash: "00112233445566778899aabbccddeeff",
		Metrics:          map[string]quality{"valid": second, "test": {AUC: 0.70, LogLoss: 0.56, Samples: 100}},
		Epochs:           []epochResult{{Epoch: 1, Step: 10, Valid: &quality{AUC: 0.61, LogLoss: 0.65, Samples: 100}}, {Epoch: 2, Step: 20, Valid: &second}},
		Tables:           []tableResult{{"linear", 1234, 1234, 4936, 14808}, {"dense", 0, 1, 4, 12}},
		SamplesPerSecond: 500, WallSeconds: 8, TrainSeconds: 4,
		CPUSeconds: map[string]float64{"ps": 2.5, "worker": 4}, Processes: map[string]int{"ps": 3, "worker": 2},
		TeacherAUC: 0.75, Splits: map[string]uint64{"train": 1000, "valid": 100, "test": 100}, Steps: 20,
		Cluster: clusterResult{2, 3, 3, 4}, Versions: readVersions(),
	}
	if d := cmp.Diff(want, r); d != "" {
		t.Errorf("result (-want +got):\n%s", d)
	}
	if share, ok := r.teacherShare(); !ok || math.Abs(share-0.8) > 1e-9 {
		t.Errorf("share of the teacher %v %v, want 0.8", share, ok)
	}
}

func TestTheValidationOfARestoredModelCounts(t *testing.T) {
	scores := []*proto.Score{
		{Split: "valid", Auc: .7, Best: true}, {Split: "valid", Auc: .8, Best: true}, {Split: "valid", Auc: .75}, {Split: "test", Auc: .78},
	}
	for restored, want := range map[bool]float64{true: .8, false: .75} {
		r := result{Metrics: map[string]quality{}}
		r.addScores(scores, "", restored)
		if got := r.Metrics["valid"].AUC; got != want || r.Metrics["test"].AUC != .78 || len(r.Epochs) != 3 {
			t.Errorf("restored %v: valid %v, want %v; %+v", restored, got, want, r)
		}
	}
}

func TestTeacherShareNeedsATeacherAndATest(t *testing.T) {
	t.Parallel()
	for name, r := range map[string]result{
		"no teacher":   {Metrics: map[string]quality{"test": {AUC: 0.7}}},
		"no test":      {TeacherAUC: 0.8},
		"blind teller": {Metrics: map[string]quality{"test": {AUC: 0.7}}, TeacherAUC: 0.5},
	} {
		if share, ok := r.teacherShare(); ok {
			t.Errorf("%s: share %v", name, share)
		}
	}
}

func TestResultFileHasTheFixedKeysAndIsWhole(t *testing.T) {
	t.Parallel()
	r, err := newResult(doneStatus())
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "result.json")
	if err := os.WriteFile(path, bytes.Repeat([]byte("old"), 10000), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := writeResult(path, r); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		ModelHash string                        `json:"model_hash"`
		Metrics   map[string]map[string]float64 `json:"metrics"`
	}
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	if got.ModelHash != r.ModelHash || got.Metrics["test"]["auc"] != 0.70 || got.Metrics["test"]["logloss"] != 0.56 {
		t.Errorf("result.json holds %+v", got)
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(path), "*"))
	if err != nil || len(left) != 1 {
		t.Errorf("files left: %v %v, want only result.json", left, err)
	}
	if err := writeResult(filepath.Join(path, "x"), r); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("error %v, want one that names the file", err)
	}
}

func TestResultOfAnUnreadableSpecIsAnError(t *testing.T) {
	t.Parallel()
	s := doneStatus()
	s.Spec = []byte("{")
	if _, err := newResult(s); err == nil {
		t.Error("no error")
	}
}

func TestSummaryFitsEightyColumns(t *testing.T) {
	t.Parallel()
	s := doneStatus()
	s.Tables = append(s.Tables, &proto.TableStatus{Name: "embedding", Rows: 1 << 40, Parameters: 1 << 45, Bytes: 1 << 47, StateBytes: 1 << 49})
	r, err := newResult(s)
	if err != nil {
		t.Fatal(err)
	}
	r.Restarts = map[string]int{"ps-1": 2, "coordinator": 1}
	var out bytes.Buffer
	r.writeSummary(&out)
	for line := range strings.Lines(out.String()) {
		if n := len([]rune(line)); n > 81 {
			t.Errorf("%d characters: %s", n, line)
		}
	}
	for _, want := range []string{
		"small: done in 8.0s",
		"valid      100  0.7100    0.5500",
		"0.80 of the way from 0.5 to the teacher's 0.7500",
		"512.0 TiB", "500 samples/s", "ps 2.5s, worker 4.0s", "2 workers, 3 servers, 4 shards of 3 replicas",
		"restarts coordinator once, ps-1 2 times", "00112233445566778899aabbccddeeff",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is missing in:\n%s", want, out.String())
		}
	}
}

func TestSummaryWithoutEvaluation(t *testing.T) {
	t.Parallel()
	s := doneStatus()
	s.Scores, s.Tables = nil, s.Tables[:1]
	r, err := newResult(s)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	r.writeSummary(&out)
	if !strings.Contains(out.String(), "no split was evaluated") || strings.Contains(out.String(), "teacher") || strings.Contains(out.String(), "\nall ") {
		t.Errorf("summary:\n%s", out.String())
	}
}
