package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/fathom-train/fathom/proto"
)

func (a *app) newList() *cobra.Command {
	var f controlFlags
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the jobs, the newest first",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withControl(&f, func(c control) error {
				jobs, err := c.List(cmd.Context())
				if err != nil {
					return err
				}
				if f.output == outputJSON {
					all := []jobJSON{}
					for _, s := range jobs {
						all = append(all, newJobJSON(s))
					}
					return writeJSON(a.out, all)
				}
				rows := [][]string{{"job", "phase", "step", "valid auc", "age"}}
				for _, s := range jobs {
					rows = append(rows, a.listRow(s))
				}
				for _, l := range columns("llrrr", rows) {
					fmt.Fprintln(a.out, l)
				}
				return nil
			})
		},
	}
	f.add(cmd)
	return cmd
}

func (a *app) listRow(s *proto.JobStatus) []string {
	auc := "-"
	if v := latestScore(s, "valid"); v != nil {
		auc = fmt.Sprintf("%.4f", v.GetAuc())
	}
	age := a.now().Sub(time.Unix(0, s.GetCreatedUnixNano())).Seconds()
	return []string{s.GetJob(), phaseName(s.GetPhase()), fmt.Sprintf("%s/%s", grouped(s.GetStep()), grouped(s.GetSteps())), auc, seconds(age)}
}
