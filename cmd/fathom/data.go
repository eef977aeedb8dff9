package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/fathom-train/fathom/worker/dataset"
)

func (a *app) newData() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "data",
		Short: "Look at training data, or generate some",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.newDataInspect(), a.newDataSynth())
	return cmd
}

func (a *app) newDataInspect() *cobra.Command {
	var (
		sets []string
		o    output
		log  logLevel
	)
	cmd := &cobra.Command{
		Use:   "inspect JOB.yaml",
		Short: "Read a job's data and describe splits and fields",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			j, err := a.loadJob(args[0], sets)
			if err != nil {
				return err
			}
			report, err := dataset.Inspect(cmd.Context(), j.Spec.Data, newLogger(a.err, log.level))
			if err != nil {
				return fmt.Errorf("inspect the data of %s: %w", args[0], err)
			}
			if o == outputJSON {
				return writeJSON(a.out, report)
			}
			writeDataReport(a.out, report)
			return nil
		},
	}
	addSets(cmd, &sets)
	o.add(cmd)
	log.add(cmd)
	return cmd
}

func (a *app) newDataSynth() *cobra.Command {
	var (
		s      job.Synthetic
		format string
	)
	cmd := &cobra.Command{
		Use:   "synth DIR",
		Short: "Write generated data as files, with the data part of a job that reads them",
		Long: `Write generated data as files, with the data part of a job that reads them.

The fields look like those of an advertising log: counters and identifiers with
Zipf frequencies. The labels come from a hidden teacher, so the best reachable
AUC is known. The same flags give the same bytes.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := dataset.WriteSynthetic(cmd.Context(), args[0], s, format); err != nil {
				return fmt.Errorf("write synthetic data: %w", err)
			}
			_, err := fmt.Fprintf(a.out, "%s: train, valid and test as %s, and data.yaml for a job\n", args[0], format)
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&format, "format", "csv", "csv, parquet or arrow")
	f.Int64Var(&s.TrainRows, "train-rows", 100_000, "rows of the train split")
	f.Int64Var(&s.ValidRows, "valid-rows", 10_000, "rows of the valid split")
	f.Int64Var(&s.TestRows, "test-rows", 10_000, "rows of the test split")
	f.IntVar(&s.Numeric, "numeric", 13, "numeric fields")
	f.IntVar(&s.Categorical, "categorical", 26, "categorical fields")
	f.Int64Var(&s.Vocabulary, "vocabulary", 100_000, "ids of the largest field")
	f.Float64Var(&s.Zipf, "zipf", 1.1, "exponent of the id frequencies")
	f.IntVar(&s.TeacherDim, "teacher-dim", 8, "largest embedding width of the teacher")
	f.Uint64Var(&s.Seed, "seed", 1, "seed of everything")
	return cmd
}
