package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/fathom-train/fathom/coordinator/job"
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
				for _, one := range j.PerSeed() {
					if err := a.submit(cmd.Context(), c, one, f.output); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
	f.add(cmd)
	addSets(cmd, &sets)
	return cmd
}

// submit hands over one job and prints its name.
func (a *app) submit(ctx context.Context, c control, j *job.Job, o output) error {
	name, err := c.Submit(ctx, j.JSON())
	if err != nil {
		return err
	}
	if o == outputJSON {
		return writeJSON(a.out, map[string]string{"job": name})
	}
	_, err = fmt.Fprintln(a.out, name)
	return err
}

func addSets(cmd *cobra.Command, sets *[]string) {
	cmd.Flags().StringArrayVar(sets, "set", nil, "replace a value of the job, such as spec.train.epochs=2 (repeatable)")
}
