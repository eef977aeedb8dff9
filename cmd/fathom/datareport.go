package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/fathom-train/fathom/worker/dataset"
)

// topShown is how many of a field's most frequent values are listed.
const topShown = 3

// writeDataReport writes what is known about a job's data for people.
func writeDataReport(w io.Writer, r *dataset.Report) {
	fmt.Fprintf(w, "format %s, digest %s\n\n", r.Format, r.Digest)
	rows := [][]string{{"split", "rows", "positives", "share"}}
	for _, s := range r.Splits {
		share := "-"
		if s.Rows > 0 {
			share = fmt.Sprintf("%.4f", float64(s.Positives)/float64(s.Rows))
		}
		rows = append(rows, []string{s.Name, grouped(s.Rows), grouped(s.Positives), share})
	}
	for _, l := range columns("lrrr", rows) {
		fmt.Fprintln(w, l)
	}
	if r.BadRecords > 0 {
		fmt.Fprintf(w, "%s bad records are left out\n", grouped(r.BadRecords))
	}
	if r.TeacherAUC > 0 {
		fmt.Fprintf(w, "the teacher's auc on test is %.4f\n", r.TeacherAUC)
	}
	fmt.Fprintln(w)
	rows = [][]string{{"field", "type", "stored", "distinct", "missing", "values", "most frequent, or the range"}}
	for _, f := range r.Fields {
		rows = append(rows, fieldRow(f))
	}
	for _, l := range columns("lllrrrl", rows) {
		fmt.Fprintln(w, l)
	}
	if len(r.Suggested) > 0 {
		fmt.Fprintln(w, "\nThe job lists no fields. Every column but the label was taken as one:\nfields:")
		for _, f := range r.Suggested {
			fmt.Fprintf(w, "  - {name: %s}\n", f.Name)
		}
	}
}

func fieldRow(f dataset.FieldReport) []string {
	distinct := grouped(f.Distinct)
	if !f.DistinctExact {
		distinct = "~" + distinct
	}
	return []string{f.Name, f.Type, f.Stored, distinct, fmt.Sprintf("%.4f", f.Missing), fmt.Sprintf("%.1f", f.ValuesPerRow), fieldValues(f)}
}

// fieldValues shows the range of a numeric field, the most frequent values of
// another.
func fieldValues(f dataset.FieldReport) string {
	if f.Min != nil && f.Max != nil && f.Mean != nil {
		return fmt.Sprintf("%.4g to %.4g, mean %.4g", *f.Min, *f.Max, *f.Mean)
	}
	var top []string
	for _, v := range f.Top[:min(topShown, len(f.Top))] {
		top = append(top, fmt.Sprintf("%s (%s)", clip(v.Value, 20), grouped(v.Count)))
	}
	return strings.Join(top, ", ")
}
