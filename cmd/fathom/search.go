package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fathom-train/fathom/coordinator/search"
)

func (a *app) newSearch() *cobra.Command {
	cmd := &cobra.Command{Use: "search", Short: "Look at the outcome of a dimension search", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }}
	cmd.AddCommand(&cobra.Command{
		Use:   "explain RESULT.json",
		Short: "Say why every field got its width",
		Long: `Say why every field got its width.

RESULT.json is what fathom run wrote. For every field: its rows and those that
are kept, the width found, how many dimensions its rows use in the supernet (the
effective rank: e to the power of the entropy of its spectrum), and what the
validation AUC loses and the log loss gains when only this field is narrowed, as
far as the search has scored that. For generated data also the width
in the hidden model (planted), and how well the widths found agree with it.`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return a.explainSearch(args[0]) },
	})
	return cmd
}

func (a *app) explainSearch(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return inputError{fmt.Errorf("read the result: %w", err)}
	}
	var r result
	if err := json.Unmarshal(text, &r); err != nil {
		return inputError{fmt.Errorf("read the result %s: %w", path, err)}
	}
	if r.Search == nil || r.Search.Best == nil {
		return inputError{fmt.Errorf("%s is the result of a job without a search", path)}
	}
	for _, l := range explainLines(r.Search) {
		fmt.Fprintln(a.out, l)
	}
	return nil
}

// searchLines is the search's part of the summary: the widths and their size.
func searchLines(r *search.Report) []string {
	if r == nil || r.Best == nil {
		return nil
	}
	rows := [][]string{{"field", "rows", "kept", "width"}}
	for _, f := range r.Fields {
		rows = append(rows, []string{f.Name, grouped(uint64(f.Rows)), grouped(uint64(f.Kept)), fmt.Sprintf("%d of %d", f.Width, f.Full)})
	}
	lines := columns("lrrr", rows)
	share := 100 * float64(r.Best.Parameters) / float64(max(1, r.FullParameters))
	lines = append(lines, fmt.Sprintf("%s of %s embedding weights (%.1f %%), %d candidates scored, %d of them on a part only", grouped(uint64(r.Best.Parameters)),
		grouped(uint64(r.FullParameters)), share, r.Scored, r.Screened))
	if super, search := r.CPUSeconds["supernet"], r.CPUSeconds["search"]; super > 0 && search > 0 {
		lines = append(lines, fmt.Sprintf("search %.1f CPU-seconds, %.2f of the supernet's; %.1f candidates per CPU-second, %.2f blocks pulled per candidate",
			search, search/super, float64(r.Scored)/search, float64(r.Passes)/float64(max(1, r.Scored))))
	}
	return append(lines, "")
}

// explainLines is a table of the fields.
func explainLines(r *search.Report) []string {
	rows := [][]string{{"field", "rows", "kept", "width", "planted", "rank", "AUC lost (log loss gained) when only this field is narrowed, in the supernet and in the winner"}}
	for f, of := range r.Fields {
		rank := "-"
		if of.EffectiveRank > 0 {
			rank = fmt.Sprintf("%.1f", of.EffectiveRank)
		}
		planted := "-"
		if of.Planted != nil {
			planted = fmt.Sprint(*of.Planted)
		}
		rows = append(rows, []string{of.Name, grouped(uint64(of.Rows)), grouped(uint64(of.Kept)), fmt.Sprintf("%d of %d", of.Width, of.Full), planted, rank, lost(r, f)})
	}
	lines := columns("lrrrrrl", rows)
	if r.PlantedCorrelation != nil {
		lines = append(lines, "", fmt.Sprintf("rank correlation of the widths found and planted: %.3f", *r.PlantedCorrelation))
	}
	return lines
}

// lost lists what was measured of narrowing one field alone, or of keeping fewer of
// its rows.
func lost(r *search.Report, f int) string {
	super, winner := narrowed(r, r.Largest, f), ""
	if r.Best.Candidate != r.Largest {
		winner = narrowed(r, r.Best.Candidate, f)
	}
	switch {
	case super == "" && winner == "":
		return "not measured: use seed_sensitivity or a tolerance"
	case winner == "":
		return super
	}
	return strings.TrimSpace(super + "  in the winner " + winner)
}

// narrowed lists what a candidate loses when only field f gets less.
func narrowed(r *search.Report, base search.Candidate, f int) string {
	of, ok := trialOf(r, base)
	if !ok {
		return ""
	}
	var all []string
	list := func(at int, what string) {
		for w := base.Width(at) - 1; w >= 0; w-- {
			if s, scored := trialOf(r, base.With(at, w)); scored {
				all = append(all, fmt.Sprintf("%s%d to %d: %.5f (%.5f)", what, base.Width(at), w, search.Lost(of, s), search.LogLossGained(of, s)))
			}
		}
	}
	list(f, "")
	if at := len(r.Fields) + f; at < base.Fields() {
		list(at, "rows at level ")
	}
	return strings.Join(all, "  ")
}

func trialOf(r *search.Report, c search.Candidate) (search.Trial, bool) {
	for _, t := range r.Trials {
		if t.Candidate == c {
			return t, true
		}
	}
	return search.Trial{}, false
}
