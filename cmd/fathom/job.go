package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/fathom-train/fathom/coordinator/job"
)

func (a *app) newJob() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "job",
		Short: "Check and explain job files, without running anything",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.newJobValidate(), a.newJobExplain(), a.newJobSchema())
	return cmd
}

func (a *app) newJobValidate() *cobra.Command {
	var (
		sets []string
		o    output
	)
	cmd := &cobra.Command{
		Use:   "validate JOB.yaml",
		Short: "Check a job file and print its digest",
		Long: `Check a job file and print its digest: two jobs with the same digest and the
same data train the same model. Every fault is one line with its place in the
file.`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			j, err := a.loadJob(args[0], sets)
			if err != nil {
				return err
			}
			if o == outputJSON {
				return writeJSON(a.out, map[string]string{"job": j.Metadata.Name, "spec_digest": j.Digest()})
			}
			_, err = fmt.Fprintf(a.out, "%s: job %s is valid, digest %s\n", args[0], j.Metadata.Name, j.Digest())
			return err
		},
	}
	addSets(cmd, &sets)
	o.add(cmd)
	return cmd
}

func (a *app) newJobExplain() *cobra.Command {
	var (
		sets []string
		rows int64
	)
	cmd := &cobra.Command{
		Use:   "explain JOB.yaml",
		Short: "Print a job with all defaults, and what it comes to: steps, parameters, memory",
		Args:  cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			if rows < 0 {
				return inputError{fmt.Errorf("--train-rows %d: must not be negative", rows)}
			}
			j, given, err := a.loadGiven(args[0], sets)
			if err != nil {
				return err
			}
			return j.Explain(a.out, given, rows)
		},
	}
	addSets(cmd, &sets)
	cmd.Flags().Int64Var(&rows, "train-rows", 0, "rows of the train split, when known (synthetic data tell it themselves)")
	return cmd
}

func (a *app) newJobSchema() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of job files, for editors",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := a.out.Write(job.JSONSchema())
			return err
		},
	}
}
