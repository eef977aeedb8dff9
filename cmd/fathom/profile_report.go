package main

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fathom-train/fathom/proto/identity"
)

// observed is a cluster whose processes' metrics can be read.
type observed interface {
	// identity is who may read them; nil: anybody, in plain text.
	identity() *identity.Source
	// metricsAddresses returns the address of every process's endpoint, by name.
	metricsAddresses() map[string]string
}

// profileReport tells where the time of a run went.
type profileReport struct {
	// Dir holds the processes' pprof files.
	Dir string `json:"dir"`
	// Stages are those of a lane's way through a worker, waiting included. They
	// overlap: while one lane is computed, others are loaded, pulled and pushed.
	Stages []stageTime `json:"stages"`
	// Server lists whatever the parameter servers time, summed over them. These
	// overlap, and some contain others.
	Server []stageTime `json:"server"`
	// Missing names the processes whose metrics could not be read.
	Missing []string `json:"missing,omitempty"`
}

// stageTime is the time spent in one stage, summed over the processes of a role.
type stageTime struct {
	Stage string `json:"stage"`
	// Count is how many times it was passed; 0 when it is not counted.
	Count   uint64  `json:"count"`
	Seconds float64 `json:"seconds"`
	// Share is of the time of all stages of a lane (only for workers).
	Share float64 `json:"share,omitempty"`
	// Underway is how many lanes a worker had in the stage on average over the
	// training: Seconds per process and second of training.
	Underway float64 `json:"underway"`
}

// stageOrder is the way of a lane; a stage not named here comes behind.
var stageOrder = []string{"load", "pull", "compute", "push"}

// newProfileReport reads the metrics of all processes and sums them up.
func newProfileReport(ctx context.Context, dir string, c observed, trainSeconds float64) *profileReport {
	all, missing := scrapeAll(ctx, c)
	r := &profileReport{Dir: dir, Missing: missing}
	r.Stages = stageTimes(all, "worker", trainSeconds, stagesOf("fathom_trainer_stage_seconds"))
	total := 0.0
	for _, s := range r.Stages {
		total += s.Seconds
	}
	for i := range r.Stages {
		if total > 0 {
			r.Stages[i].Share = r.Stages[i].Seconds / total
		}
	}
	r.Server = stageTimes(all, "ps", trainSeconds, timersOf("fathom_ps_", "fathom_replica_", "fathom_fsm_"))
	return r
}

// scrapeAll reads the metrics of all processes at once, in the order of their
// names.
func scrapeAll(ctx context.Context, c observed) (all []scraped, missing []string) {
	addresses := c.metricsAddresses()
	names := slices.Sorted(maps.Keys(addresses))
	found := make([]*scraped, len(names))
	var g sync.WaitGroup
	for i, name := range names {
		g.Go(func() {
			if e, err := scrape(ctx, c.identity(), addresses[name]); err == nil {
				found[i] = &scraped{name, time.Now(), e}
			}
		})
	}
	g.Wait()
	for i, s := range found {
		if s == nil {
			missing = append(missing, names[i])
		} else {
			all = append(all, *s)
		}
	}
	return all, missing
}

// timer says which stage a series times, and whether it is a count.
type timer func(series string) (stage string, count, ok bool)

// stagesOf finds the stages of one histogram with the label stage.
func stagesOf(histogram string) timer {
	label := regexp.MustCompile(`stage="([^"]*)"`)
	return func(series string) (string, bool, bool) {
		name, labels := split(series)
		m := label.FindStringSubmatch(labels)
		if m == nil || name != histogram+"_sum" && name != histogram+"_count" {
			return "", false, false
		}
		return m[1], name == histogram+"_count", true
	}
}

// timersOf finds every histogram of seconds and every counter of seconds whose
// name begins with one of the prefixes; CPU time is none of them.
func timersOf(prefixes ...string) timer {
	return func(series string) (string, bool, bool) {
		name, labels := split(series)
		if !slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(name, p) }) ||
			strings.Contains(name, "_cpu_") {
			return "", false, false
		}
		for _, end := range []string{"_seconds_sum", "_seconds_total", "_seconds_count"} {
			if stage, ok := strings.CutSuffix(name, end); ok {
				return strings.TrimPrefix(stage, "fathom_") + labels, end == "_seconds_count", true
			}
		}
		return "", false, false
	}
}

// stageTimes sums what t finds over the processes of a role.
func stageTimes(all []scraped, role string, trainSeconds float64, t timer) []stageTime {
	stages, processes := map[string]*stageTime{}, 0
	for _, s := range all {
		if s.role() != role {
			continue
		}
		processes++
		for series, v := range s.values {
			name, count, ok := t(series)
			if !ok {
				continue
			}
			if stages[name] == nil {
				stages[name] = &stageTime{Stage: name}
			}
			if count {
				stages[name].Count += uint64(v)
			} else {
				stages[name].Seconds += v
			}
		}
	}
	place := func(name string) int {
		if i := slices.Index(stageOrder, name); i >= 0 {
			return i
		}
		return len(stageOrder)
	}
	names := slices.SortedFunc(maps.Keys(stages), func(a, b string) int {
		if d := place(a) - place(b); d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	sorted := []stageTime{}
	for _, n := range names {
		s := *stages[n]
		if trainSeconds > 0 && processes > 0 {
			s.Underway = s.Seconds / trainSeconds / float64(processes)
		}
		sorted = append(sorted, s)
	}
	return sorted
}

// lines shows the report to people; a nil one has none.
func (r *profileReport) lines() []string {
	if r == nil {
		return nil
	}
	rows := [][]string{{"stage of a lane", "lanes", "mean ms", "share", "under way"}}
	for _, s := range r.Stages {
		rows = append(rows, []string{s.Stage, grouped(s.Count), s.mean(), fmt.Sprintf("%.0f%%", 100*s.Share), fmt.Sprintf("%.2f", s.Underway)})
	}
	lines := append([]string{""}, columns("lrrrr", rows)...)
	rows = [][]string{{"on the servers", "times", "mean ms", "seconds", "under way"}}
	for _, s := range r.Server {
		count := "-"
		if s.Count > 0 {
			count = grouped(s.Count)
		}
		rows = append(rows, []string{s.Stage, count, s.mean(), fmt.Sprintf("%.1f", s.Seconds), fmt.Sprintf("%.2f", s.Underway)})
	}
	lines = append(append(lines, ""), columns("lrrrr", rows)...)
	if len(r.Missing) > 0 {
		lines = append(lines, "without those of "+strings.Join(r.Missing, ", ")+", which did not answer")
	}
	return append(lines, "pprof files are in "+r.Dir)
}

func (s stageTime) mean() string {
	if s.Count == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f", 1000*s.Seconds/float64(s.Count))
}
