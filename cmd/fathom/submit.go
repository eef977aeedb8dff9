package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func (a *app) newSubmit() *cobra.Command {
	var (
		f    controlFlags
		sets []string
	)
	cmd := &cobra.Command{
		Use:   "submit JOB.yaml",
		Short: "Hand a job to a running cluster and print its name",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			j, err := a.loadJob(args[0], sets)
			if err != nil {
				return err
			}
			return a.withControl(&f, func(c control) error {
				name, err := c.Submit(cmd.Context(), j.JSON())
				if err != nil {
					return err
				}
				if f.output == outputJSON {
					return writeJSON(a.out, map[string]string{"job": name})
				}
				_, err = fmt.Fprintln(a.out, name)
				return err
			})
		},
	}
	f.add(cmd)
	addSets(cmd, &sets)
	return cmd
}

func addSets(cmd *cobra.Command, sets *[]string) {
	cmd.Flags().StringArrayVar(sets, "set", nil, "replace a value of the job, such as spec.train.epochs=2 (repeatable)")
}
