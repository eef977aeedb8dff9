package launch

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// Failure is why a wait ended without what was waited for.
type Failure struct {
	// Text says what is wrong, with the events and the last log lines of the pods
	// that are at fault.
	Text string
	// Input: the job or its data is at fault; the same again will not help.
	Input bool
	// Timeout: nothing is known to be wrong but the time.
	Timeout bool
}

func (f *Failure) Error() string { return f.Text }

// WaitReady returns when all pods are ready, or says why they will not be.
func (c *Cluster) WaitReady(ctx context.Context, job string, timeout time.Duration, show func(State)) error {
	return c.wait(ctx, job, timeout, show, func(s State) bool { return s.Ready || s.Done })
}

// WaitDone returns when the workers have ended with the job.
func (c *Cluster) WaitDone(ctx context.Context, job string, show func(State)) error {
	return c.wait(ctx, job, 0, show, func(s State) bool { return s.Done })
}

var errTimeout = errors.New("timed out")

// wait looks until what is waited for is there. A timeout of 0 is none.
func (c *Cluster) wait(ctx context.Context, job string, timeout time.Duration, show func(State), until func(State) bool) error {
	limited, cancel := ctx, context.CancelFunc(func() {})
	if timeout > 0 {
		limited, cancel = context.WithTimeoutCause(ctx, timeout, errTimeout)
	}
	defer cancel()
	var last State
	err := every(limited, c.look, func() (bool, error) {
		s, err := c.State(limited, job)
		switch {
		case errors.Is(err, ErrUnreachable), limited.Err() != nil:
			return false, nil // it may come back; the time decides
		case err != nil:
			return false, err
		}
		last = s
		show(s)
		if until(s) {
			return true, nil
		}
		return false, c.failure(ctx, s)
	})
	if !errors.Is(err, errTimeout) || ctx.Err() != nil {
		return err
	}
	f := &Failure{Timeout: true, Text: fmt.Sprintf("job %s is not ready after %s", job, timeout)}
	for _, p := range last.pods {
		if !p.ready() && p.Status.Phase != "Succeeded" && strings.Count(f.Text, "\npod ") < explained {
			f.Text += "\n" + c.why(ctx, p)
		}
	}
	for _, component := range last.Components {
		f.Text += fmt.Sprintf("\n%s: %d of %d pods are ready", component.Label(), component.Ready, component.Want)
	}
	if len(last.pods) == 0 {
		f.Text += "\nthere are no pods yet" + c.eventsText(ctx, job, "")
	}
	return f
}

// explained is of how many pods the reasons are told.
const explained = 3

// failure says why it is no use to wait; nil when it may be of use.
func (c *Cluster) failure(ctx context.Context, s State) error {
	if s.Failed != "" {
		f := &Failure{Input: s.Input, Text: "the workers have failed: " + s.Failed}
		for _, p := range s.pods {
			if p.component() == "worker" && p.Status.Phase == "Failed" {
				f.Text += "\n" + c.why(ctx, p)
				break
			}
		}
		return f
	}
	var texts []string
	for _, p := range s.pods {
		if _, hopeless := p.trouble(); hopeless && len(texts) < explained {
			texts = append(texts, c.why(ctx, p))
		}
	}
	if len(texts) == 0 {
		return nil
	}
	return &Failure{Text: strings.Join(texts, "\n")}
}

// What is told of a pod: events, and lines of its log.
const (
	whyEvents = 5
	whyLines  = 20
)

// why tells all there is about a pod that is not ready.
func (c *Cluster) why(ctx context.Context, p pod) string {
	name := p.Metadata.Name
	reason, _ := p.trouble()
	if reason == "" {
		reason = "is not ready yet"
	}
	text := fmt.Sprintf("pod %s: %s", name, reason)
	for _, s := range p.Status.Containers {
		if t := s.LastState.Terminated; t != nil && t.Message != "" {
			text += "\n  it said: " + strings.TrimSpace(lastLine(t.Message))
		}
	}
	text += c.eventsText(ctx, "", name)
	lines, from, err := c.lastLines(ctx, p)
	switch {
	case err != nil:
		text += fmt.Sprintf("\n  its log cannot be read: %v", err)
	case len(lines) > 0:
		text += fmt.Sprintf("\n  the last lines of its %slog:\n    %s", from, strings.Join(lines, "\n    "))
	}
	return text
}

func lastLine(s string) string {
	s = strings.TrimSpace(s)
	return s[strings.LastIndex(s, "\n")+1:]
}

// eventsText tells the newest events of a pod, or of a whole job.
func (c *Cluster) eventsText(ctx context.Context, job, pod string) string {
	all, err := c.events(ctx, func(e Event) bool {
		return pod == "" && concerns(e, job) || pod != "" && e.Object == "pod/"+pod
	})
	if err != nil {
		return fmt.Sprintf("\n  its events cannot be read: %v", err)
	}
	text := ""
	for _, e := range all[max(0, len(all)-whyEvents):] {
		text += fmt.Sprintf("\n  event %s %s: %s", e.Type, e.Reason, e.Message)
		if e.Count > 1 {
			text += fmt.Sprintf(" (%d times)", e.Count)
		}
	}
	return text
}

// lastLines returns the end of the log of a pod's container: of the one before
// if that has died and the next has not begun.
func (c *Cluster) lastLines(ctx context.Context, p pod) (lines []string, from string, err error) {
	var o LogOptions
	started := p.Status.Phase == "Failed" || p.Status.Phase == "Succeeded"
	for _, s := range p.Status.Containers {
		started = started || s.State.Waiting == nil || s.RestartCount > 0
		o.Previous = s.RestartCount > 0 && s.State.Waiting != nil
	}
	if !started {
		return nil, "", nil // it has never run
	}
	if o.Previous {
		from = "last "
	}
	o.Tail = whyLines
	r, err := c.log(ctx, p.Metadata.Name, o)
	if err != nil {
		return nil, "", err
	}
	defer r.Close() // read only
	scan := bufio.NewScanner(io.LimitReader(r, 1<<20))
	for scan.Scan() {
		lines = append(lines, scan.Text())
	}
	return lines, from, scan.Err()
}
