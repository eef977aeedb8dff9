package launch

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync"
)

// LogOptions say what of a log is wanted.
type LogOptions struct {
	// Follow goes on with new lines.
	Follow bool
	// Tail is how many of the last lines are wanted; 0: all.
	Tail int
	// Previous asks for the log of the container that ran before.
	Previous bool
}

func (c *Cluster) log(ctx context.Context, pod string, o LogOptions) (io.ReadCloser, error) {
	r := c.raw.Get().AbsPath("/api/v1/namespaces", c.namespace, "pods", pod, "log").Param("container", "fathom")
	if o.Follow {
		r.Param("follow", "true")
	}
	if o.Tail > 0 {
		r.Param("tailLines", strconv.Itoa(o.Tail))
	}
	if o.Previous {
		r.Param("previous", "true")
	}
	stream, err := r.Stream(ctx)
	if err != nil {
		return nil, c.explain("log of pod "+pod, err)
	}
	return stream, nil
}

// logLineMax bounds a line of a log; a longer one comes in pieces.
const logLineMax = 64 << 10

// Logs writes the logs of the job's pods, or of those that only names, such as ps
// or ps-0, each line after the pod's name. With Follow it
// goes on with lines and pods that come, until ctx ends.
func (c *Cluster) Logs(ctx context.Context, w io.Writer, job, only string, o LogOptions) error {
	var (
		mu    sync.Mutex // keeps lines whole
		wait  sync.WaitGroup
		errs  []error
		known = map[string]bool{} // by UID and restarts: a new one has a new log
	)
	copyLog := func(name string) {
		err := c.copyLog(ctx, w, &mu, name, o)
		if err != nil && ctx.Err() == nil {
			mu.Lock()
			defer mu.Unlock()
			if errs = append(errs, err); o.Follow {
				fmt.Fprintf(w, "[%s] %v\n", name, err)
			}
		}
	}
	look := func() (done bool, err error) {
		all, err := list[pod](ctx, c, pods, job)
		if err != nil {
			if o.Follow && len(known) > 0 && errors.Is(err, ErrUnreachable) {
				return false, nil
			}
			return false, err
		}
		for _, p := range all {
			name := p.Metadata.Name
			if !isOf(strings.TrimPrefix(name, job+"-"), only) || !p.hasLog() || known[p.life()] {
				continue
			}
			known[p.life()] = true
			if o.Follow {
				wait.Go(func() { copyLog(name) })
			} else {
				copyLog(name)
			}
		}
		if len(known) == 0 && !o.Follow {
			return false, fmt.Errorf("%w: job %s has no pod %s with a log in namespace %s", ErrRefused, job, only, c.namespace)
		}
		return !o.Follow, nil
	}
	err := every(ctx, c.look, look)
	wait.Wait()
	if o.Follow {
		return err
	}
	return errors.Join(append(errs, err)...)
}

// isOf tells whether a pod, without the job's name before it, is the one or one
// of those that are meant: ps-0 is of ps, and of ps-0.
func isOf(pod, only string) bool {
	return only == "" || pod == only || strings.HasPrefix(pod, only+"-")
}

func (p *pod) hasLog() bool {
	for _, s := range p.Status.Containers {
		if s.State.Waiting == nil {
			return true
		}
	}
	return false
}

// life names one life of a pod's container.
func (p *pod) life() string {
	n := int64(0)
	for _, s := range p.Status.Containers {
		n += s.RestartCount
	}
	return p.Metadata.UID + "/" + strconv.FormatInt(n, 10)
}

func (c *Cluster) copyLog(ctx context.Context, w io.Writer, mu *sync.Mutex, name string, o LogOptions) error {
	r, err := c.log(ctx, name, o)
	if err != nil {
		return err
	}
	defer r.Close() // read only
	lines := bufio.NewReaderSize(r, logLineMax)
	for {
		line, _, err := lines.ReadLine()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("log of pod %s: %w", name, err)
		}
		mu.Lock()
		_, err = fmt.Fprintf(w, "[%s] %s\n", name, line)
		mu.Unlock()
		if err != nil {
			return err
		}
	}
}
