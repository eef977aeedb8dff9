package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/fathom-train/fathom/coordinator/client"
	"github.com/fathom-train/fathom/proto"
)

func (a *app) newWatch() *cobra.Command {
	var f controlFlags
	cmd := &cobra.Command{
		Use:   "watch [JOB]",
		Short: "Follow a job until it has ended (the newest when none is named)",
		Long: `Follow a job until it has ended (the newest when none is named).

The exit code is the job's: 0 done, 64 when the job or its data is at fault,
1 when it failed or was cancelled. With -o json progress goes to standard error,
one JSON object per line, and the result to standard output.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			f.cluster.prefer(optional(args))
			return a.withControl(&f, func(c control) error {
				p := newProgress(a.err, f.output, a.now)
				s, err := follow(cmd.Context(), c, optional(args), p)
				p.close()
				if err != nil {
					return err
				}
				r, err := newResult(s)
				if err != nil {
					return err
				}
				return a.printResult(f.output, r)
			})
		},
	}
	f.add(cmd)
	return cmd
}

// follow shows the job's progress until it is done and returns its last status.
// A job that ends in another way is an error.
func follow(ctx context.Context, c control, name string, p progress) (*proto.JobStatus, error) {
	var last *proto.JobStatus
	err := c.Watch(ctx, name, func(s *proto.JobStatus) error {
		last = s
		p.status(s)
		return nil
	})
	switch {
	case err != nil:
		return nil, err
	case last == nil || !client.Ended(last.GetPhase()):
		return nil, fmt.Errorf("watch job %s: the coordinator stopped telling before the job had ended", name)
	}
	return last, outcome(last)
}

// outcome is the error of a job that ended, nil when it is done.
func outcome(s *proto.JobStatus) error {
	switch s.GetPhase() {
	case proto.Phase_PHASE_DONE:
		return nil
	case proto.Phase_PHASE_CANCELLED:
		return fmt.Errorf("job %s was cancelled", s.GetJob())
	}
	text := s.GetError()
	if text == "" {
		text = "no reason given"
	}
	err := errors.New("job " + s.GetJob() + " failed: " + text)
	if s.GetErrorIsInput() {
		return inputError{err}
	}
	return err
}

// printResult writes a result in the wanted form.
func (a *app) printResult(o output, r shown) error {
	if o == outputJSON {
		return writeJSON(a.out, r)
	}
	fmt.Fprintln(a.out)
	r.writeSummary(a.out)
	return nil
}
