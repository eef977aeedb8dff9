package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fathom-train/fathom/deploy/launch"
	"github.com/fathom-train/fathom/deploy/local"
	"github.com/fathom-train/fathom/proto/identity"
)

// followEvery is how often a followed log file is looked at.
const followEvery = 200 * time.Millisecond

func (a *app) newLogs() *cobra.Command {
	var (
		f       controlFlags
		workdir string
		follow  bool
		last    int
	)
	cmd := &cobra.Command{
		Use:   "logs [ROLE/N | NAME]",
		Short: "Show the log of one process, such as ps/0 or ps-0",
		Long: `Show the log of one process, such as ps/0 or ps-0.

With --workdir the log file of a local run is read, also after the run. Without,
the coordinator is asked where the process is, and the process for its newest
lines (it keeps about one MiB). With --on kubernetes, the logs of all pods of the
job are shown, or of those named (ps, or ps/0), each line after its pod's name.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			name := strings.ReplaceAll(optional(args), "/", "-")
			if on, err := a.inCluster(&f.cluster); err != nil {
				return err
			} else if on {
				return a.podLogs(cmd.Context(), &f.cluster, name, launch.LogOptions{Follow: follow, Tail: last})
			}
			if name == "" {
				return inputError{errors.New("whose log? Name a process, such as ps/0; fathom nodes lists them")}
			}
			if workdir != "" {
				return fileLog(cmd.Context(), a.out, local.LogFile(workdir, name), follow)
			}
			return a.withIdentity(&f, func(c control, self *identity.Source) error {
				return nodeLog(cmd.Context(), a.out, c, self, name, follow)
			})
		},
	}
	f.addTarget(cmd)
	cmd.Flags().StringVar(&workdir, "workdir", "", "directory of a local run")
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with new lines until interrupted")
	cmd.Flags().IntVar(&last, "tail", 0, "with --on kubernetes: only so many of the last lines of each pod (default all)")
	return cmd
}

// fileLog copies a log file, and with follow also what is added to it until
// ctx ends.
func fileLog(ctx context.Context, w io.Writer, path string, follow bool) error {
	f, err := os.Open(path)
	if err != nil {
		return inputError{fmt.Errorf("open log: %w", err)}
	}
	defer f.Close() // read only
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	for {
		if _, err := io.Copy(w, f); err != nil {
			return fmt.Errorf("read log: %w", err)
		}
		if !follow {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// nodeLog copies the log that the node itself serves.
func nodeLog(ctx context.Context, w io.Writer, c control, self *identity.Source, name string, follow bool) (err error) {
	nodes, err := c.Nodes(ctx)
	if err != nil {
		return err
	}
	address := ""
	var names []string
	for _, n := range nodes {
		names = append(names, n.GetNode())
		if n.GetNode() == name {
			address = n.GetMetricsAddress()
		}
	}
	if address == "" {
		return inputError{fmt.Errorf("no node %s that serves its log; the nodes are: %s", name, strings.Join(names, ", "))}
	}
	client, scheme := self.HTTP()
	u := url.URL{Scheme: scheme, Host: address, Path: "/logs"}
	if follow {
		u.RawQuery = "follow=1"
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return fmt.Errorf("log of %s: %w", name, err)
	}
	reply, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("log of %s: %w", name, err)
	}
	defer func() { err = errors.Join(err, reply.Body.Close()) }()
	if reply.StatusCode != http.StatusOK {
		return fmt.Errorf("log of %s: %s answers %s", name, address, reply.Status)
	}
	if _, err := io.Copy(w, reply.Body); err != nil {
		return fmt.Errorf("log of %s: %w", name, err)
	}
	return nil
}
