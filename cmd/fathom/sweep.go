package main

import (
	"fmt"
	"io"
	"math"

	"github.com/fathom-train/fathom/coordinator/job"
)

// sweep is the outcome of a job that was trained with several seeds: the content
// of its result.json.
type sweep struct {
	Job string `json:"job"`
	// Metrics holds the mean and the standard deviation over the seeds of the
	// scores of every split that was evaluated.
	Metrics map[string]spread `json:"metrics"`
	Seeds   []seedResult      `json:"seeds"`
	// CPUSeconds are of all processes, by role, from their start to their end; those
	// of a seed's result are what servers and workers spent on its job.
	CPUSeconds map[string]float64 `json:"cpu_seconds"`
	Restarts   map[string]int     `json:"restarts,omitempty"`
	// Profile is there when the run was profiled.
	Profile *profileReport `json:"profile,omitempty"`
}

// spread is a score over several seeds. The deviations are those of a sample,
// with one less than the number of seeds in the denominator; 0 for one seed.
type spread struct {
	AUC              float64 `json:"auc"`
	AUCDeviation     float64 `json:"auc_deviation"`
	LogLoss          float64 `json:"logloss"`
	LogLossDeviation float64 `json:"logloss_deviation"`
	// GAUC is there when the job has groups.
	GAUC          float64 `json:"gauc,omitempty"`
	GAUCDeviation float64 `json:"gauc_deviation,omitempty"`
}

// seedResult is the result with one seed.
type seedResult struct {
	Seed   uint64  `json:"seed"`
	Result *result `json:"result"`
}

// newSweep sums up the results of a job's seeds, which are in their order.
func newSweep(j *job.Job, results []*result) *sweep {
	s := &sweep{Job: j.Metadata.Name, Metrics: map[string]spread{}}
	for i, r := range results {
		s.Seeds = append(s.Seeds, seedResult{j.Spec.Train.Seeds[i], r})
	}
	for _, split := range splitOrder {
		var auc, loss, gauc []float64
		for _, r := range results {
			if q, ok := r.Metrics[split]; ok {
				auc, loss, gauc = append(auc, q.AUC), append(loss, q.LogLoss), append(gauc, q.GAUC)
			}
		}
		if len(auc) == 0 {
			continue
		}
		var m spread
		m.AUC, m.AUCDeviation = meanDeviation(auc)
		m.LogLoss, m.LogLossDeviation = meanDeviation(loss)
		m.GAUC, m.GAUCDeviation = meanDeviation(gauc)
		s.Metrics[split] = m
	}
	return s
}

// meanDeviation returns the mean and the standard deviation of a sample.
func meanDeviation(values []float64) (mean, deviation float64) {
	n := float64(len(values))
	for _, v := range values {
		mean += v / n
	}
	if n < 2 {
		return mean, 0
	}
	for _, v := range values {
		deviation += (v - mean) * (v - mean) / (n - 1)
	}
	return mean, math.Sqrt(deviation)
}

// sizeLine tells the parameters of the first seed's model, and the speed of all:
// per second of processor time of all processes, evaluations included.
func (s *sweep) sizeLine() string {
	parameters := uint64(0)
	for _, t := range s.Seeds[0].Result.Tables {
		parameters += t.Parameters
	}
	samples, cpu := 0.0, 0.0
	for _, one := range s.Seeds {
		samples += one.Result.SamplesPerSecond * one.Result.TrainSeconds
	}
	for _, spent := range s.CPUSeconds {
		cpu += spent
	}
	line := grouped(parameters) + " parameters"
	if cpu > 0 {
		line += ", " + rate(samples/cpu) + " samples per second of processor time"
	}
	return line
}

// writeSummary writes the sweep for people, in lines of at most 80 characters.
func (s *sweep) writeSummary(w io.Writer) {
	rows := [][]string{{"seed", "split", "auc", "log loss", "epochs", "model"}}
	for _, one := range s.Seeds {
		seed, epochs, model := fmt.Sprint(one.Seed), fmt.Sprint(len(one.Result.Epochs)), one.Result.ModelHash
		for _, split := range splitOrder {
			if q, ok := one.Result.Metrics[split]; ok {
				rows = append(rows, []string{seed, split, fmt.Sprintf("%.4f", q.AUC), fmt.Sprintf("%.4f", q.LogLoss), epochs, model})
				seed, epochs, model = "", "", ""
			}
		}
	}
	for _, split := range splitOrder {
		if m, ok := s.Metrics[split]; ok {
			rows = append(rows, []string{"all", split,
				fmt.Sprintf("%.4f +- %.4f", m.AUC, m.AUCDeviation), fmt.Sprintf("%.4f +- %.4f", m.LogLoss, m.LogLossDeviation), "", ""})
		}
	}
	fmt.Fprintf(w, "%s: done with %d seeds\n\n", s.Job, len(s.Seeds))
	lines := append(columns("llllrl", rows), "", "size     "+s.sizeLine())
	lines = append(lines, usageLines(s.CPUSeconds, s.Restarts)...)
	for _, line := range append(lines, s.Profile.lines()...) {
		fmt.Fprintln(w, clip(line, 80))
	}
}
