package main

import "github.com/spf13/cobra"

func (a *app) newCancel() *cobra.Command {
	var f controlFlags
	cmd := &cobra.Command{
		Use:   "cancel JOB",
		Short: "End a job",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			f.cluster.prefer(args[0])
			return a.withControl(&f, func(c control) error {
				s, err := c.Cancel(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				return a.printStatus(f.output, s)
			})
		},
	}
	f.add(cmd)
	return cmd
}
