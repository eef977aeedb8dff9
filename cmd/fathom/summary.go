package main

import (
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"slices"
	"strings"
)

// splitOrder is the order in which splits are listed.
var splitOrder = []string{"train", "valid", "test"}

// writeSummary writes the result for people, in lines of at most 80 characters.
func (r *result) writeSummary(w io.Writer) {
	var lines []string
	lines = append(lines, fmt.Sprintf("%s: done in %s", r.Job, seconds(r.WallSeconds)), "")
	lines = append(lines, r.scoreLines()...)
	if r.Stopped != "" {
		lines = append(lines, fmt.Sprintf("stopped early after step %s: %s", grouped(r.Steps), r.Stopped))
	}
	if share, ok := r.teacherShare(); ok {
		lines = append(lines, fmt.Sprintf("%.2f of the way from 0.5 to the teacher's %.4f", share, r.TeacherAUC))
	}
	lines = append(lines, "")
	lines = append(lines, r.tableLines()...)
	lines = append(lines, "")
	lines = append(lines, searchLines(r.Search)...)
	lines = append(lines, r.effortLines()...)
	lines = append(lines, r.Profile.lines()...)
	for _, l := range lines {
		fmt.Fprintln(w, clip(l, 80))
	}
}

func (r *result) scoreLines() []string {
	rows := r.scoreRows()
	if len(rows) == 1 {
		return []string{"no split was evaluated"}
	}
	return columns("lrrr", rows)
}

func (r *result) tableLines() []string { return columns("lrrrr", r.tableRows()) }

func (r *result) effortLines() []string {
	lines := []string{
		fmt.Sprintf("speed    %s samples/s in training (%s), cpu path %s", rate(r.SamplesPerSecond), seconds(r.TrainSeconds), r.Versions.CPU),
		fmt.Sprintf("cluster  %d workers, %d servers, %d shards of %d replicas", r.Cluster.Workers, r.Cluster.PS, r.Cluster.Shards, r.Cluster.Replicas),
	}
	lines = append(lines, usageLines(r.CPUSeconds, r.Restarts)...)
	lines = append(lines, "model    "+r.ModelHash)
	if r.Artifact != nil {
		lines = append(lines, "exported "+filepath.Base(r.Artifact.Dir)+"/: "+r.Artifact.sizes())
	}
	return lines
}

// usageLines tells the processor time by role and the restarts by process.
func usageLines(cpuSeconds map[string]float64, restarts map[string]int) []string {
	var cpu, names []string
	for _, role := range slices.Sorted(maps.Keys(cpuSeconds)) {
		cpu = append(cpu, role+" "+seconds(cpuSeconds[role]))
	}
	lines := []string{"cpu      " + strings.Join(cpu, ", ")}
	for _, n := range slices.Sorted(maps.Keys(restarts)) {
		names = append(names, n+" "+times(restarts[n]))
	}
	if len(names) > 0 {
		lines = append(lines, "restarts "+strings.Join(names, ", "))
	}
	return lines
}
