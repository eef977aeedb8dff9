package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/fathom-train/fathom/coordinator/job"
	"github.com/fathom-train/fathom/deploy/launch"
)

// await shows the pods until they are ready and, if that is wanted, the job until
// it has ended.
func (a *app) await(ctx context.Context, c *launch.Cluster, j *job.Job, f *launchFlags) error {
	name := j.Metadata.Name
	t := newPodTable(a.err, a.now)
	err := c.WaitReady(ctx, name, f.timeout, t.show)
	t.close()
	if err != nil {
		return err
	}
	if f.wait == waitReady {
		return nil
	}
	err = c.WaitDone(ctx, name, t.show)
	t.close()
	return err
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
			part := fmt.Sprintf("%s %d/%d", c.Name, c.Ready, c.Want)
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
		rows = append(rows, []string{c.Name, fmt.Sprintf("%d/%d", c.Ready, c.Want), c.Text})
	}
	return columns("lrl", rows)
}
