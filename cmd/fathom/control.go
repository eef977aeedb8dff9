package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	"github.com/fathom-train/fathom/coordinator/client"
	"github.com/fathom-train/fathom/deploy/launch"
	"github.com/fathom-train/fathom/proto"
	"github.com/fathom-train/fathom/proto/identity"
)

// control is what the commands ask of a coordinator; *client.Control. Its errors
// say what was asked.
type control interface {
	Submit(ctx context.Context, spec []byte) (string, error)
	Restore(ctx context.Context, spec []byte, location string) (string, error)
	Checkpoint(ctx context.Context, job string) (*proto.CheckpointInfo, error)
	Groups(ctx context.Context, job string) (*proto.GroupsReply, error)
	List(ctx context.Context) ([]*proto.JobStatus, error)
	Status(ctx context.Context, job string) (*proto.JobStatus, error)
	Watch(ctx context.Context, job string, f func(*proto.JobStatus) error) error
	Cancel(ctx context.Context, job string) (*proto.JobStatus, error)
	Nodes(ctx context.Context) ([]*proto.NodeStatus, error)
	Drain(ctx context.Context, node string, undo bool) (*proto.NodeStatus, error)
	Close() error
}

func dialControl(addrs []string, self *identity.Source, options ...grpc.DialOption) (control, error) {
	c, err := client.Dial(addrs, append(options, grpc.WithTransportCredentials(self.Dialer(identity.Coordinator)))...)
	if err != nil {
		return nil, err
	}
	return c, nil
}

// coordinatorEnv is the default of --coordinator.
const coordinatorEnv = "FATHOM_COORDINATOR"

// controlFlags are the flags of the commands that talk to a coordinator.
type controlFlags struct {
	coordinators []string
	security     securityFlags
	output       output
	cluster      clusterFlags
}

func (f *controlFlags) add(cmd *cobra.Command) {
	f.addTarget(cmd)
	f.output.add(cmd)
}

// addTarget is add without the output format.
func (f *controlFlags) addTarget(cmd *cobra.Command) {
	cmd.Flags().StringSliceVar(&f.coordinators, "coordinator", nil,
		"addresses of the coordinators (default $"+coordinatorEnv+")")
	f.security.add(cmd)
	f.cluster.add(cmd)
}

// withControl dials the coordinators, calls f, and hangs up.
func (a *app) withControl(f *controlFlags, do func(control) error) (err error) {
	if on, err := a.inCluster(&f.cluster); err != nil {
		return err
	} else if on {
		return a.withLaunched(a.interrupts.ctx, &f.cluster, func(c control, _ *launch.Cluster, _ string) error { return do(c) })
	}
	return a.withIdentity(f, func(c control, _ *identity.Source) error { return do(c) })
}

// withIdentity is withControl for commands that dial nodes, too.
func (a *app) withIdentity(f *controlFlags, do func(control, *identity.Source) error) (err error) {
	if on, err := a.inCluster(&f.cluster); err != nil || on {
		return errors.Join(err, inputError{errors.New("this command talks to the servers themselves, which only works inside the Kubernetes cluster")})
	}
	addrs := f.coordinators
	if len(addrs) == 0 {
		if env := os.Getenv(coordinatorEnv); env != "" {
			addrs = strings.Split(env, ",")
		}
	}
	if len(addrs) == 0 {
		return inputError{fmt.Errorf("no coordinator: give --coordinator HOST:PORT or set %s", coordinatorEnv)}
	}
	self, err := f.security.load(slog.New(slog.DiscardHandler), addrs...)
	if err != nil {
		return err
	}
	c, err := a.dial(addrs, self)
	if err != nil {
		return fmt.Errorf("dial coordinator: %w", err)
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	return do(c, self)
}

// output is the -o flag: text for people, json for programs.
type output string

const (
	outputText output = "text"
	outputJSON output = "json"
)

func (o *output) add(cmd *cobra.Command) {
	*o = outputText
	cmd.Flags().VarP(o, "output", "o", "output format: text or json")
}

// String, Set and Type make output a pflag.Value.
func (o *output) String() string { return string(*o) }

// Set accepts text and json.
func (o *output) Set(s string) error {
	switch output(s) {
	case outputText, outputJSON:
		*o = output(s)
		return nil
	}
	return errors.New("want text or json")
}

// Type is the flag's placeholder in the help.
func (o *output) Type() string { return "format" }

// writeJSON writes v indented, with a line end.
func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
