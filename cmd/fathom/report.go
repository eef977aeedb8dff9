package main

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"maps"
	"slices"

	"github.com/fathom-train/fathom/coordinator/search"
)

// reportFile is the page of a run beside its result.json.
const reportFile = "report.html"

//go:embed report.html.tmpl
var reportText string

var reportTemplate = template.Must(template.New(reportFile).Parse(reportText))

// reportPage is what the template shows: one section per trained model.
type reportPage struct {
	Title    string
	Sections []reportSection
}

// reportSection is one trained model. Tables are rows of cells, the first row being
// the head.
type reportSection struct {
	Name   string
	Notes  []string
	Scores [][]string
	Tables [][]string
	Costs  [][]string
	Curve  *plot
	// What follows is of a search.
	Budget    []string
	Pareto    *plot
	Baselines [][]string
	Widths    *bars
	Kept      []keptField
	// Counted is how many training records the values were counted in.
	Counted string
}

// keptField is how many values of a field are kept, by how often they occur.
type keptField struct {
	Name   string
	Kept   string // of all rows
	Shares []keptShare
}

// keptShare is one group of values.
type keptShare struct {
	Label   string // how often they occur
	Percent float64
	Text    string
}

// writeReport writes the page of a run that is done.
func writeReport(path, title string, results []*result) error {
	page := reportPage{Title: title}
	for _, r := range results {
		page.Sections = append(page.Sections, newReportSection(r))
	}
	return writeWhole(path, func(w io.Writer) error { return reportTemplate.Execute(w, page) })
}

func newReportSection(r *result) reportSection {
	s := reportSection{Name: r.Job, Scores: r.scoreRows(), Tables: r.tableRows(), Costs: r.costRows(), Curve: r.curve()}
	s.Notes = append(s.Notes, fmt.Sprintf("%s steps in %s, model hash %s", grouped(r.Steps), seconds(r.WallSeconds), r.ModelHash))
	if r.Stopped != "" {
		s.Notes = append(s.Notes, "Stopped early: "+r.Stopped+".")
	}
	if share, ok := r.teacherShare(); ok {
		s.Notes = append(s.Notes, fmt.Sprintf("The hidden model of the data reaches a test AUC of %.4f; this is %.0f %% of the way from 0.5 to there.", r.TeacherAUC, 100*share))
	}
	if r.Artifact != nil {
		s.Notes = append(s.Notes, "Exported: "+r.Artifact.sizes()+" in "+r.Artifact.Dir+".")
	}
	if r.Search != nil && r.Search.Best != nil {
		s.Budget, s.Pareto, s.Widths = budgetLines(r.Search), paretoPlot(r.Search), widthBars(r.Search)
		s.Baselines, s.Kept = baselineRows(r), r.keptFields()
		if len(s.Kept) > 0 && len(r.Kept) > 0 {
			s.Counted = grouped(uint64(r.Kept[0].Records))
		}
	}
	return s
}

// scoreRows and tableRows have a head; the tables on the terminal are made of them,
// too.
func (r *result) scoreRows() [][]string {
	rows := [][]string{{"split", "samples", "auc", "log loss"}}
	for _, split := range splitOrder {
		if q, ok := r.Metrics[split]; ok {
			rows = append(rows, []string{split, grouped(q.Samples), fmt.Sprintf("%.4f", q.AUC), fmt.Sprintf("%.4f", q.LogLoss)})
		}
	}
	return rows
}

func (r *result) tableRows() [][]string {
	rows := [][]string{{"table", "rows", "parameters", "bytes", "with slots"}}
	var parameters, size, state uint64
	for _, t := range r.Tables {
		count := ""
		if t.Rows > 0 {
			count = grouped(t.Rows)
		}
		rows = append(rows, []string{t.Name, count, grouped(t.Parameters), byteSize(t.Bytes), byteSize(t.StateBytes)})
		parameters, size, state = parameters+t.Parameters, size+t.Bytes, state+t.StateBytes
	}
	if len(r.Tables) > 1 {
		rows = append(rows, []string{"all", "", grouped(parameters), byteSize(size), byteSize(state)})
	}
	return rows
}

// costRows are processor times: by role, and of a search by what was done.
func (r *result) costRows() [][]string {
	rows := [][]string{{"what", "processor time"}}
	for _, role := range slices.Sorted(maps.Keys(r.CPUSeconds)) {
		rows = append(rows, []string{role, seconds(r.CPUSeconds[role])})
	}
	if r.Search == nil || len(r.Search.CPUSeconds) == 0 {
		return rows
	}
	rest := r.CPUSeconds["ps"] + r.CPUSeconds["worker"]
	for _, phase := range []string{"supernet", "search"} {
		if t, ok := r.Search.CPUSeconds[phase]; ok {
			rows = append(rows, []string{"servers and workers: " + phase, seconds(t)})
			rest -= t
		}
	}
	return append(rows, []string{"servers and workers: the rest, with retraining", seconds(max(0, rest))})
}

// curve is the validation AUC over the epochs; nil with fewer than two.
func (r *result) curve() *plot {
	var at []point
	for _, e := range r.Epochs {
		if e.Valid != nil {
			at = append(at, point{X: float64(e.Step), Y: e.Valid.AUC, Mark: e.Best,
				Title: fmt.Sprintf("step %s, epoch %d: AUC %.6f", grouped(e.Step), e.Epoch, e.Valid.AUC)})
		}
	}
	if len(at) < 2 {
		return nil
	}
	return newPlot("step", "validation AUC", 1, func(v float64) string { return grouped(uint64(v)) },
		series{Name: "validation", Class: "front", Points: at, Line: true})
}

func budgetLines(r *search.Report) []string {
	lines := []string{fmt.Sprintf("Strategy %s: %s candidates scored in %d generations, in %s passes over parts of the validation split.",
		r.Strategy, grouped(uint64(r.Scored)), r.Generation, grouped(uint64(r.Passes)))}
	if r.Screened > 0 {
		lines = append(lines, fmt.Sprintf("%s of them were given up after a part of it and are not shown.", grouped(uint64(r.Screened))))
	}
	share := func(n int64) float64 { return 100 * float64(n) / float64(max(1, r.FullParameters)) }
	lines = append(lines, fmt.Sprintf("The winner has %s embedding weights (%s), %.1f %% of the supernet's %s.",
		grouped(uint64(r.Best.Parameters)), bytesText(4*r.Best.Parameters), share(r.Best.Parameters), grouped(uint64(r.FullParameters))))
	if c := r.PlantedCorrelation; c != nil {
		lines = append(lines, fmt.Sprintf("Rank correlation of the widths found with those of the data's hidden model, which are marked below: %.3f.", *c))
	}
	if r.LimitParameters > 0 {
		lines = append(lines, fmt.Sprintf("The budget was %s weights (%s), %.1f %%.", grouped(uint64(r.LimitParameters)), bytesText(4*r.LimitParameters), share(r.LimitParameters)))
	}
	return lines
}

// paretoPlot shows all candidates by size and validation AUC.
func paretoPlot(r *search.Report) *plot {
	of := func(t search.Trial) point {
		return point{X: 4 * float64(t.Parameters), Y: t.Score.AUC,
			Title: fmt.Sprintf("%s, AUC %.6f, widths %v", bytesText(4*t.Parameters), t.Score.AUC, t.Candidate.Widths())}
	}
	all := series{Name: "candidate", Class: "candidate"}
	uniform := series{Name: "one width for all fields", Class: "uniform"}
	front := series{Name: "front", Class: "front", Line: true}
	for _, t := range r.Trials {
		if t.Partial {
			continue // its score is of a part of the split
		}
		if sameWidths(t.Candidate.Widths()) {
			uniform.Points = append(uniform.Points, of(t))
		} else {
			all.Points = append(all.Points, of(t))
		}
	}
	for _, t := range r.Front {
		front.Points = append(front.Points, of(t))
	}
	most := r.Best.Parameters
	for _, t := range r.Trials {
		most = max(most, t.Parameters)
	}
	unit := 1.0
	for 4*float64(most) >= 1024*unit {
		unit *= 1024
	}
	winner := of(*r.Best)
	winner.Mark = true
	p := newPlot("bytes of the embedding weights", "validation AUC with the supernet's weights", unit, func(v float64) string { return bytesText(int64(v)) },
		all, uniform, front, series{Name: "winner", Class: "winner", Points: []point{winner}})
	if r.LimitParameters > 0 {
		p.vertical(4*float64(r.LimitParameters), "budget")
	}
	return p
}

func sameWidths(widths []int) bool {
	return slices.Min(widths) == slices.Max(widths)
}

// isFull tells whether all fields have their full width.
func isFull(r *search.Report, c search.Candidate) bool {
	for i, f := range r.Fields {
		if c.Width(i) != f.Full {
			return false
		}
	}
	return true
}

// baselineRows compares the winner with what was scored beside it.
func baselineRows(r *result) [][]string {
	rows := [][]string{{"model", "weights", "bytes", "validation AUC", "log loss"}}
	add := func(name string, t search.Trial) {
		rows = append(rows, []string{name, grouped(uint64(t.Parameters)), bytesText(4 * t.Parameters),
			fmt.Sprintf("%.6f", t.Score.AUC), fmt.Sprintf("%.6f", t.Score.LogLoss)})
	}
	var full, narrow *search.Trial
	for i, t := range r.Search.Trials {
		switch {
		case t.Partial:
		case isFull(r.Search, t.Candidate):
			full = &r.Search.Trials[i]
		case !sameWidths(t.Candidate.Widths()) || t.Parameters > r.Search.Best.Parameters:
		case narrow == nil || t.Parameters > narrow.Parameters:
			narrow = &r.Search.Trials[i]
		}
	}
	if full != nil {
		add("all fields at full width, supernet's weights", *full)
	}
	if narrow != nil {
		add(fmt.Sprintf("all fields %d wide (the widest that is not larger), supernet's weights", narrow.Candidate.Width(0)), *narrow)
	}
	add("winner, supernet's weights", *r.Search.Best)
	if q, ok := r.Metrics["valid"]; ok {
		rows = append(rows, []string{"winner, trained anew", grouped(uint64(r.Search.Best.Parameters)), bytesText(4 * r.Search.Best.Parameters),
			fmt.Sprintf("%.6f", q.AUC), fmt.Sprintf("%.6f", q.LogLoss)})
	}
	return rows
}

// keptFields shows the kept rows of every field, where rows were pruned.
func (r *result) keptFields() []keptField {
	var all []keptField
	for i, f := range r.Search.Fields {
		if f.Kept == f.Rows {
			continue
		}
		k := keptField{Name: f.Name, Kept: fmt.Sprintf("%s of %s", grouped(uint64(f.Kept)), grouped(uint64(f.Rows)))}
		if i < len(r.Kept) {
			for _, g := range r.Kept[i].Groups {
				if g.Values > 0 {
					k.Shares = append(k.Shares, keptShare{Label: g.label(), Percent: 100 * float64(g.Kept) / float64(g.Values),
						Text: fmt.Sprintf("%s of %s", grouped(uint64(g.Kept)), grouped(uint64(g.Values)))})
				}
			}
		}
		all = append(all, k)
	}
	return all
}
