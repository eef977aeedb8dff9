package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/fathom-train/fathom/coordinator/search"
	"github.com/fathom-train/fathom/proto"
)

// result is the outcome of a job that is done: the content of result.json.
type result struct {
	Job        string `json:"job"`
	SpecDigest string `json:"spec_digest"`
	// ModelHash identifies the model to the last bit: 32 hex digits.
	ModelHash string `json:"model_hash"`
	// Metrics holds the last score of every split that was evaluated.
	Metrics map[string]quality `json:"metrics"`
	Epochs  []epochResult      `json:"epochs"`
	Tables  []tableResult      `json:"tables"`
	// SamplesPerSecond is over the whole training, evaluations left out.
	SamplesPerSecond float64            `json:"samples_per_second"`
	WallSeconds      float64            `json:"wall_seconds"`
	TrainSeconds     float64            `json:"train_seconds"`
	CPUSeconds       map[string]float64 `json:"cpu_seconds"` // by role
	Processes        map[string]int     `json:"processes"`   // by role
	Restarts         map[string]int     `json:"restarts,omitempty"`
	// TeacherAUC is what the hidden truth of synthetic data reaches itself on
	// the test split; absent when the data does not know it.
	TeacherAUC float64           `json:"teacher_auc,omitempty"`
	Splits     map[string]uint64 `json:"splits"` // rows
	Steps      uint64            `json:"steps"`
	// Stopped says why the training ended before its last epoch.
	Stopped  string        `json:"stopped,omitempty"`
	Cluster  clusterResult `json:"cluster"`
	Versions versions      `json:"versions"`
	// Search is there when the job searched for widths.
	Search *search.Report `json:"search,omitempty"`
	// Kept tells, table by table, which rows pruning has kept.
	Kept []keptRows `json:"kept_rows,omitempty"`
	// Artifact is the exported model.
	Artifact *artifactResult `json:"artifact,omitempty"`
	// Profile is there when the run was profiled.
	Profile *profileReport `json:"profile,omitempty"`
}

// quality is the score of the model on one split.
type quality struct {
	AUC     float64 `json:"auc"`
	LogLoss float64 `json:"logloss"`
	Samples uint64  `json:"samples"`
	// GAUC is there when the job has groups.
	GAUC float64 `json:"gauc,omitempty"`
}

type epochResult struct {
	Epoch uint64 `json:"epoch"`
	Step  uint64 `json:"step"`
	// LearningRateFactor is what the plateaus before had made of the rates; Best
	// marks validations better than all before.
	LearningRateFactor float32  `json:"learning_rate_factor"`
	Best               bool     `json:"best,omitempty"`
	Valid              *quality `json:"valid,omitempty"`
}

type tableResult struct {
	Name       string `json:"name"`
	Rows       uint64 `json:"rows,omitempty"`
	Parameters uint64 `json:"parameters"`
	Bytes      uint64 `json:"bytes"`
	StateBytes uint64 `json:"state_bytes"` // with the optimizer's slots
}

type clusterResult struct {
	Workers  int `json:"workers"`
	PS       int `json:"ps"`
	Replicas int `json:"replicas"`
	Shards   int `json:"shards"`
}

// newResult collects the result from the job's final status.
func newResult(s *proto.JobStatus) (*result, error) {
	j, err := job.FromJSON(s.GetSpec())
	if err != nil {
		return nil, fmt.Errorf("spec of job %s as the coordinator tells it: %w", s.GetJob(), err)
	}
	r := &result{
		Job: s.GetJob(), SpecDigest: s.GetSpecDigest(), ModelHash: s.GetModelHash(),
		Metrics: map[string]quality{}, Epochs: []epochResult{}, Tables: []tableResult{},
		CPUSeconds: map[string]float64{}, Processes: map[string]int{}, Splits: map[string]uint64{},
		WallSeconds:  time.Duration(s.GetEndedUnixNano() - s.GetCreatedUnixNano()).Seconds(),
		TrainSeconds: s.GetTrainSeconds(),
		TeacherAUC:   finite(s.GetTeacherAuc()),
		Steps:        s.GetStep(),
		Stopped:      s.GetStopped(),
		Cluster:      clusterResult(j.Spec.Cluster),
		Versions:     readVersions(),
	}
	r.addScores(s.GetScores(), s.GetStage(), j.Spec.Train.RestoreBest)
	if text := s.GetSearch(); len(text) > 0 {
		r.Search = new(search.Report)
		if err := json.Unmarshal(text, r.Search); err != nil {
			return nil, fmt.Errorf("search of job %s as the coordinator tells it: %w", s.GetJob(), err)
		}
	}
	for _, t := range s.GetTables() {
		r.Tables = append(r.Tables, tableResult{t.GetName(), t.GetRows(), t.GetParameters(), t.GetBytes(), t.GetStateBytes()})
	}
	for _, u := range s.GetUsage() {
		r.CPUSeconds[u.GetRole()] = finite(u.GetCpuSeconds())
		r.Processes[u.GetRole()] = int(u.GetProcesses())
	}
	for _, p := range s.GetSplits() {
		r.Splits[p.GetSplit()] = p.GetRows()
	}
	r.SamplesPerSecond = finite(s.GetSamplesPerSecond())
	if trained := j.Samples(int64(r.Splits["train"]), int64(r.Steps)); trained > 0 && r.TrainSeconds > 0 {
		r.SamplesPerSecond = float64(trained) / r.TrainSeconds
	}
	return r, nil
}

// addScores fills Metrics with the last score of every split and Epochs with
// the validation after each epoch. Where the job went back to the model of the
// best validation, that one counts, not the last. Scores of another stage than the
// last, that is of a supernet, are left out.
func (r *result) addScores(scores []*proto.Score, stage string, restored bool) {
	for _, s := range scores {
		if s.GetStage() != stage {
			continue
		}
		q, valid := qualityOf(s), s.GetSplit() == "valid"
		if !valid || s.GetBest() || !restored {
			r.Metrics[s.GetSplit()] = q
		}
		if valid {
			r.Epochs = append(r.Epochs, epochResult{Epoch: s.GetEpoch(), Step: s.GetVersion(),
				LearningRateFactor: s.GetLearningRateFactor(), Best: s.GetBest(), Valid: &q})
		}
	}
}

func qualityOf(s *proto.Score) quality {
	return quality{AUC: finite(s.GetAuc()), LogLoss: finite(s.GetLogLoss()), Samples: s.GetSamples(), GAUC: finite(s.GetGauc())}
}

// teacherShare is how far the test AUC has come on the way from 0.5, a coin, to
// the teacher's.
func (r *result) teacherShare() (share float64, ok bool) {
	q, tested := r.Metrics["test"]
	if !tested || r.TeacherAUC <= 0.5 {
		return 0, false
	}
	return (q.AUC - 0.5) / (r.TeacherAUC - 0.5), true
}

// finite replaces what JSON cannot say by 0.
func finite(v float64) float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return 0
	}
	return v
}

// shown is what there is to show and to write to result.json.
type shown interface {
	writeSummary(w io.Writer)
}

// writeResult writes the outcome to path.
func writeResult(path string, r shown) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return writeWhole(path, func(w io.Writer) error {
		_, err := w.Write(append(text, '\n'))
		return err
	})
}

// writeWhole writes a file: either all of it or nothing.
func writeWhole(path string, write func(io.Writer) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".result-*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			f.Close()           // the first error says it all
			os.Remove(f.Name()) // likewise
			err = fmt.Errorf("write %s: %w", path, err)
		}
	}()
	if err = write(f); err != nil {
		return err
	}
	if err = f.Chmod(0o644); err != nil {
		return err
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
