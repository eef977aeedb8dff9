package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/resolver"

	"github.com/fathom-train/fathom/deploy/launch"
	"github.com/fathom-train/fathom/proto/identity"
)

// clusterFlags let a command that talks to a coordinator find it in a Kubernetes
// cluster.
type clusterFlags struct {
	kubeFlags
	on  string
	job string
	// hint is the job that the command is about, which is likely the cluster's, too.
	hint string
}

func (f *clusterFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.on, "on", "", "kubernetes: a job that was launched, reached through the cluster's API")
	f.addJob(cmd)
}

// addJob is add for commands that know only Kubernetes.
func (f *clusterFlags) addJob(cmd *cobra.Command) {
	f.kubeFlags.add(cmd)
	cmd.Flags().StringVar(&f.job, "cluster", "", "the job as it was launched (default the only one of the namespace)")
}

// prefer names the job that a command is about.
func (f *clusterFlags) prefer(job string) { f.hint = job }

// isPlugin tells whether the program was called as kubectl fathom.
func isPlugin(program string) bool {
	return strings.TrimSuffix(filepath.Base(program), ".exe") == "kubectl-fathom"
}

// inCluster tells whether a job on Kubernetes is meant.
func (a *app) inCluster(f *clusterFlags) (bool, error) {
	switch {
	case f.on == onKubernetes || f.on == "" && a.plugin:
		return true, nil
	case f.on == "" && (f.job != "" || f.target != launch.Target{}):
		return false, inputError{errors.New("--cluster, --context, --kubeconfig and --namespace go with --on kubernetes")}
	case f.on == "" || f.on == onLocal:
		return false, nil
	}
	return false, inputError{fmt.Errorf("--on %s: want %s or %s", f.on, onKubernetes, onLocal)}
}

// find connects to the cluster and settles which launched job is meant.
func (f *clusterFlags) find(ctx context.Context) (*launch.Cluster, string, error) {
	c, err := f.connect(ctx)
	if err != nil {
		return nil, "", err
	}
	job := f.job
	if job == "" {
		// A cluster may have been given other jobs since.
		all, err := c.Jobs(ctx)
		if err != nil {
			return nil, "", kubeError(err)
		}
		for _, one := range all {
			if one == f.hint {
				job = f.hint
			}
		}
	}
	job, err = c.Find(ctx, job)
	return c, job, kubeError(err)
}

// withLaunched calls do with the coordinators of a launched job.
func (a *app) withLaunched(ctx context.Context, f *clusterFlags, do func(control, *launch.Cluster, string) error) error {
	c, job, err := f.find(ctx)
	if err != nil {
		return err
	}
	return kubeError(a.reach(ctx, c, job, func(control control) error { return do(control, c, job) }))
}

// reach dials the coordinators of a job with the admin's certificate from the
// cluster's secret, through the cluster's API, and calls do.
func (a *app) reach(ctx context.Context, c *launch.Cluster, job string, do func(control) error) (err error) {
	dir, err := os.MkdirTemp("", "fathom-admin-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := c.AdminCredentials(ctx, job, dir); err != nil {
		return err
	}
	self, err := identity.Load(dir, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	addrs, err := c.Coordinators(ctx, job)
	if err != nil {
		return err
	}
	// The names are those of the cluster: certificates carry them, and one
	// coordinator names another by them, but here nobody can look them up.
	control, err := a.dial(addrs, self, grpc.WithResolvers(asGiven{}), grpc.WithContextDialer(func(dial context.Context, addr string) (net.Conn, error) {
		return c.DialAddress(ctx, addr)
	}))
	if err != nil {
		return fmt.Errorf("dial coordinator: %w", err)
	}
	defer func() { err = errors.Join(err, control.Close()) }()
	return do(control)
}

// asGiven hands addresses to the dialer as they are, in the place of DNS.
type asGiven struct{}

// Scheme is that of addresses without one.
func (asGiven) Scheme() string { return "dns" }

// Build tells the only address there is.
func (asGiven) Build(target resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) (resolver.Resolver, error) {
	return asGiven{}, cc.UpdateState(resolver.State{Addresses: []resolver.Address{{Addr: target.Endpoint()}}})
}

// ResolveNow has nothing to look up.
func (asGiven) ResolveNow(resolver.ResolveNowOptions) {}

// Close has nothing to end.
func (asGiven) Close() {}

// launchedStatus shows the pods and the job.
func (a *app) launchedStatus(ctx context.Context, f *controlFlags, job string) error {
	c, name, err := f.cluster.find(ctx)
	if err != nil {
		return err
	}
	state, err := c.State(ctx, name)
	if err != nil {
		return kubeError(err)
	}
	if f.output == outputText {
		for _, l := range podLines(state) {
			fmt.Fprintln(a.out, l)
		}
		fmt.Fprintln(a.out)
	}
	return kubeError(a.reach(ctx, c, name, func(control control) error {
		s, err := control.Status(ctx, job)
		if err != nil {
			return err
		}
		if f.output == outputJSON {
			return writeJSON(a.out, struct {
				jobJSON
				Components []launch.Component `json:"components"`
			}{newJobJSON(s), state.Components})
		}
		return a.printStatus(f.output, s)
	}))
}

// podLogs shows the logs of a launched job's pods.
func (a *app) podLogs(ctx context.Context, f *clusterFlags, only string, o launch.LogOptions) error {
	c, job, err := f.find(ctx)
	if err != nil {
		return err
	}
	return kubeError(c.Logs(ctx, a.out, job, only, o))
}
