package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/fathom-train/fathom/deploy/launch"
)

// await shows the pods until they are ready and, if that is wanted, the job until
// it has ended.
func (a *app) await(ctx context.Context, c *launch.Cluster, j *job.Job, f *launchFlags) error {
	name := j.Metadata.Name
	t := newPodTable(a.err, a.now)
	var last launch.State
	show := func(s launch.State) { last = s; t.show(s) }
	err := c.WaitReady(ctx, name, f.timeout, show)
	t.close()
	switch {
	case err != nil || f.wait == waitReady:
		return err
	case last.Suspended:
		fmt.Fprintf(a.err, "job %s is suspended; fathom resume goes on\n", name)
		return nil
	}
	var done *result
	err = a.reach(ctx, c, name, func(control control) error {
		done, err = a.followLaunched(ctx, c, control, j)
		return err
	})
	// Who may not read the admin's secret, or not reach pods, still sees how they are.
	if errors.Is(err, launch.ErrRefused) || rpcStatus(err).Code() == codes.Unavailable {
		fmt.Fprintf(a.err, "no progress is shown: %v\n", err)
		return c.WaitDone(ctx, name, show)
	}
	if err != nil {
		return err
	}
	return a.printResult(outputText, done)
}

// followLaunched shows the job's progress to its end. Workers that fail end it,
// too: the coordinator would wait for others.
func (a *app) followLaunched(ctx context.Context, c *launch.Cluster, control control, j *job.Job) (*result, error) {
	name := j.Metadata.Name
	watch, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		if err := c.WaitDone(watch, name, func(launch.State) {}); err != nil {
			cancel(err)
		}
	}()
	if err := waitSubmitted(watch, control, name); err != nil {
		return nil, err
	}
	s, err := control.Status(watch, name)
	if err != nil {
		return nil, err
	}
	if s.GetSpecDigest() != j.Digest() {
		// It was deleted, its volumes stayed, and so it goes on as the job it was.
		if err := otherJob(s.GetSpec(), j); err != nil {
			return nil, err
		}
	}
	p := newProgress(a.err, outputText, a.now)
	s, err = follow(watch, control, name, p)
	p.close()
	var failure *launch.Failure
	if cause := context.Cause(watch); errors.As(cause, &failure) && ctx.Err() == nil && s == nil {
		return nil, cause
	}
	if err != nil {
		return nil, err
	}
	return newResult(s)
}

// submitPatience is how long the coordinator that was elected may take to submit
// the job.
const submitPatience = time.Minute

// waitSubmitted waits until the coordinator knows the job.
func waitSubmitted(ctx context.Context, c control, name string) error {
	limit, cancel := context.WithTimeout(ctx, submitPatience)
	defer cancel()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		_, err := c.Status(limit, name)
		if rpcStatus(err).Code() != codes.NotFound {
			return err
		}
		select {
		case <-tick.C:
		case <-limit.Done():
			return err
		}
	}
}

// podTable shows how the pods of a job are: in place on a terminal, otherwise a
// line whenever something has changed.
type podTable struct {
	w     io.Writer
	now   func() time.Time
	width func() int // nil: no terminal
	drawn int
	last  string
}

func newPodTable(w io.Writer, now func() time.Time) *podTable {
	t := &podTable{w: w, now: now}
	if width, ok := terminalWidth(w); ok {
		t.width = width
	}
	return t
}

func (t *podTable) show(s launch.State) {
	if t.width == nil {
		var parts []string
		for _, c := range s.Components {
			part := fmt.Sprintf("%s %d/%d", c.Label(), c.Ready, c.Want)
			if c.Text != "ready" && c.Text != "starting" {
				part += " " + c.Text
			}
			parts = append(parts, part)
		}
		if line := strings.Join(parts, ", "); line != t.last {
			fmt.Fprintf(t.w, "%s %s\n", t.now().Format(time.TimeOnly), line)
			t.last = line
		}
		return
	}
	if t.drawn > 0 {
		fmt.Fprintf(t.w, "\x1b[%dA\r\x1b[J", t.drawn)
	}
	lines := podLines(s)
	for _, l := range lines {
		fmt.Fprintln(t.w, clip(l, t.width()))
	}
	t.drawn = len(lines)
}

// close leaves what is shown on the screen.
func (t *podTable) close() { t.drawn = 0 }

// podLines is the table of the components.
func podLines(s launch.State) []string {
	rows := [][]string{{"component", "ready", "state"}}
	for _, c := range s.Components {
		rows = append(rows, []string{c.Label(), fmt.Sprintf("%d/%d", c.Ready, c.Want), c.Text})
	}
	return columns("lrl", rows)
}
