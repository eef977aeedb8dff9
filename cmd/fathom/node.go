package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
)

func (a *app) newNode() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "node",
		Short: "Empty a parameter server before it is taken away, or use it again",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.newDrain(false), a.newDrain(true))
	return cmd
}

// newDrain is drain, or undrain if undo.
func (a *app) newDrain(undo bool) *cobra.Command {
	var (
		f    controlFlags
		wait bool
	)
	cmd := &cobra.Command{
		Use:   "drain NAME",
		Short: "Move all replicas off a parameter server while training goes on",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withControl(&f, func(c control) error {
				n, err := c.Drain(cmd.Context(), args[0], undo)
				for wait && err == nil && n.GetReplicas() > 0 {
					fmt.Fprintf(a.err, "%s holds %d replicas\n", args[0], n.GetReplicas())
					if err = pause(cmd.Context(), time.Second); err == nil {
						n, err = c.Drain(cmd.Context(), args[0], undo)
					}
				}
				if err != nil {
					return err
				}
				if f.output == outputJSON {
					return writeJSON(a.out, toNodeJSON(n))
				}
				switch {
				case undo:
					fmt.Fprintf(a.out, "%s may hold replicas again\n", args[0])
				case n.GetReplicas() == 0:
					fmt.Fprintf(a.out, "%s holds no replicas\n", args[0])
				default:
					fmt.Fprintf(a.out, "%s is being drained of %d replicas; fathom nodes shows how many are left\n", args[0], n.GetReplicas())
				}
				return nil
			})
		},
	}
	if undo {
		cmd.Use, cmd.Short = "undrain NAME", "Let a drained parameter server hold replicas again"
	} else {
		cmd.Flags().BoolVar(&wait, "wait", false, "return only when it holds none")
	}
	f.add(cmd)
	return cmd
}

// pause waits, or returns why it must not.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
